"""Which metrics there are, and what their samples are. Pure. docs/metrics.md has the same table.

No label's value comes from a client or a stranger: they are reasons, services, lanes, workers, processes; so there are
never more series than the rules have services.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from gatekeeper.firewall import drops
from gatekeeper.metrics.figures import Figures
from gatekeeper.model import Reason
from gatekeeper.tallies import BUCKETS

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
_WOULD = "would-"
_KERNELS = (drops.NO_TAG, drops.TOO_MANY_TAGGED, drops.TOO_MANY_STRANGERS, drops.NEVER)


class Metric(NamedTuple):
    """One metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class Sample(NamedTuple):
    """A value; its labels in the order in which the metric has them."""

    value: float
    labels: tuple[str, ...] = ()


METRICS = (
    Metric("gatekeeper_build_info", GAUGE, ("version",), "The version that runs; the value is always 1."),
    Metric("gatekeeper_start_time_seconds", GAUGE, (), "When run was started, in Unix time."),
    Metric(
        "gatekeeper_rules_loaded_timestamp_seconds", GAUGE, (), "When the rules in force were loaded, in Unix time."
    ),
    Metric(
        "gatekeeper_last_reload_successful",
        GAUGE,
        (),
        "1, or 0 if the last reload failed: then the rules from before are in force.",
    ),
    Metric("gatekeeper_observe_mode", GAUGE, (), "1 while run only observes, and nothing is dropped."),
    Metric("gatekeeper_clients", GAUGE, (), "Clients in the rules in force."),
    Metric("gatekeeper_workers", GAUGE, (), "Workers in the rules in force."),
    Metric("gatekeeper_ruleset_loaded", GAUGE, (), "0 if nothing of ours is in the kernel: the ports are open to all."),
    Metric("gatekeeper_grants", GAUGE, ("service",), "Live grants in the store."),
    Metric("gatekeeper_kernel_members", GAUGE, ("service",), "Sources that the kernel lets in by a grant."),
    Metric(
        "gatekeeper_decisions_total",
        COUNTER,
        ("reason", "mode"),
        "Decisions by reason (docs/reasons.md). mode is guard, or observe for what would have been refused.",
    ),
    Metric(
        "gatekeeper_kernel_dropped_packets_total",
        COUNTER,
        ("reason",),
        "Packets that the kernel dropped without asking a worker, since the ruleset was loaded.",
    ),
    Metric(
        "gatekeeper_knock_to_grant_seconds",
        HISTOGRAM,
        (),
        "From the moment in which a worker takes a knock until its grant is in the kernel.",
    ),
    Metric(
        "gatekeeper_queue_socket_bytes",
        GAUGE,
        ("lane", "worker"),
        "Memory of packets that wait for a worker to take them from its queue.",
    ),
    Metric(
        "gatekeeper_queue_socket_dropped_packets_total",
        COUNTER,
        ("lane", "worker"),
        "Packets that did not fit into the queue's socket, since the queue was bound.",
    ),
    Metric(
        "gatekeeper_queue_packets",
        GAUGE,
        ("lane", "worker"),
        "Packets without a verdict: those that wait, and those that a worker holds. Only where run is root.",
    ),
    Metric(
        "gatekeeper_queue_dropped_packets_total",
        COUNTER,
        ("lane", "worker"),
        "Packets dropped because the queue was full, or its socket. Only where run is root.",
    ),
    Metric("gatekeeper_queue_overruns_total", COUNTER, (), "How often a worker was told that packets had been lost."),
    Metric("gatekeeper_repairs_total", COUNTER, (), "Repairs of the ruleset after others had changed it."),
    Metric("gatekeeper_repair_failures_total", COUNTER, (), "Repairs that did not work at once; they are tried again."),
    Metric(
        "gatekeeper_mended_members_total",
        COUNTER,
        (),
        "Members of sets that others had put in or taken out, and that were put right.",
    ),
    Metric(
        "gatekeeper_process_replacements_total",
        COUNTER,
        ("process",),
        "How often a process of run has died, or hung, and was replaced.",
    ),
    Metric("gatekeeper_tracked_connections", GAUGE, (), "Connections that the kernel tracks on this machine."),
    Metric("gatekeeper_tracked_connections_limit", GAUGE, (), "How many it can track."),
    Metric(
        "gatekeeper_unreadable",
        GAUGE,
        ("part",),
        "1 for what could not be read at this scrape (store, kernel, queues): its metrics are missing.",
    ),
)
"""All there are, in the order in which they are told."""


