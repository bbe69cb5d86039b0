"""4. Time to open with many clients, and with many open grants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.attempts import Way, attempt, often
from bench.bed import Bed, BenchError
from bench.clock import Clock
from bench.knock import summary
from bench.peers import CONTESTANTS, make
from bench.peers.contestant import Contestant
from bench.runs import Sizes, workshop

_OPENS = Way(often, patience=5, apart=0.15)
_KNOCKS = 10


def measure(sizes: Sizes, clock: Clock) -> dict[str, Any]:
    """Measure everybody with each number of clients, and of grants; small numbers first."""
    found: dict[str, Any] = {"clients": {name: {} for name in CONTESTANTS}, "grants": {name: {} for name in CONTESTANTS}}
    hopeless: set[tuple[str, str]] = set()
    for count in sizes.counts:
        for kind in ("grants", "clients"):
            for name in CONTESTANTS:
                if (kind, name) in hopeless or not clock.allows(f"{name}, {count} {kind}", 3 if count < 10_000 else 12):
                    continue
                if count == 1 and name in found["grants"] and found["grants"][name]:
                    found[kind][name]["1"] = found["grants"][name]["1"]  # one client, no other grants: the same again
                    continue
                row = _one(name, **{kind: count})
                found[kind][name][str(count)] = row
                if "failed" in row or not row["connected"]:
                    hopeless.add((kind, name))  # it will be no better with more
    return found


def _one(name: str, *, clients: int = 1, grants: int = 0) -> dict[str, Any]:
    def prepare(contestant: Contestant) -> None:
        if grants > 1:
            contestant.grant_many(grants)

    return _opens(name, clients, prepare)


def _opens(name: str, clients: int, prepare: Callable[[Contestant], None]) -> dict[str, Any]:
    try:
        with workshop() as directory, Bed(directory) as bed:
            bed.serve()
            contestant = make(name, bed, clients=clients)
            daemon = contestant.start()
            prepare(contestant)
            attempt(bed, contestant, _OPENS, 1)
            return {**summary(attempt(bed, contestant, _OPENS, _KNOCKS)), "start": daemon.start_seconds}
    except BenchError as error:
        return {"failed": str(error)}
