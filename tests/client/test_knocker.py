"""The client's knocks: to which addresses they go, and which they name."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gatekeeper.client import addresses, knocker
from gatekeeper.client.knocker import PlainMaker
from gatekeeper.errors import ClientError

FOUR = (socket.AF_INET, ("127.0.0.1", 0))
SIX = (socket.AF_INET6, ("::1", 0))


@pytest.fixture
def listeners() -> Any:
    """Listen on loopback, IPv4 and IPv6, on one port."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        six.bind(("::1", 0))
        four.bind(("127.0.0.1", six.getsockname()[1]))
        for one in (four, six):
            one.settimeout(2)
        yield four, six


def test_a_knock_goes_to_every_address_of_a_name(listeners: Any) -> None:
    four, six = listeners
    port = four.getsockname()[1]
    sent = knocker.send([SIX, FOUR], port, PlainMaker(b"open"))
    assert sent.addresses == ["::1", "127.0.0.1"]
    assert four.recv(100) == six.recv(100) == b"open"


def test_an_address_that_cannot_be_reached_does_not_stop_the_others(listeners: Any) -> None:
    port = listeners[0].getsockname()[1]
    broadcast = (socket.AF_INET, ("255.255.255.255", 0))  # not permitted
    sent = knocker.send([broadcast, FOUR], port, PlainMaker(b"open"))
    assert sent.addresses == ["127.0.0.1"]
    assert sent.failures[0][0] == "255.255.255.255"
    with pytest.raises(ClientError, match="could not be sent"):
        knocker.send([broadcast], port, PlainMaker(b"open"))


def test_a_name_that_does_not_resolve_is_told() -> None:
    for name in ("no-such-host.invalid", "a" * 300, ".", "ü" * 70):
        with pytest.raises(ClientError, match="cannot find"):
            addresses.resolve(name)


@pytest.mark.parametrize(
    ("local", "server", "first", "next_"),
    [
        ("198.51.100.2", "192.0.2.1", True, True),  # global: the server sees it
        ("2001:db8::2", "2001:db8::1", True, True),
        ("192.168.1.2", "192.0.2.1", False, False),  # NAT in between
        ("100.64.0.9", "192.0.2.1", False, False),
        ("fd00::2", "2001:db8::1", False, False),
        ("10.0.2.15", "192.168.1.5", True, False),  # who knows
        ("172.31.0.1", "172.16.0.1", True, False),
        ("172.32.0.1", "172.16.0.1", True, True),
        ("fe80::1%eth0", "fe80::2%eth0", True, False),
        ("192.0.0.4", "8.8.8.8", False, False),  # 464XLAT
        ("198.18.0.1", "8.8.8.8", False, False),
        ("2001:db8:c::2", "64:ff9b::c000:201", False, False),  # NAT64
        ("2001:db8:c::2", "64:ff9b:1::c000:201", False, False),
        ("::ffff:10.0.0.5", "::ffff:8.8.8.8", False, False),
    ],
)
def test_a_knock_names_its_address_where_the_server_sees_it(
    local: str, server: str, *, first: bool, next_: bool
) -> None:
    assert addresses.can_name(local, server) is first
    assert addresses.can_name(local, server, is_first_try=False) is next_


def test_each_family_has_its_share_of_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that are dead do not keep the one that lives from being tried."""
    six = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"2001:db8::{n}", 0, 0, 0)) for n in range(1, 20)]
    four = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: six + four)
    found = addresses.resolve("bastion")
    assert len(found) == addresses.MOST + 1
    assert found[-1] == (socket.AF_INET, ("192.0.2.1", 0))
