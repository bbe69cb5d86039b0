"""Plain keys: what opens, what closes, what is nobody's."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.knocks.plain import MAX_PAYLOAD, PlainKeys
from gatekeeper.model import Action, Datagram, Knock, Refusal
from gatekeeper.settings import Client, Rules

CLIENTS = {
    "laptop": Client(name="laptop", services=("ssh", "web"), open_key=b"open sesame", close_key=b"close_sesame"),
    "desk": Client(name="desk", services=("ssh",), open_key="schlüssel".encode()),
}
PLAIN = PlainKeys(Rules({}, CLIENTS))


def knock(payload: bytes) -> Knock | Refusal | None:
    if not PLAIN.glance(payload, now=0.0):
        return None
    address = ip_address("192.0.2.7")
    return PLAIN.open(Datagram(address, address, 1, 2, payload), now=0.0)


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b"open sesame", Knock(Action.OPEN, "laptop")),
        (b"open sesame\n", Knock(Action.OPEN, "laptop")),
        (b"open sesame\r\n", Knock(Action.OPEN, "laptop")),
        (b"open sesame web", Knock(Action.OPEN, "laptop", ("web",))),
        (b"open sesame ssh\n", Knock(Action.OPEN, "laptop", ("ssh",))),
        (b"close_sesame", Knock(Action.CLOSE, "laptop")),
        (b"close_sesame web", Knock(Action.CLOSE, "laptop", ("web",))),
        ("schlüssel".encode(), Knock(Action.OPEN, "desk")),
        (b"open sesame db", Knock(Action.OPEN, "laptop", ("db",))),
        (b"open sesame \xff\x00", Knock(Action.OPEN, "laptop", ("\\xff\x00",))),
        ("schlüssel web".encode(), Knock(Action.OPEN, "desk", ("web",))),
        (b"open", None),
        (b"open sesam", None),
        (b"open sesame\n\n", None),
        (b"Open sesame", None),
        (b" open sesame", None),
        (b"", None),
        (b" ", None),
        (b"\n", None),
        (b"open sesame " + b"x" * MAX_PAYLOAD, None),
    ],
)
def test_payloads(payload: bytes, found: Knock | Refusal | None) -> None:
    assert knock(payload) == found


@given(st.binary(max_size=100))
def test_only_a_key_is_a_knock(payload: bytes) -> None:
    keys = (b"open sesame", b"close_sesame", "schlüssel".encode())
    if not payload.startswith(keys):
        assert knock(payload) is None


def test_without_clients_nothing_is_a_candidate() -> None:
    assert not PlainKeys(Rules({}, {})).glance(b"", now=0.0)


def test_keys_are_not_shown() -> None:
    assert "sesame" not in repr(CLIENTS)
    address = ip_address("192.0.2.7")
    assert "sesame" not in repr(Datagram(address, address, 1, 2, b"open sesame"))
