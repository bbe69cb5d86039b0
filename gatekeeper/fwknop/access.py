"""What a message asks for: an address, and ports. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import NamedTuple

from gatekeeper.settings import Ports, Transport

_ANY = IPv4Address("0.0.0.0")  # noqa: S104  (what stands for the sender's own address)
_PORT = re.compile(r"(tcp|udp)/(\d{1,5})", re.ASCII)
_NUMBER = re.compile(r"\d{1,5}", re.ASCII)
_LAST_PORT = 65535
_SHOWN = 40


class Access(NamedTuple):
    """Whom to let in (``None``: whoever sent it), to which ports (one each)."""

    address: IPv4Address | None
    ports: tuple[Ports, ...]


def parse(text: str) -> Access:
    """Read ``192.0.2.7,tcp/22,udp/53``.

    Raises:
        ValueError: it says something else.
    """
    address, *ports = text.split(",")
    if not ports:
        raise ValueError("it names no port")
    found = _address(address)
    return Access(None if found == _ANY else found, tuple(map(_port, ports)))


def nat_port(text: str) -> int:
    """Read the port of ``127.0.0.1,22``, where a NAT access leads to.

    Raises:
        ValueError: it says something else.
    """
    address, _, port = text.partition(",")
    _address(address)
    return _number(port)


def _address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise ValueError(f"{_shown(text)} is no IPv4 address") from None


def _port(text: str) -> Ports:
    match = _PORT.fullmatch(text.lower())
    if match is None:
        raise ValueError(f"{_shown(text)} is no port")
    return Ports(Transport(match[1]), _number(match[2]))


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= _LAST_PORT:
        raise ValueError(f"{_shown(text)} is no port")
    return int(text)


def _shown(text: str) -> str:
    return f'"{text}"' if len(text) <= _SHOWN else f'"{text[:_SHOWN]}..."'