def samples(of: Figures) -> dict[str, list[Sample]]:
    """Say what each metric has; one that has nothing now is not there."""
    found = {
        "gatekeeper_build_info": [Sample(1, (of.version,))],
        "gatekeeper_start_time_seconds": [Sample(of.started)],
        "gatekeeper_rules_loaded_timestamp_seconds": [Sample(of.rules_since)],
        "gatekeeper_observe_mode": [Sample(of.observes)],
        "gatekeeper_clients": [Sample(of.clients)],
        "gatekeeper_workers": [Sample(of.workers)],
        "gatekeeper_process_replacements_total": _by_one(of.replaced),
        "gatekeeper_queue_socket_bytes": [_of_queue(where, one.size) for where, one in of.sockets.items()],
        "gatekeeper_queue_socket_dropped_packets_total": [
            _of_queue(where, one.lost) for where, one in of.sockets.items()
        ],
        "gatekeeper_unreadable": [
            Sample(one is None, (part,))
            for part, one in (("store", of.stored), ("kernel", of.kernel), ("queues", of.queues))
        ],
    }
    if of.reload_succeeded is not None:
        found["gatekeeper_last_reload_successful"] = [Sample(of.reload_succeeded)]
    if of.queues is not None:
        found["gatekeeper_queue_packets"] = [_of_queue(where, one.waiting) for where, one in of.queues.items()]
        dropped = [_of_queue(where, one.dropped) for where, one in of.queues.items()]
        found["gatekeeper_queue_dropped_packets_total"] = dropped
    if of.stored is not None:
        found |= _counted(of.stored.counters, is_trial=of.observes)
        found["gatekeeper_grants"] = _by_one(of.stored.grants)
    if of.kernel is not None:
        found["gatekeeper_ruleset_loaded"] = [Sample(of.kernel.has_ruleset)]
        found["gatekeeper_kernel_members"] = _by_one(of.kernel.members)
        dropped_there = {reason: of.kernel.dropped.get(reason, 0) for reason in _KERNELS}
        found["gatekeeper_kernel_dropped_packets_total"] = _by_one(dropped_there)
    if of.tracked is not None:
        found["gatekeeper_tracked_connections"] = [Sample(of.tracked[0])]
        found["gatekeeper_tracked_connections_limit"] = [Sample(of.tracked[1])]
    return found


def buckets(of: Figures) -> list[tuple[str, float]]:
    """Say how many knocks took at most how long: each bucket of the histogram has those before in it."""
    ends = [*map(str, BUCKETS), "+Inf"]
    return list(zip(ends, map(float, accumulate(of.took.counts)), strict=True))


def _counted(counters: Mapping[str, int], *, is_trial: bool) -> dict[str, list[Sample]]:
    """Tell the store's counters apart. What else is in there (names of an older version) is nobody's label."""
    decisions = [Sample(counters.get(reason, 0), (reason.value, "guard")) for reason in Reason]
    decisions += [
        Sample(number, (reason.value, "observe"))
        for reason in Reason
        if (number := counters.get(_WOULD + reason, 0)) or is_trial
    ]
    return {
        "gatekeeper_decisions_total": decisions,
        "gatekeeper_queue_overruns_total": [Sample(counters.get("queue-overrun", 0))],
        "gatekeeper_repairs_total": [Sample(counters.get("repaired", 0))],
        "gatekeeper_repair_failures_total": [Sample(counters.get("repair-failed", 0))],
        "gatekeeper_mended_members_total": [Sample(counters.get("mended", 0))],
    }


def _by_one(numbers: Mapping[str, int]) -> list[Sample]:
    return [Sample(number, (name,)) for name, number in numbers.items()]


def _of_queue(where: tuple[str, int], number: int) -> Sample:
    lane, worker = where
    return Sample(number, (lane, str(worker)))


def labels_of(names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Say which labels the series have that these metrics are told as: a histogram has three kinds of them."""
    known: dict[str, frozenset[str]] = {}
    for metric in METRICS:
        if metric.name not in names:
            continue
        if metric.kind == HISTOGRAM:
            known[f"{metric.name}_bucket"] = frozenset({*metric.labels, "le"})
            known[f"{metric.name}_sum"] = known[f"{metric.name}_count"] = frozenset(metric.labels)
        else:
            known[metric.name] = frozenset(metric.labels)
    return known
