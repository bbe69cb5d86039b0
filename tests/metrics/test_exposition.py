"""What Prometheus reads: by its own parser, and by the rules that it has for names."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gatekeeper.metrics import exposition, render
from gatekeeper.metrics.exposition import COUNTER, GAUGE, HISTOGRAM, METRICS, labels_of
from gatekeeper.metrics.figures import Stored
from gatekeeper.model import Reason
from tests.metrics.figures import figures


def read(**other: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return each series of the text, as Prometheus' parser has it."""
    families: list[Metric] = list(text_string_to_metric_families(render.text(figures(**other)).decode()))
    found = {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}
    assert len(found) == sum(len(family.samples) for family in families), "a series stands twice"
    return found


def value(name: str, series: dict[Any, float], **labels: str) -> float:
    return series[name, frozenset(labels.items())]


def test_every_metric_is_told_with_the_labels_that_it_has() -> None:
    seen: dict[str, set[str]] = {}
    for name, labels in read():
        seen.setdefault(name, set()).update(key for key, _ in labels)
    assert seen == {name: set(labels) for name, labels in labels_of(one.name for one in METRICS).items()}


def test_the_values_are_those_of_the_run() -> None:
    series = read()
    assert value("gatekeeper_build_info", series, version="1.2.3") == 1
    assert value("gatekeeper_decisions_total", series, reason="opened", mode="guard") == 9
    assert value("gatekeeper_decisions_total", series, reason="no-grant", mode="observe") == 2
    assert value("gatekeeper_grants", series, service="ssh") == 6
    assert value("gatekeeper_kernel_members", series, service="ssh") == 5
    assert value("gatekeeper_kernel_dropped_packets_total", series, reason="no-tag") == 11
    assert value("gatekeeper_queue_socket_bytes", series, lane="knocks", worker="1") == 4096
    assert value("gatekeeper_queue_packets", series, lane="knocks", worker="1") == 3
    assert value("gatekeeper_process_replacements_total", series, process="worker") == 4
    assert value("gatekeeper_last_reload_successful", series) == 1
    assert value("gatekeeper_ruleset_loaded", series) == 1


def test_the_histogram_adds_up_and_ends_in_all() -> None:
    series = read()
    name = "gatekeeper_knock_to_grant_seconds"
    buckets = {end: value(f"{name}_bucket", series, le=end) for end in ("0.0005", "0.001", "5.0", "+Inf")}
    assert buckets == {"0.0005": 1, "0.001": 3, "5.0": 3, "+Inf": 8}
    assert value(f"{name}_count", series) == 8
    assert value(f"{name}_sum", series) == 0.5


def test_every_reason_is_there_from_the_start_so_that_its_first_one_is_an_increase() -> None:
    series = read(stored=Stored(counters={}, grants={}))
    told = {dict(labels)["reason"] for name, labels in series if name == "gatekeeper_decisions_total"}
    assert told == {reason.value for reason in Reason}


@pytest.mark.parametrize("part", ["store", "kernel", "queues"])
def test_what_could_not_be_read_is_left_out_and_said_so(part: str) -> None:
    """Never a zero that is none."""
    field, gone = {
        "store": ("stored", "gatekeeper_grants"),
        "kernel": ("kernel", "gatekeeper_ruleset_loaded"),
        "queues": ("queues", "gatekeeper_queue_packets"),
    }[part]
    series = read(**{field: None})
    assert value("gatekeeper_unreadable", series, part=part) == 1
    assert gone not in {name for name, _ in series}
    assert value("gatekeeper_clients", series) == 3


def test_no_counter_of_the_store_makes_a_label() -> None:
    """Its names come from workers, too, and one may have been taken over."""
    hostile = {'x"} 1\ngatekeeper_clients 99\n#': 5, "would-": 1, "would-x": 1, "a" * 60: 1}
    text = render.text(figures(stored=Stored(counters=hostile, grants={}))).decode()
    assert "99" not in text
    assert "aaa" not in text


def test_names_are_as_prometheus_wants_them() -> None:
    """https://prometheus.io/docs/practices/naming/, which ``promtool check metrics`` goes by."""
    for name, kind, labels, words in METRICS:
        assert re.fullmatch(r"gatekeeper(_[a-z]+)+", name), name
        assert (kind == COUNTER) == name.endswith("_total"), name
        assert kind in {GAUGE, COUNTER, HISTOGRAM}
        assert not re.search(r"_(milliseconds|ms|minutes|hours|kilobytes|percent|count|sum|bucket)(_|$)", name), name
        assert words.endswith("."), name
        assert len(set(labels)) == len(labels)
        assert set(labels) <= {"version", "service", "reason", "mode", "lane", "worker", "process", "part"}
    assert len({one.name for one in METRICS}) == len(METRICS)


def test_a_run_that_observes_tells_what_would_have_been_from_the_start() -> None:
    series = read(observes=True, stored=Stored(counters={}, grants={}))
    assert value("gatekeeper_decisions_total", series, reason="no-grant", mode="observe") == 0
    assert exposition.samples(figures(observes=True))["gatekeeper_observe_mode"][0].value == 1
