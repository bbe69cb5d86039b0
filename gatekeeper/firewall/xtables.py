"""Reads the rules of iptables-legacy by getsockopt, in microseconds. Nobody tells of changes there: one must look.

Source: linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h, linux/netfilter/x_tables.h (64-bit
layout; all numbers in the machine's order). Asking for a table makes it, so only tables that are ours are asked for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gatekeeper.errors import FirewallError
from gatekeeper.firewall.looks import Found, Look, Place

_GET_INFO, _GET_ENTRIES = 64, 65
_NAME_SIZE = 32
_INFO = struct.Struct("=32sI5I5III")  # name, hooks, where each hook begins, where each ends, entries, bytes
_REQUEST = struct.Struct("=32sI4x")  # name, bytes; the entries follow
_COUNTERS = 16
_OFFSETS = struct.Struct("=HHI")  # of the target, of the next rule; where it was come from (made by the kernel)
_SIZE = struct.Struct("=H")
_VERDICT = struct.Struct("=i")
_TARGET_HEADER = 32  # size, name, revision
_TARGET_NAME = slice(2, 31)
_BASES = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_VERDICTS = {-1: "DROP", -2: "ACCEPT", -5: "RETURN"}
_ERROR = "ERROR"
_TRIES = 20


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things stand in a rule of one IP version."""

    family: socket.AddressFamily
    level: int
    head: int
    """Bytes before the offsets: what the rule matches by address and interface, and a number of the kernel's."""
    match: int
    """Of these, what matches."""
    flags: int
    """Where the byte is that says whether a jump is for good."""
    goto: int
    size: int


_LAYOUTS = {
    4: _Layout(socket.AF_INET, socket.IPPROTO_IP, 88, 84, 82, 0x02, 112),
    6: _Layout(socket.AF_INET6, socket.IPPROTO_IPV6, 140, 136, 131, 0x04, 168),
}
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Blob:
    """The rules of one table as the kernel has them."""

    content: bytes
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    hooks: int


@dataclass(slots=True)
class _Seen:
    """A table that was looked at: what hides its counters, and what was there without them."""

    mask: int
    content: int
    length: int


class Xtables:
    """Reads the rules of the network namespace in which it was made. Not for several threads at once."""

    def __init__(self, versions: Iterable[int]) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._seen: dict[tuple[int, str], _Seen] = {}
        for version in versions:
            try:
                self._sockets[version] = socket.socket(_LAYOUTS[version].family, socket.SOCK_DGRAM)
            except OSError as error:
                self.close()
                raise FirewallError(f"IPv{version}: {error.strerror}") from error

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets.values():
            one.close()

    def looks(self, tables: Sequence[str]) -> dict[int, Look]:
        """Read all rules of these tables. What is not there has none. What is seen is what ``is_as_seen`` means.

        Raises:
            FirewallError: the kernel refused.
        """
        found: dict[int, Look] = {}
        for version in self._sockets:
            look: dict[Place, Sequence[Found]] = {}
            for table in tables:
                blob = self._blob(version, table)
                self._seen[version, table] = _seen(blob, version)
                look |= {(table, chain): rules for chain, rules in read_blob(blob, version).items()}
            found[version] = look
        return found

    def is_as_seen(self) -> bool:
        """Whether everything is, but for counters, as it was at the last ``looks``.

        Raises:
            FirewallError: the kernel refused.
        """
        for (version, table), seen in self._seen.items():
            entries = self._entries(version, table, seen.length)  # refused if they are not as many bytes
            if entries is None or int.from_bytes(entries, "little") & seen.mask != seen.content:
                return False
        return bool(self._seen)

    def _blob(self, version: int, table: str) -> Blob:
        name = table.encode()
        for _ in range(_TRIES):
            info = self._ask(version, _GET_INFO, _INFO.pack(name, *[0] * 13), _INFO.size)
            if info is None:
                break
            numbers = _INFO.unpack(info)
            entries = self._entries(version, table, numbers[13])
            if entries is not None:
                return Blob(entries, numbers[2:7], numbers[7:12], numbers[1])
        return Blob(b"", (0,) * 5, (0,) * 5, 0)

    def _entries(self, version: int, table: str, size: int) -> bytes | None:
        answer = self._ask(version, _GET_ENTRIES, _REQUEST.pack(table.encode(), size), _REQUEST.size + size)
        return None if answer is None else answer[_REQUEST.size :]

    def _ask(self, version: int, option: int, request: bytes, size: int) -> bytes | None:
        """Call getsockopt(2) with something in its buffer, which Python's own cannot."""
        buffer = ctypes.create_string_buffer(request, size)
        length = ctypes.c_uint(size)
        layout = _LAYOUTS[version]
        done = _LIBC.getsockopt(
            self._sockets[version].fileno(), layout.level, option, ctypes.byref(buffer), ctypes.byref(length)
        )
        if done == 0:
            return buffer.raw
        number = ctypes.get_errno()
        if number in {errno.ENOENT, errno.EAGAIN, errno.ENOPROTOOPT}:  # no such table; it has just changed; no tables
            return None
        words = "run it as root, or with sudo" if number == errno.EPERM else None
        raise FirewallError(f"iptables legacy: {os.strerror(number)}", words, errno=number)


