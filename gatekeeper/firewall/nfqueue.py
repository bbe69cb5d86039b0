"""What netfilterqueue does not tell or do: who has a queue, and what becomes of packets that nobody settles."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from gatekeeper.firewall.netlink import NETFILTER, attribute, attributes, message

PROC = Path("/proc/net/netfilter/nfnetlink_queue")
_SOCKETS = Path("/proc/net/netlink")
_PACKET, _VERDICT_BATCH, _CONFIG = 3 << 8, 3 << 8 | 3, 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_...
_PACKET_HEADER, _VERDICT = 1, 2  # NFQA_...
_MAX_LENGTH, _MASK, _FLAGS = 3, 4, 5  # NFQA_CFG_...
_FAIL_OPEN = struct.pack("!I", 1)
_MESSAGE = struct.Struct("=IH")
_BODY = 20
"""Where the attributes of a message begin, behind both headers."""
_PEEKS = 1000


class Left(IntEnum):
    """What becomes of packets that were taken from a queue and left (linux/netfilter.h)."""

    DROP = 0
    ACCEPT = 1
    REPEAT = 4
    """Back to the rules, as if they had just come."""


class Queue(NamedTuple):
    """One row of nfnetlink_queue (linux/net/netfilter/nfnetlink_queue.c, seq_show)."""

    number: int
    port: int
    """The netlink port of its owner."""
    waiting: int
    dropped_full: int
    """Packets that came when as many waited as may."""
    dropped_unsent: int
    """Packets that did not fit into the socket buffer of the owner."""
    last: int
    """The number of the packet that came last."""


def parse(text: str) -> list[Queue]:
    """Read /proc/net/netfilter/nfnetlink_queue."""
    rows = (line.split() for line in text.splitlines())
    return [Queue(*(int(row[place]) for place in (0, 1, 2, 5, 6, 7))) for row in rows if len(row) >= 8]


def queues() -> list[Queue]:
    """List the queues of this network namespace; none where we may not look."""
    try:
        return parse(PROC.read_text())
    except OSError:
        return []


def _find(number: int) -> Queue | None:
    return next((one for one in queues() if one.number == number), None)


def owner(number: int) -> str | None:
    """Say who has a queue of this network namespace; ``None`` if nobody has."""
    queue = _find(number)
    if queue is None:
        return None
    pid = holder(queue.port)
    return "another process" if pid is None else f"process {pid}"


def holder(port: int) -> int | None:
    """Tell which process has the socket of a netlink port: of several, the one that began; ``None``: it is not known.

    The port itself says little: the kernel takes the process number for the first such socket of a process only.
    """
    try:
        rows = [line.split() for line in _SOCKETS.read_text().splitlines()[1:]]
    except OSError:
        return None
    inode = next((row[9] for row in rows if row[1:3] == [str(NETFILTER), str(port)]), None)
    having = [] if inode is None else [int(one.name) for one in Path("/proc").glob("[0-9]*") if _has(one, inode)]
    return next((pid for pid in sorted(having) if _parent(pid) not in having), None)


def _has(process: Path, inode: str) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or we may not look
        for file in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(file.readlink()) == f"socket:[{inode}]":
                    return True
    return False


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return 0


def limit(queue: socket.socket, number: int, length: int, *, fails_open: bool) -> None:
    """Say how many packets may wait, and whether more go on (linux/netfilter/nfnetlink_queue.h) or are dropped.

    ``queue`` is the socket that has it bound. The kernel's answer is not asked for.
    """
    flags = _FAIL_OPEN if fails_open else bytes(4)
    body = attribute(_MAX_LENGTH, struct.pack("!I", length)) + attribute(_MASK, _FAIL_OPEN) + attribute(_FLAGS, flags)
    queue.send(message(_CONFIG, _header(number) + body))


def settle(queue: socket.socket, number: int, left: Left, *, also_unread: bool = False) -> None:
    """Give all packets a verdict that were read from ``queue`` and have none; nobody may read from it meanwhile.

    ``also_unread``: and those that were not read.
    """
    found = _find(number)  # first: what comes from now on is not meant
    if found is None or not found.waiting:
        return
    last = found.last
    if not also_unread and (unread := _first_unread(queue)) is not None:
        last = (unread - 1) & 0xFFFF_FFFF
    queue.send(message(_VERDICT_BATCH, _header(number) + attribute(_VERDICT, struct.pack("!II", left, last))))


def _first_unread(queue: socket.socket) -> int | None:
    """Return the number of the first packet that can be read, and leave it there."""
    for _ in range(_PEEKS):
        try:
            head = queue.recv(256, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if _MESSAGE.unpack_from(head)[1] == _PACKET:
                return int.from_bytes(attributes(head[_BODY:])[_PACKET_HEADER][:4], "big")
            queue.recv(256, socket.MSG_DONTWAIT)  # an error of a verdict's: the packet was gone
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # which is told once
                raise
    return None


def _header(number: int) -> bytes:
    return struct.pack("!BBH", 0, 0, number)
