"""2. Good knocks while junk floods the knock port."""

from __future__ import annotations

import os
import time
from typing import Any

from bench.attempts import RETRIES, Way, attempt, now_and_then
from bench.bed import Bed, BenchError
from bench.clock import Clock
from bench.junk import Force, capture, flood
from bench.peers import CONTESTANTS, make
from bench.peers.contestant import Contestant, Shape
from bench.runs import Sizes, scene

_BEFORE = 0.3
"""Seconds of flood before the first knock."""
_SHORT, _LONG = 4.0, 9.0
"""Seconds that one flood takes, about."""
_RETRIED = {Shape.TAGS, Shape.REPLAY, Shape.SPOOFED_TAGS}
_TELLS_SENDERS_APART = "gatekeeper"
ONCE = Way(now_and_then, patience=1, apart=0.05)
"""One knock, and a second to be let in."""
AGAIN = Way(now_and_then, patience=3, knocks=RETRIES, apart=0.05)
"""As `gatekeeper connect` does it: a fresh knock after 150 ms, and so on, for 3 s."""


def measure(sizes: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Measure everybody under one flood after the other; the first ones matter most."""
    found |= {name: [] for name in CONTESTANTS}
    for shape, rate, senders in _plan(sizes):
        seconds = _LONG if shape in _RETRIED else _SHORT
        for name in CONTESTANTS:
            if shape is Shape.SPOOFED_TAGS and name != _TELLS_SENDERS_APART:
                continue  # to the others it is the same as without forging
            what = f"{name}, {shape}, {'the limit' if rate is None else int(rate)}, {senders} sender(s)"
            if clock.allows(what, seconds):
                found[name].append(_one(name, clock, (shape, rate, senders), sizes.flood_knocks))


def _plan(sizes: Sizes) -> list[tuple[Shape, float | None, int]]:
    """List what is sent: the shape, the rate (nothing: the limit), and by how many senders."""
    most = max(os.cpu_count() or 1, 2)
    first: list[tuple[Shape, float | None, int]] = [
        (Shape.RANDOM, 0, 1),
        (Shape.RANDOM, None, 1),
        (Shape.TAGS, None, 1),
    ]
    if not sizes.flood_rates:
        return first
    limits: list[tuple[Shape, float | None, int]] = [(Shape.RANDOM, None, most), (Shape.REPLAY, None, 1)]
    limits.append((Shape.SPOOFED_TAGS, None, 1))
    rates: list[tuple[Shape, float | None, int]] = [(Shape.RANDOM, rate, 1) for rate in sizes.flood_rates]
    return [*first, *limits, *rates, (Shape.SHAPE, None, 1), (Shape.SPOOFED, None, 1)]


def _one(name: str, clock: Clock, what: tuple[Shape, float | None, int], count: int) -> dict[str, Any]:
    row: dict[str, Any] = {"shape": what[0].value, "asked": what[1], "senders": what[2]}
    try:
        with scene(clock) as bed:
            bed.serve()
            contestant = make(name, bed)
            contestant.start()
            return row | _flooded(bed, contestant, what, count)
    except BenchError as error:
        return row | {"failed": str(error)}


def _flooded(bed: Bed, contestant: Contestant, what: tuple[Shape, float | None, int], count: int) -> dict[str, Any]:
    shape, rate, senders = what
    is_captured = shape in {*_RETRIED, Shape.SHAPE}
    captured = capture(bed, contestant) if is_captured else []
    packets = contestant.junk(shape, captured)
    contestant.make_ready(count * (1 + len(RETRIES) * (shape in _RETRIED)))
    with flood(bed, contestant, packets, Force(rate, senders)) as sent:
        time.sleep(_BEFORE if rate != 0 else 0)
        once = attempt(bed, contestant, ONCE, count)
        again = attempt(bed, contestant, AGAIN, count) if shape in _RETRIED else []
    row: dict[str, Any] = {
        "sent": sent.sent,
        "seconds": sent.seconds,
        "arrived": sent.arrived,
        "rate": sent.rate,
        "knocks": count,
        "within_1s": sum(one.seconds is not None for one in once) / count,
        "looked_at": sent.looked_at,
    }
    if again:
        row["within_3s_with_retries"] = sum(one.seconds is not None for one in again) / count
    return row