def read_blob(blob: Blob, version: int) -> dict[str, list[Found]]:
    """Read the rules of a table, by chain. The rule that ends each chain (a policy, a RETURN) is left out."""
    layout = _LAYOUTS[version]
    entries = list(_entries(blob.content, layout))
    hooks = [number for number in range(len(_BASES)) if blob.hooks >> number & 1]
    names = {blob.begins[number]: _BASES[number] for number in hooks}
    for offset, target_at, entry in entries:
        if _text(entry[target_at:][_TARGET_NAME]) == _ERROR:  # its text is the name of the chain that begins behind it
            names[offset + len(entry)] = _text(entry[target_at + _TARGET_HEADER :])
    policies = {blob.ends[number] for number in hooks}
    chains: dict[str, list[Found]] = {}
    rules: list[Found] = []
    for offset, target_at, entry in entries:
        if offset in names:
            rules = chains.setdefault(names[offset], [])
        if offset not in policies and _text(entry[target_at:][_TARGET_NAME]) != _ERROR:
            rules.append(_found(entry, target_at, names, layout))
    for chain, own in chains.items():
        if chain not in _BASES:
            own.pop()
    return chains


def _found(entry: bytes, target_at: int, names: Mapping[int, str], layout: _Layout) -> Found:
    head, matches, target = entry[: layout.match], entry[layout.size : target_at], entry[target_at:]
    leads_to = ""
    if not _text(target[_TARGET_NAME]) and len(target) >= _TARGET_HEADER + _VERDICT.size:
        (verdict,) = _VERDICT.unpack_from(target, _TARGET_HEADER)
        leads_to = names.get(verdict, "") if verdict >= 0 else _VERDICTS.get(verdict, "")
        target = f"{leads_to} {min(verdict, 0)}".encode()  # where a chain stands moves with everybody's rules
    flags = head[layout.flags]
    said = head[: layout.flags] + bytes([flags & ~layout.goto]) + head[layout.flags + 1 :]
    return Found(
        head + matches + target, leads_to, is_goto=bool(flags & layout.goto), has_match=any(said) or bool(matches)
    )


def _entries(content: bytes, layout: _Layout) -> Iterator[tuple[int, int, bytes]]:
    """Take a table apart: where each entry begins, where in it its target does, and its bytes."""
    offset = 0
    while offset + layout.size <= len(content):
        target_at, length, _ = _OFFSETS.unpack_from(content, offset + layout.head)
        if length < layout.size:
            return
        yield offset, target_at, content[offset : offset + length]
        offset += length


def _seen(blob: Blob, version: int) -> _Seen:
    layout = _LAYOUTS[version]
    mask = bytearray(b"\xff" * len(blob.content))
    for offset, _, _ in _entries(blob.content, layout):
        for at, size in ((layout.head + 4, 4), (layout.size - _COUNTERS, _COUNTERS)):
            mask[offset + at : offset + at + size] = bytes(size)
    number = int.from_bytes(mask, "little")
    return _Seen(number, int.from_bytes(blob.content, "little") & number, len(blob.content))


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="backslashreplace")
