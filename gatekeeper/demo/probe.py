"""What a client and a stranger do: connect, scan, knock, stream. Times are seconds, by the monotonic clock."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gatekeeper.demo.network import inside

KNOCK_PORT = 62201
_BREATH = 0.0005
"""Seconds between two bytes: without a pause, two streams keep two CPUs so busy that what is measured starves."""
_SCANNED_AT_ONCE = 256  # a user's limit of open files is 1,024 in all


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connect: how it ended, after how long, and how many SYNs were sent again."""

    result: str
    """``open``, ``refused`` (a reset came back) or ``silent`` (nothing came back)."""
    seconds: float
    resent: int = 0


def family_of(address: str) -> socket.AddressFamily:
    """Tell the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connect(namespace: str, address: str, port: int, *, timeout: float, knock: bytes | None = None) -> Attempt:
    """Connect from a namespace and close at once; with ``knock``, send that first, with no sleep between."""
    attempt, connection = open_stream(namespace, address, port, timeout=timeout, knock=knock)
    if connection is not None:
        connection.close()
    return attempt


def open_stream(
    namespace: str, address: str, port: int, *, timeout: float, knock: bytes | None = None
) -> tuple[Attempt, socket.socket | None]:
    """Connect from a namespace and keep the connection."""
    family = family_of(address)
    with inside(namespace):
        stream = socket.socket(family, socket.SOCK_STREAM)
        knocker = socket.socket(family, socket.SOCK_DGRAM)
    with knocker:
        stream.settimeout(timeout)
        begin = time.monotonic()
        if knock is not None:
            knocker.sendto(knock, (address, KNOCK_PORT))
        try:
            stream.connect((address, port))
        except TimeoutError:
            stream.close()
            return Attempt("silent", time.monotonic() - begin), None
        except ConnectionError:  # refused; or cut by a close that came meanwhile
            stream.close()
            return Attempt("refused", time.monotonic() - begin), None
        seconds = time.monotonic() - begin
    return Attempt("open", seconds, resent_syns(stream)), stream


def resent_syns(stream: socket.socket) -> int:
    """Count the retransmissions of a fresh connection (tcp_info.tcpi_total_retrans, linux/tcp.h)."""
    info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[100:104], "little")


def send(namespace: str, address: str, payload: bytes, *, port: int = KNOCK_PORT) -> None:
    """Send one datagram from a namespace."""
    family = family_of(address)
    with inside(namespace):
        knocker = socket.socket(family, socket.SOCK_DGRAM)
    with knocker:
        knocker.sendto(payload, (address, port))


def scan(namespace: str, address: str, ports: Sequence[int], *, timeout: float) -> dict[int, str]:
    """Try to connect to many ports, some hundred at once; say for each how it ended (as ``Attempt.result``)."""
    results: dict[int, str] = {}
    for first in range(0, len(ports), _SCANNED_AT_ONCE):
        results |= _scan(namespace, address, ports[first : first + _SCANNED_AT_ONCE], timeout)
    return results


def _scan(namespace: str, address: str, ports: Sequence[int], timeout: float) -> dict[int, str]:
    results = dict.fromkeys(ports, "silent")
    waiting: dict[int, int] = {}
    with contextlib.ExitStack() as stack:
        poller = stack.enter_context(select.epoll())
        sockets: dict[int, socket.socket] = {}
        with inside(namespace):
            for port in ports:
                one = stack.enter_context(socket.socket(family_of(address), socket.SOCK_STREAM))
                one.settimeout(0)
                error = one.connect_ex((address, port))
                if error == errno.EINPROGRESS:
                    waiting[one.fileno()], sockets[one.fileno()] = port, one
                    poller.register(one.fileno(), select.EPOLLOUT)
                else:
                    results[port] = "open" if error == 0 else "refused"
        deadline = time.monotonic() + timeout
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poller.poll(left):
                error = sockets[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                results[waiting.pop(fd)] = "open" if error == 0 else "refused"
                poller.unregister(fd)
    return results


def until_end(stream: socket.socket, *, timeout: float) -> tuple[float, str] | None:
    """Exchange bytes over an echo stream until it ends; return seconds and how, or ``None`` if it lives on."""
    begin = last_answer = time.monotonic()
    stream.settimeout(0.01)
    while (now := time.monotonic()) - begin < timeout:
        try:
            stream.send(b".")
        except OSError as error:
            return time.monotonic() - begin, error.strerror or str(error)
        try:
            if not stream.recv(65536):
                return time.monotonic() - begin, "closed"
            last_answer = time.monotonic()
            time.sleep(_BREATH)
        except TimeoutError:
            if now - last_answer > 0.5:
                return last_answer - begin, "no more answers"
        except OSError as error:
            return time.monotonic() - begin, error.strerror or str(error)
    return None
