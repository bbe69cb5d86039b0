"""How large a run is, and where it keeps its files."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.bed import Bed
from bench.clock import Clock


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything is done."""

    knocks: int
    """For each way of knocking."""
    flood_rates: tuple[float, ...]
    """Packets a second, besides none and the limit; without any, only the floods that matter most are sent."""
    flood_knocks: int
    """For each flood and way."""
    counts: tuple[int, ...]
    """Clients, and open grants."""
    opens: int
    """For each of these numbers."""
    rounds: int
    """Of iperf3 and round trips."""
    seconds: float
    """For what is looked at for a while."""
    starts: int
    """Of a client program."""
    budgets: tuple[tuple[str, float], ...]
    """Seconds for each part."""


QUICK = Sizes(
    knocks=8,
    flood_rates=(),
    flood_knocks=8,
    counts=(1, 1_000),
    opens=5,
    rounds=1,
    seconds=1.0,
    starts=5,
    budgets=(
        ("knock", 32),
        ("flood", 56),
        ("cpu", 28),
        ("throughput", 17),
        ("idle", 13),
        ("formats", 4),
        ("scale", 42),
    ),
)
FULL = Sizes(
    knocks=80,
    flood_rates=(10_000, 50_000, 100_000),
    flood_knocks=20,
    counts=(1, 1_000, 10_000),
    opens=10,
    rounds=3,
    seconds=5.0,
    starts=20,
    budgets=(
        ("knock", 145),
        ("flood", 260),
        ("cpu", 95),
        ("throughput", 80),
        ("idle", 35),
        ("formats", 8),
        ("scale", 257),
    ),
)


@contextlib.contextmanager
def scene(clock: Clock) -> Iterator[Bed]:
    """Make a bed, and a folder for a contestant's files; both go with all that is in them."""
    with tempfile.TemporaryDirectory(prefix="gatekeeper-bench-") as name, Bed(Path(name), clock) as bed:
        yield bed
