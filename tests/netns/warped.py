"""Runs the command line with a clock that is wrong, or until a step at which it is killed.

``python warped.py CLOCK-FILE STEP ARGUMENTS``: the clock is off by as many seconds as the file says, at any
moment. STEP names a function (``module:Class.name``) at whose beginning the process is killed (kill -9), and
the supervisor that would replace it, or behind whose end (``+module:Class.name``); ``-`` stands for none
of either.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gatekeeper import cli

SUPERVISOR = os.getpid()


def warp_clock(file: Path) -> None:
    """Make the wall clock wrong by what the file says."""
    right, right_ns = time.time, time.time_ns
    clock = os.open(file, os.O_RDONLY | os.O_CREAT, 0o600)  # the worker cannot open anything later

    def off() -> float:
        os.lseek(clock, 0, os.SEEK_SET)
        return float(os.read(clock, 100) or 0)

    time.time = lambda: right() + off()
    time.time_ns = lambda: right_ns() + int(off() * 1e9)


def die_at(step: str) -> None:
    """Replace a function by one that kills the process before or after it does its work."""
    module, _, path = step.lstrip("+").partition(":")
    owner, name = path.split(".")
    place: Any = getattr(importlib.import_module(module), owner)
    original = getattr(place, name)

    def deadly(*arguments: Any, **more: Any) -> Any:
        if step.startswith("+"):
            original(*arguments, **more)
        for process in (SUPERVISOR, os.getpid()):
            os.kill(process, signal.SIGKILL)

    setattr(place, name, deadly)


if __name__ == "__main__":
    if sys.argv[1] != "-":
        warp_clock(Path(sys.argv[1]))
    if sys.argv[2] != "-":
        die_at(sys.argv[2])
    raise SystemExit(cli.main(sys.argv[3:]))
