"""The addresses of a host, and whether a knock can name the one that it leaves from."""

from __future__ import annotations

import socket

from gatekeeper.errors import ClientError

MOST = 8
"""Addresses of each family that are tried."""
_NAT64 = (bytes.fromhex("0064ff9b0000000000000000"), bytes.fromhex("0064ff9b0001"))
"""Where a translator stands between (RFC 6052, 8215): the server sees its IPv4 address."""
_MAPPED = bytes(10) + b"\xff\xff"
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
    targets = list(dict.fromkeys((family, (str(target[0]), 0)) for family, _, _, _, target in found))
    of_family = {family: [one for one in targets if one[0] == family][:MOST] for family, _ in targets}
    return [one for one in targets if one in of_family[one[0]]]


def at_port(target: Target, port: int) -> Target:
    """Return the same address with a port."""
    family, (address, _) = target
    return family, (address, port)


def can_name(local: str, server: str, *, is_first_try: bool = True) -> bool:
    """Whether a knock from ``local`` to ``server`` should name the address that it leaves from.

    A global address is what the server sees. A private one is not, where the server's is global: there is NAT
    between. Where both are private there may or may not be: the first try names it, the next does not.
    """
    mine, theirs = packed(local), packed(server)
    if theirs.startswith(_NAT64) or (len(mine) == 16 and mine.startswith(_MAPPED)):
        return False
    return not _is_private(mine) or (_is_private(theirs) and is_first_try)


def is_unsure(local: str, server: str) -> bool:
    """Whether there is no telling if the server sees the address that a knock leaves from."""
    return can_name(local, server) and not can_name(local, server, is_first_try=False)


def _is_private(address: bytes) -> bool:
    """Whether NAT may stand in front of an address: what the IANA's registries of special addresses call not global.

    (But the blocks for documentation are taken for global, as the examples in documents mean them.)
    """
    if len(address) == 16:
        return address[0] in {0xFC, 0xFD} or address[:1] == b"\xfe" or address == bytes(15) + b"\1"
    first, second, third = address[:3]
    return (
        first in {0, 10, 127}
        or first >= 240
        or (first == 198 and second in {18, 19})
        or (first, second, third) == (192, 0, 0)
        or (first == 172 and 16 <= second < 32)
        or (first == 100 and 64 <= second < 128)
        or (first, second) in {(192, 168), (169, 254)}
    )


def packed(address: str) -> bytes:
    """Return an address as 4 or 16 bytes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address.partition("%")[0])
