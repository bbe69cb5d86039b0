"""Netlink, as much of it as ipset, conntrack, sock_diag and nf_tables need: requests, attributes, errors, news.

Why not a library: docs/architecture.md, "Dependencies". Sources: linux/netlink.h, RFC 3549.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Self

from gatekeeper.errors import FirewallError

NETFILTER, SOCK_DIAG = 12, 4

REQUEST, ACK, DUMP, CREATE_NEW = 0x1, 0x4, 0x300, 0x600
_INTERRUPTED = 0x10
_ERROR, _DONE = 2, 3
_NESTED, _NETWORK_ORDER, _TYPE_MASK = 0x8000, 0x4000, 0x3FFF
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_CODE = struct.Struct("=i")
_NETFILTER_HEADER = struct.Struct("=BBH")
NETFILTER_HEADER_SIZE = _NETFILTER_HEADER.size
_BATCH_BEGIN, _BATCH_END = 16, 17
_DUMP_TRIES = 4
_SOL_NETLINK, _ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 270, 1, 33
_SO_SNDBUFFORCE, _LARGEST_BATCH = 32, 1 << 22
_NEWS_BUFFER, _READS_AT_ONCE = 1 << 20, 1000
_RECEIVE = 1 << 16
"""Bytes; the kernel's pieces have at most half as many (netlink_dump). From 128 KiB on malloc(3) asks the kernel
for each buffer, which took as long as the whole conversation."""
_PATIENCE = 5.0
"""Seconds until an answer that does not come is an error."""


class Netlink:
    """One netlink socket of this network namespace. Not for several threads at once."""

    def __init__(self, protocol: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
            self._socket.bind((0, 0))
        except OSError as error:
            raise FirewallError(f"netlink: {error.strerror}", "is this a Linux kernel with netfilter?") from error
        self._socket.settimeout(_PATIENCE)
        self._serial = itertools.count(1)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, kind: int, body: bytes, *, flags: int = 0) -> None:
        """Ask for one thing to be done; with ``CREATE_NEW``, to be made, if it is not there.

        Raises:
            FirewallError: the kernel refused; ``errno`` says why (ipset's own codes begin at 4096).
        """
        self._exchange(kind, REQUEST | ACK | flags, body)

    def get(self, kind: int, body: bytes) -> bytes | None:
        """Ask for one thing; return the body of the answer, or ``None`` if it is not there.

        Raises:
            FirewallError: the kernel refused; ``errno`` says why.
        """
        try:
            answers, _ = self._exchange(kind, REQUEST | ACK, body)
        except FirewallError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return answers[0] if answers else None

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Ask for all of something; return the bodies of the answers.

        Raises:
            FirewallError: the kernel refused; ``errno`` says why.
        """
        answers: list[bytes] = []
        for _ in range(_DUMP_TRIES):
            answers, was_interrupted = self._exchange(kind, REQUEST | DUMP, body)
            if not was_interrupted:  # by a change of what is dumped: something may have been passed over
                break
        return answers

    def batch(self, subsystem: int, requests: Sequence[tuple[int, int, bytes]]) -> None:
        """Have several things (type, flags, body) done in one step, or none of them (NFNL_MSG_BATCH_BEGIN and _END).

        Raises:
            FirewallError: the kernel refused one of them; ``errno`` says why.
        """
        marker = _NETFILTER_HEADER.pack(0, 0, socket.htons(subsystem))
        last = len(requests) - 1
        serial = next(self._serial) & 0xFFFF_FFFF
        whole = [message(_BATCH_BEGIN, marker, serial=serial)]
        for number, (kind, flags, body) in enumerate(requests):
            asked = flags | REQUEST | (ACK if number == last else 0)
            whole.append(message(kind, body, flags=asked, serial=serial))
        whole.append(message(_BATCH_END, marker, serial=serial))
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _LARGEST_BATCH)
        try:
            self._send(b"".join(_padded(one) for one in whole), serial)
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else str(error)
            raise FirewallError(f"netlink: {words}", errno=error.errno) from error

    def _exchange(self, kind: int, flags: int, body: bytes) -> tuple[list[bytes], bool]:
        try:
            return self._converse(kind, flags, body)
        except OSError as error:
            words = os.strerror(error.errno) if error.errno and error.errno < 4096 else str(error)
            raise FirewallError(f"netlink: {words}", errno=error.errno) from error

    def _converse(self, kind: int, flags: int, body: bytes) -> tuple[list[bytes], bool]:
        serial = next(self._serial) & 0xFFFF_FFFF
        return self._send(message(kind, body, flags=flags, serial=serial), serial)

    def _send(self, request: bytes, serial: int) -> tuple[list[bytes], bool]:
        self._socket.send(request)
        answers: list[bytes] = []
        was_interrupted = False
        while True:
            received = self._socket.recv(_RECEIVE)
            for answer, its_flags, its_serial, content in _messages(received):
                if its_serial != serial:
                    continue  # left over from a request that ran out of time
                was_interrupted = was_interrupted or bool(its_flags & _INTERRUPTED)
                if answer in (_ERROR, _DONE):
                    code = _CODE.unpack_from(content)[0] if len(content) >= _CODE.size else 0
                    if code:
                        raise OSError(-code, f"error {-code}")
                    return answers, was_interrupted
                answers.append(content)


class News:
    """A socket that the kernel tells of changes. ``fileno`` can be waited on."""

    def __init__(self, protocol: int, group: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            raise FirewallError(f"netlink: {error.strerror}") from error
        with contextlib.suppress(OSError):  # only with CAP_NET_ADMIN may it be more than the system's limit
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _NEWS_BUFFER)
        self._socket.settimeout(0)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(self) -> list[tuple[int, bytes]] | None:
        """Return the messages that have come (type, body); ``None`` if some were lost, for they came too fast."""
        found: list[tuple[int, bytes]] = []
        was_lost = False
        for _ in range(_READS_AT_ONCE):
            try:
                received = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise FirewallError(f"netlink: {error.strerror}", errno=error.errno) from error
                was_lost = True
                continue
            found += [(kind, body) for kind, _, _, body in _messages(received)]
        return None if was_lost else found


def _messages(received: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Take what was received apart into messages: type, flags, sequence, body."""
    offset = 0
    while offset + _HEADER.size <= len(received):
        length, kind, flags, serial, _ = _HEADER.unpack_from(received, offset)
        yield kind, flags, serial, received[offset + _HEADER.size : offset + length]
        offset += max(_HEADER.size, length + 3 & ~3)


def message(kind: int, body: bytes, *, flags: int = REQUEST, serial: int = 0) -> bytes:
    """Write one message."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, serial, 0) + body


def _padded(one: bytes) -> bytes:
    return one + bytes(-len(one) % 4)


def netfilter_header(family: int) -> bytes:
    """Write what every message to netfilter begins with (nfgenmsg: family, version, resource)."""
    return _NETFILTER_HEADER.pack(family, 0, 0)


def attribute(kind: int, value: bytes, *, network_order: bool = False) -> bytes:
    """Write one attribute, padded."""
    flag = _NETWORK_ORDER if network_order else 0
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind | flag) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Write an attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(attributes))


def attributes(content: bytes) -> dict[int, bytes]:
    """Read attributes into type -> value; of doubled ones the last counts."""
    return dict(each_attribute(content))


def each_attribute(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Read attributes in their order: type and value."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, offset)
        if length < _ATTRIBUTE.size:
            break
        yield kind & _TYPE_MASK, content[offset + _ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
