"""One NFQUEUE, bound: packets come out of it, and verdicts go back in. It belongs to whoever serves it now.

The supervisor binds it, and each worker that takes the place inherits it (fork(2)). So it outlives a worker: what
arrives meanwhile waits in the kernel for the next. What a worker had taken and not settled, the next one settles at
once (``serve``); without a verdict a packet would hold its place in the kernel for ever.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable

from netfilterqueue import NetfilterQueue, Packet

from gatekeeper.errors import QueueError
from gatekeeper.firewall import nfqueue
from gatekeeper.firewall.netlink import NETFILTER

_QUEUE_LENGTH = 8192
"""Packets that the kernel keeps for us, held ones included; beyond it drops."""
_OBSERVED_LENGTH = 256
"""The same, while we only observe: beyond it packets go on, so that a worker that hangs shuts nobody out for long."""
_SOCKET_BYTES = 8 * 1024 * 1024
_SO_MEMINFO = 55  # asm-generic/socket.h; sk_meminfo of linux/sock_diag.h
_LONGEST_MESSAGE = 65_536
"""What is read at once. The library's 4,096 bytes cut off a long packet with a timestamp, which then waits for ever."""


class Inlet:
    """A bound queue. Whoever drops it closes it; in a fork, ``abandon`` it instead."""

    def __init__(self, number: int, *, observes: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Bind it. If ``observes``, packets go on when it is full.

        Raises:
            QueueError: another process has it, or we may not.
        """
        self.number = number
        self._observes = observes
        self._on_packet: Callable[[Packet], None] = Packet.drop
        self._queue = NetfilterQueue()
        length = _OBSERVED_LENGTH if observes else _QUEUE_LENGTH
        try:
            self._queue.bind(number, self._hand_on, max_len=length, sock_len=_SOCKET_BYTES)
        except OSError as error:
            self._queue.unbind()  # or it keeps us, and we keep it, until Python looks for such circles
            who = nfqueue.owner(number) or "nobody"
            raise QueueError(f"cannot bind queue {number}: {error}", f"{who} has it") from error
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER, os.dup(self._queue.get_fd()))
        if observes:
            nfqueue.limit(self.socket, number, length, fails_open=True)
        self._clock = clock
        self._budget, self._until = 0, 0.0
        self.overruns = 0
        """How often the kernel could not hand over what it had."""

    def serve(self, on_packet: Callable[[Packet], None], *, left: nfqueue.Left) -> None:
        """Have its packets handed to ``on_packet`` from now on; what somebody had taken before meets ``left``."""
        self._on_packet = on_packet
        nfqueue.settle(self.socket, self.number, nfqueue.Left.ACCEPT if self._observes else left)

    def receive(self, budget: int, seconds: float) -> None:
        """Hand on what has come: at most ``budget`` packets, and no further one when ``seconds`` are over."""
        self._budget, self._until = budget, self._clock() + seconds
        self._queue.run_socket(self)  # type: ignore[arg-type]  # only recv() is called

    def recv(self, size: int) -> bytes:
        """Read one packet, as NetfilterQueue.run_socket wants it: it ends when there is nothing, or enough."""
        if self._budget <= 0 or self._clock() >= self._until:
            raise BlockingIOError(errno.EAGAIN, "enough for now")
        self._budget -= 1
        try:
            return self.socket.recv(max(size, _LONGEST_MESSAGE), socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self.overruns += 1
            raise

    def waiting(self) -> tuple[int, int]:
        """Return how many bytes lie in its socket, as the kernel reckons them, and how many packets did not fit."""
        numbers = struct.unpack("=9I", self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
        return numbers[0], numbers[8]

    def observe(self, observes: bool) -> None:  # noqa: FBT001  (what the method is called for)
        """Change whether packets go on when it is full. What waits in it stays."""
        if observes != self._observes:
            self._observes = observes
            length = _OBSERVED_LENGTH if observes else _QUEUE_LENGTH
            nfqueue.limit(self.socket, self.number, length, fails_open=observes)

    def abandon(self) -> None:
        """Let go of it in a fork that has no business with it; the kernel is not told, for another has it."""
        os.close(self._queue.get_fd())
        self.socket.close()

    def close(self) -> None:
        """Give the queue back to the kernel: what waits is dropped, or, if it observes, goes on."""
        if self._observes:
            nfqueue.settle(self.socket, self.number, nfqueue.Left.ACCEPT, also_unread=True)
        self._queue.unbind()
        self.socket.close()

    def hand_back(self) -> None:
        """Give the queue back when no rule leads to it any more: what waits is for the rules that there are now."""
        nfqueue.settle(self.socket, self.number, nfqueue.Left.REPEAT, also_unread=True)
        self._queue.unbind()
        self.socket.close()

    def _hand_on(self, packet: Packet) -> None:
        self._on_packet(packet)
