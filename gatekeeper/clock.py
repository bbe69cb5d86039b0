"""The wall clock against the clock that nobody sets: tells when the wall clock was set, and by how much.

A grant is for a time, and its deadline is kept in wall time, so that it survives a reboot. So each is stored with the
reading of this module's clock; when the wall clock is set, deadlines of the same boot move with it (``store.rebase``).
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from gatekeeper.model import Reading

STEP = 2.0
"""Seconds: what moves the wall clock by less between two looks, is its being slowed or hurried (adjtimex(2))."""


def reading() -> Reading:
    """Read the clocks."""
    boot = _boot()
    return Reading(boot, _ahead() if boot else 0.0)


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: a dry run
        return ""


def _ahead() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """Notices when the wall clock is set."""

    def __init__(self) -> None:
        self._boot, self._ahead = reading()
        self._before = self._ahead

    def step(self) -> float:
        """Return by how many seconds the wall clock was set since the last look; 0.0: it was not."""
        ahead = _ahead()
        step = ahead - self._ahead
        self._before, self._ahead = self._ahead, ahead
        return step if abs(step) > STEP else 0.0

    def reading(self) -> Reading:
        """Return the clocks as they were at the last look."""
        return Reading(self._boot, self._ahead)

    def forget(self) -> None:
        """Tell of the last step again at the next look."""
        self._ahead = self._before
