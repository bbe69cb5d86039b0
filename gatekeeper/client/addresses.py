"""The addresses of a host, and whether a knock can name the one that it leaves from."""

from __future__ import annotations

import socket

from gatekeeper.errors import ClientError

MOST = 8
Target = tuple[socket.AddressFamily, tuple[str, int]]
"""An address family, and the address with a port."""


def resolve(host: str) -> list[Target]:
    """Find all addresses of a host, in the order in which a connect should try them (RFC 6724). Their port is 0.

    Raises:
        ClientError: the name does not resolve.
    """
    try:
        name = host.encode() if host.isascii() else host  # bytes: without the codec for names in other scripts
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        words = error.strerror if isinstance(error, socket.gaierror) else "not a name"
        raise ClientError(f"cannot find {host}: {words}", "check the name, or give an address") from error
    return [(family, (str(target[0]), 0)) for family, _, _, _, target in found[:MOST]]


def at_port(target: Target, port: int) -> Target:
    """Return the same address with a port."""
    family, (address, _) = target
    return family, (address, port)


def can_name(local: str, server: str, *, is_first_try: bool = True) -> bool:
    """Whether a knock from ``local`` to ``server`` should name the address that it leaves from.

    A global address is what the server sees. A private one is not, where the server's is global: there is NAT
    between. Where both are private there may or may not be: the first try names it, the next does not.
    """
    return not _is_private(packed(local)) or (_is_private(packed(server)) and is_first_try)


def _is_private(address: bytes) -> bool:
    """Whether NAT may stand in front of an address (RFC 1918, 6598, 4193; loopback, link-local)."""
    if len(address) == 16:
        return address[0] in {0xFC, 0xFD} or address[:2] == b"\xfe\x80" or address == bytes(15) + b"\1"
    first, second = address[:2]
    return (
        first in {10, 127}
        or (first == 172 and 16 <= second < 32)
        or (first == 100 and 64 <= second < 128)
        or (first, second) in {(192, 168), (169, 254)}
    )


def packed(address: str) -> bytes:
    """Return an address as 4 or 16 bytes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address.partition("%")[0])
