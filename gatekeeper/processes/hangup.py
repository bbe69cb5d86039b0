"""SIGHUP: read the rules again. But where it says that our terminal is gone, it ends us, as it ends any program.

Nothing in the signal tells the two apart, for a shell that ends sends it on to its jobs in its own name. The terminal
does: the kernel takes it from all processes of a session before it, or a shell, signals one of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType


class Hangup:
    """Takes SIGHUP from the moment in which it is made."""

    def __init__(self) -> None:
        self._was_sent = False
        self._may_end = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # nohup(1)
        self._had_terminal = _has_terminal()
        signal.signal(signal.SIGHUP, self._on_signal)

    def look(self) -> None:
        """Note whether we still have a terminal: a job in the background is not told when its own goes."""
        self._had_terminal = self._had_terminal and _has_terminal()

    def take(self) -> bool:
        """Whether it was sent since this was last asked."""
        was_sent, self._was_sent = self._was_sent, False
        return was_sent

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        if self._may_end and self._had_terminal and not _has_terminal():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGHUP)
        self._was_sent = True


def _has_terminal() -> bool:
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK))
        return True
    return False
