"""A program on a terminal: what it shows, and what becomes of the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Self

_CONTROLS = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>78])")
_HOME = "\x1b[H"


class Terminal:
    """A program whose standard streams are a terminal of its own, which hands it Ctrl-C, and tells it of its size."""

    def __init__(
        self, argv: Sequence[str], *, width: int = 80, height: int = 24, has_keyboard: bool = True, **variables: str
    ) -> None:
        self._ours, its = pty.openpty()
        self.resize(width, height)
        self.before = termios.tcgetattr(its)
        self._its = its
        environment = os.environ | {"TERM": "xterm-256color"} | variables
        for name in ("COLUMNS", "LINES", *(() if "NO_COLOR" in variables else ("NO_COLOR",))):
            environment.pop(name, None)
        keyboard = its if has_keyboard else subprocess.DEVNULL
        session = ("setsid", "--ctty") if has_keyboard else ()  # it is not started in another, so this does not fork
        self.process = subprocess.Popen([*session, *argv], stdin=keyboard, stdout=its, stderr=its, env=environment)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        if self._ours >= 0:
            self.unplug()

    def resize(self, width: int, height: int) -> None:
        """Make the terminal larger or smaller."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def unplug(self) -> None:
        """Take the terminal away, as when a connection breaks."""
        for fd in (self._ours, self._its):
            os.close(fd)
        self._ours = self._its = -1

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def read(self, seconds: float) -> str:
        """Return all that was shown until now, having waited for a time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._ours], [], [], left)[0]:
                break
            try:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                break
        return self.shown

    def wait_for(self, words: str, *, times: int = 1, seconds: float = 20.0) -> str:
        """Wait until words have been shown so many times; return the last frame."""
        deadline = time.monotonic() + seconds
        while plain(self.shown).count(words) < times:
            assert time.monotonic() < deadline, f"not shown: {words!r} {times} times, but {plain(self.shown)[-2000:]!r}"
            assert self.process.poll() is None or self.read(0.2).count(words), plain(self.shown)
            self.read(0.05)
        self.read(0.1)
        return self.frame

    @property
    def frame(self) -> str:
        """What was shown last."""
        return plain(self.shown.rpartition(_HOME)[2])

    def ends(self, *, seconds: float = 10.0) -> int:
        """Wait for the end; return the exit status."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        self.read(0.05)
        return self.process.wait(timeout=0.1)

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal takes lines and shows what is typed, as at the beginning."""
        return termios.tcgetattr(self._its) == self.before


def plain(shown: str) -> str:
    """Take out colours and movements."""
    return _CONTROLS.sub("", shown).replace("\r", "")
