"""Runs the commands of a plan, as argument lists: what belongs to a ruleset that stays, or to one that goes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence

_TIMEOUT = 60.0


def carry_out(commands: Iterable[Sequence[str]]) -> list[str]:
    """Run them one after the other; return what went wrong, in words. One that fails does not keep the others."""
    complaints: list[str] = []
    for argv in commands:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as failure:
            complaints.append(f"{argv[0]} failed: {failure}")
            continue
        if done.returncode:
            words = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            complaints.append(f"{argv[0]} failed: {words}")
    return complaints
