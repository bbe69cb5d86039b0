"""What netfilterqueue does not tell or do: who has a queue, and what becomes of packets when it is full."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from gatekeeper.firewall.netlink import attribute, message

_PROC = Path("/proc/net/netfilter/nfnetlink_queue")
_CONFIG = 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_MASK, _FLAGS = 4, 5
_FAIL_OPEN = struct.pack("!I", 1)


def owner(number: int) -> str | None:
    """Say who has a queue of this network namespace; ``None`` if nobody has.

    The kernel tells a netlink port: the process number of whoever opened no other netlink socket first.
    """
    try:
        rows = [line.split() for line in _PROC.read_text().splitlines()]
    except OSError:
        return None
    port = next((row[1] for row in rows if row[0] == str(number)), None)
    if port is None:
        return None
    return f"process {port}" if Path("/proc", port).exists() else "another process"


def fail_open(queue: socket.socket, number: int) -> None:
    """Have packets go on when the queue is full (linux/netfilter/nfnetlink_queue.h). For queues that guard nothing.

    ``queue`` is the socket that has it bound. The kernel's answer is not asked for.
    """
    header = struct.pack("!BBH", 0, 0, number)
    body = header + attribute(_MASK, _FAIL_OPEN) + attribute(_FLAGS, _FAIL_OPEN)
    queue.send(message(_CONFIG, body))
