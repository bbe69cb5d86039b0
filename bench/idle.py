"""6. Memory, idle CPU and wake-ups, time to ready, and how long the client program runs."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from bench import figures
from bench.bed import Bed, BenchError
from bench.clock import Clock
from bench.peers import CONTESTANTS, make
from bench.processes import Daemon
from bench.runs import Sizes, scene

_SETTLE = 2.0
"""Seconds after which a start is over."""


def measure(sizes: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Start everybody one by one; then let all be idle at the same time."""
    daemons: dict[str, tuple[Bed, Daemon]] = {}
    with contextlib.ExitStack() as stack:
        for name in CONTESTANTS:
            if clock.allows(name, 2 * sizes.seconds + 2):
                bed = stack.enter_context(scene(clock))
                found[name] = _started(name, bed, sizes, daemons)
        time.sleep(_SETTLE)
        before = {name: (daemon.cpu(), daemon.wakeups()) for name, (_, daemon) in daemons.items()}
        begin = time.monotonic()
        time.sleep(2 * sizes.seconds)
        for name, (bed, daemon) in daemons.items():
            passed = time.monotonic() - begin
            cpu, wakeups = before[name]
            memory = daemon.memory()
            found[name] |= {
                "cpu": (daemon.cpu() - cpu) / passed,
                "wakeups": (daemon.wakeups() - wakeups) / passed,
                "memory": sum(memory.values()),
                "processes": sorted(memory.values(), reverse=True),
                "first_and_worker": _first_and_worker(bed, daemon, memory),
            }


def _started(name: str, bed: Bed, sizes: Sizes, daemons: dict[str, tuple[Bed, Daemon]]) -> dict[str, Any]:
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
    daemons[name] = (bed, daemon)
    return {"ready": daemon.start_seconds, "client": figures.median(runs)}


def _first_and_worker(bed: Bed, daemon: Daemon, memory: dict[int, float]) -> float | None:
    """Add up the first process and the largest of those that read a queue, where there is a queue."""
    readers = [memory[row[1]] for row in bed.queues() if row[1] in memory]
    return memory[daemon.process.pid] + max(readers) if readers else None
