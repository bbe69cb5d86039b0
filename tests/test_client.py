"""The client: what it sends, and to which addresses."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gatekeeper import client
from gatekeeper.errors import ClientError
from gatekeeper.model import Action


@pytest.mark.parametrize(
    ("keys", "action", "service", "payload"),
    [
        ("open\n", Action.OPEN, None, b"open"),
        ("open\nclose\n", Action.OPEN, None, b"open"),
        ("open\r\nclose\r\n", Action.CLOSE, None, b"close"),
        ("close", Action.CLOSE, None, b"close"),
        ("open sesame\n", Action.OPEN, "ssh", b"open sesame ssh"),
        ("schlüssel", Action.OPEN, None, "schlüssel".encode()),
    ],
)
def test_a_key_file_has_one_line_or_two(keys: str, action: Action, service: str | None, payload: bytes) -> None:
    assert client.plain_knock(keys, action=action, service=service) == payload


@pytest.mark.parametrize("keys", ["", "\n\n", "a\nb\nc"])
def test_a_key_file_with_another_number_of_lines_is_refused(keys: str) -> None:
    with pytest.raises(ClientError):
        client.plain_knock(keys, action=Action.OPEN, service=None)


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


def test_a_knock_goes_to_every_address_of_a_name(listeners: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    four, six = listeners
    port = four.getsockname()[1]
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    sent = client.send("bastion", port, b"open")
    assert sent.addresses == ("::1", "127.0.0.1")
    assert four.recv(100) == six.recv(100) == b"open"


def test_an_address_that_cannot_be_reached_does_not_stop_the_others(
    listeners: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    four, _ = listeners
    port = four.getsockname()[1]
    found = [
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("255.255.255.255", port)),  # broadcast: not permitted
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    sent = client.send("bastion", port, b"open")
    assert sent.addresses == ("127.0.0.1",)
    assert sent.failures[0][0] == "255.255.255.255"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
    with pytest.raises(ClientError, match="could not be sent"):
        client.send("bastion", port, b"open")


def test_a_name_that_does_not_resolve_is_told() -> None:
    for name in ("no-such-host.invalid", "a" * 300, "."):
        with pytest.raises(ClientError, match="cannot find"):
            client.send(name, 62201, b"open")
