"""Figures of a run that is well."""

from __future__ import annotations

from typing import Any

from gatekeeper.metrics.figures import Figures, Kernel, Queue, Stored
from gatekeeper.tallies import BUCKETS, PLACES, Took, Waiting


def figures(**other: Any) -> Figures:
    its: dict[str, Any] = {
        "version": "1.2.3",
        "started": 1000.0,
        "rules_since": 2000.0,
        "reload_succeeded": True,
        "observes": False,
        "clients": 3,
        "workers": 2,
        "replaced": dict.fromkeys(PLACES, 0) | {"worker": 4},
        "took": Took((1, 2, *[0] * (len(BUCKETS) - 2), 5), 0.5),
        "sockets": {("knocks", 1): Waiting(4096, 7)},
        "queues": {("knocks", 1): Queue(3, 8)},
        "stored": Stored(counters={"opened": 9, "would-no-grant": 2, "repaired": 1}, grants={"ssh": 6}),
        "kernel": Kernel(has_ruleset=True, members={"ssh": 5}, dropped={"no-tag": 11}),
        "tracked": (10, 100),
    }
    return Figures(**(its | other))
