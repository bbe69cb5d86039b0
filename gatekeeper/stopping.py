"""Stops ``gatekeeper run``, or tells it to reload, whoever started it: a terminal, systemd, nobody any more.

Knows nothing of firewalls.

A run is found by the lock that it holds, not by a name or a number alone: nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from gatekeeper.errors import GatekeeperError
from gatekeeper.store.lock import holder

SYSTEMD = Path("/run/systemd/system")
"""There if, and only if, systemd runs this machine (sd_booted(3))."""
_GLANCE = 0.02
_TOOL_TIMEOUT = 10.0


def holders(lock: Path) -> list[int]:
    """List the processes that hold a lock (those that were forked with it hold it too), the oldest number first."""
    try:
        wanted = lock.lstat()  # never what a link names: others hold locks too
    except OSError:
        return []
    numbers = sorted(int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit())
    return [pid for pid in numbers if pid != os.getpid() and _holds(pid, wanted)]


def _holds(pid: int, wanted: os.stat_result) -> bool:
    with contextlib.suppress(OSError):  # it ended while we looked
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(fd.stat(), wanted):
                    # "lock: 1: FLOCK  ADVISORY  WRITE ..." (fs/proc/fd.c): others only look at the file
                    told = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text().split()
                    if "FLOCK" in told and "WRITE" in told:
                        return True
    return False


def ask(lock: Path) -> str:
    """Ask whoever holds a lock to stop; return how. systemd is asked for its own, and then does not start it again."""
    there = holders(lock)
    pid = holder(lock)
    if pid in there:
        unit = unit_of(pid)
        if unit is not None and _systemctl("stop", "--no-block", unit) is not None:
            return f"systemctl stop {unit}"
        there = [pid]
    for one in there:
        _signal(one, lock, signal.SIGTERM)
    return f"SIGTERM to process {', '.join(map(str, there))}"


def hang_up(lock: Path) -> int | None:
    """Send SIGHUP to whoever holds a lock; return its process number, or ``None`` if nobody was found."""
    there = holders(lock)
    pid = holder(lock)
    pid = pid if pid in there else next(iter(there), None)
    if pid is not None:
        _signal(pid, lock, signal.SIGHUP)
    return pid


def kill(lock: Path) -> None:
    """End everybody who holds a lock, without a warning."""
    for pid in holders(lock):
        _signal(pid, lock, signal.SIGKILL)


def wait_until_free(lock: Path, *, patience: float) -> bool:
    """Wait so many seconds for a lock to be let go; return whether it was."""
    deadline = time.monotonic() + patience
    while holder(lock) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_GLANCE)
    return True


def stop(lock: Path, *, patience: float = 5.0) -> str:
    """Stop whoever holds a lock: ask, wait, and then end it; return how.

    Raises:
        GatekeeperError: it is still there.
    """
    how = ask(lock)
    if wait_until_free(lock, patience=patience):
        return how
    kill(lock)
    if wait_until_free(lock, patience=patience):
        return f"{how}, and then SIGKILL"
    raise GatekeeperError(f"run cannot be stopped ({lock} is held)", f"`fuser {lock}` tells by whom")


def unit_of(pid: int) -> str | None:
    """Name the systemd unit of which a process is the main one; ``None`` if there is none."""
    if not SYSTEMD.exists():
        return None
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    unit = unit_in(text)
    if unit is None:
        return None
    main = _systemctl("show", "--property=MainPID", "--value", unit)
    return unit if main is not None and main.strip() == str(pid) else None


def unit_in(cgroup: str) -> str | None:
    """Read the name of a service in the text of ``/proc/PID/cgroup`` (cgroups(7), both versions)."""
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        last = path.rsplit("/", 1)[-1]
        if controllers in {"", "name=systemd"} and last.endswith(".service"):
            return last
    return None


def _systemctl(*words: str) -> str | None:
    """Run systemctl; ``None`` if it failed."""
    try:
        done = subprocess.run(
            ["systemctl", *words],  # noqa: S607  (systemd's own place differs between distributions)
            capture_output=True,
            text=True,
            timeout=_TOOL_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _signal(pid: int, lock: Path, number: signal.Signals) -> None:
    """Signal a process if it still holds the lock: its number may be somebody else's by now."""
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if _holds(pid, lock.lstat()):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
