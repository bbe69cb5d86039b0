"""A worker's part in a recording: it hands notes over, and never waits. What is too much is lost, and counted."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

from gatekeeper.model import Decision
from gatekeeper.protocols import KnockFormat
from gatekeeper.recording.notes import encode, note_of

LOST = "not-recorded"
_EACH_SECOND = 200.0
"""Packets that a worker hands over, so that a flood neither costs it time nor drives everything else from the files."""
_AT_ONCE = 400.0


class Sender:
    """Hands over what is refused."""

    def __init__(self, end: socket.socket, formats: Sequence[KnockFormat], count: Callable[[str], None]) -> None:
        """``end``: of the wire to the recorder; ``count`` is told what was lost."""
        self._end, self._formats, self._count = end, formats, count
        self._left, self._refilled = _AT_ONCE, time.monotonic()

    def send(self, decision: Decision, raw: bytes) -> None:
        """Hand over a packet, if there is room for it."""
        if not self._may() or not self._sent(encode(note_of(decision, raw, self._formats, now=time.time()))):
            self._count(LOST)

    def _may(self) -> bool:
        now = time.monotonic()
        self._left = min(_AT_ONCE, self._left + (now - self._refilled) * _EACH_SECOND)
        self._refilled = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _sent(self, message: bytes) -> bool:
        try:
            self._end.send(message, socket.MSG_DONTWAIT)
        except OSError:  # it is full, for the disk is slow; or there is no recorder now
            return False
        return True
