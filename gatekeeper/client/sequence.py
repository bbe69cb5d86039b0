"""Knocks that knockd hears: packets to a sequence of ports. Anybody can send them, and they need no root."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gatekeeper.client.addresses import Target, at_port
from gatekeeper.client.knocker import Sent
from gatekeeper.errors import ClientError, UnreachableError

MOST = 32
"""Steps that a sequence can have."""
_STEP = re.compile(r"(\d{1,5})(?:[:/](tcp|udp))?|(tcp|udp)/(\d{1,5})", re.ASCII)
_ON_ITS_WAY = frozenset({0, errno.EINPROGRESS, getattr(errno, "WSAEWOULDBLOCK", 0), errno.ECONNREFUSED, errno.EAGAIN})
"""What a connect says whose SYN has left; refused at once is one to this machine itself."""


class Step(NamedTuple):
    """A port to send a packet to."""

    port: int
    is_udp: bool


def parse(words: Iterable[str]) -> list[Step]:
    """Read ``7000/udp``, ``7000:udp`` as knock has it, or ``8000``, which is TCP.

    Raises:
        ClientError: they are no sequence.
    """
    found = [_step(word) for word in words]
    if not 0 < len(found) <= MOST:
        raise ClientError(f"a sequence has 1 to {MOST} ports, not {len(found)}", "such as 7000/udp 8000 9000")
    return found


def _step(word: str) -> Step:
    match = _STEP.fullmatch(word.lower())
    port = int(match[1] or match[4]) if match else 0
    if match is None or not 1 <= port <= 65535:
        raise ClientError(f"{word!a} is no port to knock at", "write 7000/udp, or 8000 for TCP")
    return Step(port, "udp" in (match[2], match[3]))


def hit(targets: Sequence[Target], steps: Sequence[Step], delay: float) -> Sent:
    """Send the whole sequence to each address, one after the other, with ``delay`` seconds between its packets.

    Raises:
        UnreachableError: no address could be reached.
    """
    sent = Sent()
    for target in targets:
        address = target[1][0]
        try:
            for number, step in enumerate(steps):
                if number and delay:
                    time.sleep(delay)
                _send(at_port(target, step.port), is_udp=step.is_udp)
        except OSError as error:
            sent.failures.append((address, error.strerror or str(error)))
        else:
            sent.addresses.append(address)
    if not sent.addresses:
        words = "; ".join(f"{address}: {reason}" for address, reason in sent.failures)
        raise UnreachableError(f"the sequence could not be sent: {words}", "check the network")
    return sent


def _send(target: Target, *, is_udp: bool) -> None:
    """Send a datagram, or a SYN: a connection is begun, and given up at once."""
    family, where = target
    with socket.socket(family, socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM) as one:
        if is_udp:
            one.sendto(b"\0", where)  # empty ones are lost by some networks
            return
        one.setblocking(False)  # noqa: FBT003
        error = one.connect_ex(where)
        if error not in _ON_ITS_WAY:
            raise OSError(error, os.strerror(error))
