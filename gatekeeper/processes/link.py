"""A wire between two of our processes: whole messages, in order, never waited for.

A Unix socket of type SOCK_SEQPACKET (unix(7)). What the other end does not take yet waits here; when that is too
much, the wire is cut, and whoever is at the other end is replaced.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator

from gatekeeper.processes.messages import Message, decode, encode

_LONGEST = 1 << 18
_BUFFER = 1 << 20
_BACKLOG = 20_000
"""Messages that may wait. A worker that was stopped for a minute finds less than this."""


class LinkError(Exception):
    """The other end is gone, or talks nonsense."""


class Link:
    """One end of the wire."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        end.settimeout(0)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._waiting: deque[bytes] = deque()

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self.socket.fileno()

    def close(self) -> None:
        """Cut the wire."""
        self.socket.close()

    @property
    def backlog(self) -> int:
        """How many messages the other end has not taken yet."""
        return len(self._waiting)

    def send(self, message: Message) -> None:
        """Send a message, now or as soon as the other end takes it (``flush``).

        Raises:
            LinkError: the other end is gone, or has taken nothing for long.
        """
        self._waiting.append(encode(message))
        self.flush()
        if len(self._waiting) > _BACKLOG:
            raise LinkError("the other end takes nothing")

    def flush(self) -> None:
        """Send what waits, as far as the other end takes it.

        Raises:
            LinkError: the other end is gone.
        """
        while self._waiting:
            try:
                self.socket.send(self._waiting[0])
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkError(f"the other end is gone: {error.strerror}") from error
            self._waiting.popleft()

    def receive(self, limit: int) -> Iterator[Message]:
        """Return what has come, at most ``limit`` messages.

        Raises:
            LinkError: the other end is gone, or talks nonsense.
        """
        for _ in range(limit):
            try:
                data = self.socket.recv(_LONGEST)
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkError(f"the other end is gone: {error.strerror}") from error
            if not data:
                raise LinkError("the other end is gone")
            try:
                yield decode(data)
            except ValueError as error:
                raise LinkError(str(error)) from error


class Wire:
    """Both ends of a wire that outlives who is at them, and is not for ``Link``. Who writes, begins."""

    def __init__(self) -> None:
        self.written, self.read = pair()

    def keep(self, *, written: bool, read: bool) -> None:
        """Close, in a process that was just forked, the ends that are not its business."""
        if not written:
            self.written.close()
        if not read:
            self.read.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Make a wire."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
