"""6. Memory, idle CPU and wake-ups, time to ready, and how long the client program runs."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from bench import figures
from bench.bed import Bed, BenchError
from bench.clock import Clock
from bench.peers import CONTESTANTS, make
from bench.processes import Daemon
from bench.runs import Sizes, scene

_WORKER = "gk-worker\n"
_SETTLE = 2.0
"""Seconds after which a start is over."""
_RHYTHM = 8.0
"""Seconds in which whatever anybody does from time to time has been done twice at least."""


def measure(sizes: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Start everybody one by one; then let all be idle at the same time."""
    daemons: dict[str, Daemon] = {}
    with contextlib.ExitStack() as stack:
        for name in CONTESTANTS:
            if clock.allows(name, 2 * sizes.seconds + 2):
                bed = stack.enter_context(scene(clock))
                found[name] = _started(name, bed, sizes, daemons)
        time.sleep(_SETTLE)
        before = {name: (daemon.cpu(), daemon.wakeups()) for name, daemon in daemons.items()}
        begin = time.monotonic()
        time.sleep(max(2 * sizes.seconds, _RHYTHM))
        for name, daemon in daemons.items():
            passed = time.monotonic() - begin
            cpu, wakeups = before[name]
            memory = daemon.memory()
            found[name] |= {
                "cpu": (daemon.cpu() - cpu) / passed,
                "wakeups": (daemon.wakeups() - wakeups) / passed,
                "memory": sum(memory.values()),
                "processes": sorted(memory.values(), reverse=True),
                "first_and_worker": _first_and_worker(daemon, memory),
            }


def _started(name: str, bed: Bed, sizes: Sizes, daemons: dict[str, Daemon]) -> dict[str, Any]:
    try:
        contestant = make(name, bed)
        daemon = contestant.start()
        runs = []
        argv = contestant.client()
        for _ in range(sizes.starts):
            begin = time.monotonic()
            bed.run("env", f"HOME={bed.directory}", *argv, at=bed.client)
            runs.append(time.monotonic() - begin)
    except BenchError as error:
        return {"failed": str(error)}
    daemons[name] = daemon
    return {"ready": daemon.start_seconds, "client": figures.median(runs)}


def _first_and_worker(daemon: Daemon, memory: dict[int, float]) -> float | None:
    """Add up the first process and the largest of its workers, where it has any by name."""
    workers = [size for pid, size in memory.items() if Path(f"/proc/{pid}/comm").read_text() == _WORKER]
    return memory[daemon.process.pid] + max(workers) if workers else None
