"""``gatekeeper flush``: takes everything of ours out of the kernel; ``run`` must be gone, for it would put it back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gatekeeper import noting, progress, stopping
from gatekeeper.confirm import ending
from gatekeeper.errors import GatekeeperError, UsageError
from gatekeeper.firewall import apply
from gatekeeper.store.lock import holder, of_this_namespace


def flush(state_dir: Path, *, stop: bool) -> tuple[list[str], str | None]:
    """Take everything out; with ``stop``, end ``run`` first. Returns what was done, and what to beware of.

    A ruleset that waits to be confirmed is waited for no longer: nothing is put back.

    Raises:
        UsageError: ``run`` is up, and is not to be stopped. Nothing was touched.
        GatekeeperError: it cannot be stopped, or a tool is missing or refused.
    """
    done: list[str] = []
    locks = _locks_here(state_dir)
    if locks and not stop:
        pids = ", ".join(sorted({str(holder(lock)) for lock in locks}))
        hint = "`gatekeeper flush --stop` stops it and takes everything out: THE PORTS ARE OPEN THEN"
        words = f"run is up (process {pids}), and would put it all back at once; nothing was touched"
        raise UsageError(words, hint)
    if ending.call_off():
        done.append("called off what waited for `gatekeeper confirm`")
    for lock in locks:
        pid = holder(lock)
        if pid is not None:  # one run holds both locks
            with progress.waiting("stopping run"):
                how = stopping.stop(lock)
            done.append(f"stopped run (process {pid}): {how}")
    removed = [f"removed {one}" for one in apply.flush()]
    words = noting.by_hand("run was stopped" if locks else None)
    complaint = noting.note(state_dir, "flushed", words) if removed or locks else None
    return done + removed, complaint


def _locks_here(state_dir: Path) -> list[Path]:
    """Name the locks by which a run in this network namespace is found."""
    found: list[Path] = []
    with contextlib.suppress(GatekeeperError):
        if holder(lock := of_this_namespace("lock")) is not None:
            found.append(lock)
    with contextlib.suppress(GatekeeperError):
        # A run that sees another /run, as in a container, is found by its state directory.
        if (pid := holder(lock := state_dir / "run.lock")) is not None and _is_in_our_namespace(pid):
            found.append(lock)
    return found


def _is_in_our_namespace(pid: int) -> bool:
    try:
        return os.path.samestat(Path(f"/proc/{pid}/ns/net").stat(), Path("/proc/self/ns/net").stat())
    except OSError:
        return True
