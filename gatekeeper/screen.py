"""A view that fills the terminal and is drawn again and again, until q or Ctrl-C; the terminal is as before then."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console, RenderableType
from rich.live import Live

Draw = Callable[[int, int, bool], RenderableType]
"""Takes width and height, and whether to look anew or to draw what was seen."""
_ENDS = b"qQ\x03\x04"
"""Keys that end it: also Ctrl-C and Ctrl-D where the terminal hands them over."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH)


class _Events:
    """What the keyboard, signals and time bring."""

    def __init__(self) -> None:
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._came: set[int] = set()

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Take signals, instead of being ended by them with the terminal in disorder."""
        before = {one: signal.signal(one, self._on_signal) for one in _SIGNALS}
        fd_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd_before)
            for one, handler in before.items():
                signal.signal(one, handler)
            os.close(self._woken)
            os.close(self._wake)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._came.add(number)

    def wait(self, until: float) -> int | None:
        """Wait for something to happen: a signal's number; ``None``: time is up.

        SIGINT is also the key that ends it, and SIGHUP a keyboard that is gone.
        """
        keyboard = [sys.stdin.fileno()] if _has_keyboard() else []
        while True:
            for one in _SIGNALS:
                if one in self._came:
                    self._came.remove(one)
                    return one
            left = until - time.monotonic()
            if left <= 0:
                return None
            ready, _, _ = select.select([self._woken, *keyboard], [], [], left)
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            if keyboard and keyboard[0] in ready:
                keys = os.read(keyboard[0], 1024)
                if not keys:
                    return signal.SIGHUP
                if any(key in _ENDS for key in keys):
                    return signal.SIGINT


def show(console: Console, draw: Draw, every: float) -> int:
    """Draw every so many seconds, until the user ends it (0) or a signal does (128 and its number)."""
    events = _Events()
    with events.caught():
        while True:
            with _single_keys(), _live(console) as live:
                ended_by = _until_ended(events, live, draw, every)
            if ended_by != signal.SIGTSTP:
                return 0 if ended_by == signal.SIGINT else 128 + ended_by
            os.kill(os.getpid(), signal.SIGSTOP)  # Ctrl-Z: the shell has its terminal, until it says to go on


def _until_ended(events: _Events, live: Live, draw: Draw, every: float) -> int:
    due = time.monotonic()
    came: int | None = None
    while came in {None, signal.SIGWINCH}:
        if came is None:
            due = max(due + every, time.monotonic())
        width, height = live.console.size
        live.update(draw(width, height, came is None), refresh=True)
        came = events.wait(due)
    assert came is not None  # noqa: S101  (for the type checker)
    return came


def _live(console: Console) -> Live:
    return Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)


def _has_keyboard() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Have keys without waiting for the end of a line, and do not show them."""
    if not _has_keyboard():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
