"""4. Time to open with many clients, and with many open grants."""

from __future__ import annotations

from typing import Any

from bench.attempts import Way, attempt, often
from bench.bed import BenchError
from bench.clock import Clock
from bench.knock import summary
from bench.peers import CONTESTANTS, make
from bench.runs import Sizes, scene

_MANY = 10_000
_OF_ONE = 4_000
"""Grants of one client, at the most."""
_SHORT, _LONG = 3.0, 12.0
"""Seconds that one takes, about; with many, the longer."""
_OPENS = Way(often, patience=5, apart=0.1)


def measure(sizes: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Measure everybody with each number of clients, and of grants; small numbers first."""
    found |= {kind: {name: {} for name in CONTESTANTS} for kind in ("clients", "grants")}
    hopeless: set[tuple[str, str]] = set()
    for count in sizes.counts:
        for kind in ("clients", "grants"):
            for name in CONTESTANTS:
                row = found["clients"][name].get("1") if kind == "grants" and count == 1 else None  # the same again
                if row is None:
                    seconds = _LONG if count >= _MANY else _SHORT
                    if (kind, name) in hopeless or not clock.allows(f"{name}, {count} {kind}", seconds):
                        continue
                    row = _one(name, clock, sizes.opens, **{kind: count})
                found[kind][name][str(count)] = row
                if "failed" in row or not row["connected"]:
                    hopeless.add((kind, name))  # it will be no better with more


def _one(name: str, clock: Clock, opens: int, *, clients: int = 1, grants: int = 0) -> dict[str, Any]:
    try:
        with scene(clock) as bed:
            bed.serve()
            contestant = make(name, bed, clients=max(clients, -(-grants // _OF_ONE)))
            daemon = contestant.start()
            if grants > 1:
                contestant.grant_many(grants)
            attempt(bed, contestant, _OPENS, 1)
            return {**summary(attempt(bed, contestant, _OPENS, opens)), "start": daemon.start_seconds}
    except BenchError as error:
        return {"failed": str(error)}
