"""The client: sends knocks. Needs neither root nor any of the server's libraries."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from gatekeeper.errors import ClientError
from gatekeeper.model import Action

MAX_ADDRESSES = 16


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a knock went, and where it could not go (with the reason)."""

    addresses: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]


def plain_knock(keys: str, *, action: Action, service: str | None) -> bytes:
    """Build a plain knock from what a key file says: one line is the key for what is asked, two are open and close.

    Raises:
        ClientError: there is no key in it.
    """
    lines = [line for line in keys.replace("\r\n", "\n").split("\n") if line]
    if not lines:
        raise ClientError("the key is empty", "the first line is the key, the second one the key that closes")
    if len(lines) > 2:
        raise ClientError("the key has more than two lines", "the first line opens, the second one closes")
    key = lines[-1] if action is Action.CLOSE else lines[0]
    words = f"{key} {service}" if service else key
    return words.encode(errors="surrogateescape")  # whatever bytes the command line had


def send(host: str, port: int, knock: bytes) -> Sent:
    """Send one datagram to every address of a host, IPv4 and IPv6, as a connection to it might use any.

    Raises:
        ClientError: the name does not resolve, or no address could be reached.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        words = error.strerror if isinstance(error, socket.gaierror) else "not a name"
        raise ClientError(f"cannot find {host}: {words}", "check the name, or give an address") from error
    addresses: list[str] = []
    failures: list[tuple[str, str]] = []
    for family, kind, protocol, _, target in found[:MAX_ADDRESSES]:
        try:
            with socket.socket(family, kind, protocol) as one:
                one.sendto(knock, target)
            addresses.append(str(target[0]))
        except OSError as error:
            failures.append((str(target[0]), error.strerror or str(error)))
    if not addresses:
        words = "; ".join(f"{address}: {reason}" for address, reason in failures)
        raise ClientError(f"the knock could not be sent to {host}: {words}", "check the network")
    return Sent(tuple(addresses), tuple(failures))
