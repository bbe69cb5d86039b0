"""1. Knock to connected: with no sleep between, and with polling."""

from __future__ import annotations

from typing import Any

from bench import figures
from bench.attempts import Result, Way, attempt, never, often
from bench.bed import BenchError
from bench.clock import Clock
from bench.peers import CONTESTANTS, make
from bench.runs import Sizes, scene

WAYS = {
    "no sleep": Way(never, patience=4),
    "polling": Way(often, patience=4),
}


def measure(sizes: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Measure everybody, each in both ways."""
    for name in CONTESTANTS:
        found[name] = {}
        for title, way in WAYS.items():
            if clock.allows(f"{name}, {title}", 5):
                found[name][title] = _one(name, clock, way, sizes.knocks)


def _one(name: str, clock: Clock, way: Way, count: int) -> dict[str, Any]:
    try:
        with scene(clock) as bed:
            bed.serve()
            contestant = make(name, bed)
            contestant.start()
            attempt(bed, contestant, way, 2)  # everybody's first time costs more
            return summary(attempt(bed, contestant, way, count))
    except BenchError as error:
        return {"failed": str(error)}


def summary(results: list[Result]) -> dict[str, Any]:
    """Say how attempts went."""
    seconds = [one.seconds for one in results if one.seconds is not None]
    return {
        "attempts": len(results),
        "connected": len(seconds),
        "lost_first_syns": sum(one.resent > 0 or one.seconds is None for one in results),
        "median": figures.median(seconds),
        "p99": figures.percentile(seconds, 0.99),
        "seconds": seconds,
    }
