"""Figures as the text that Prometheus reads (exposition format 0.0.4), by its own library.

The library is imported here alone, and this room by the meter alone, once it runs: it takes 50 ms and some megabytes,
which nobody else needs.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from gatekeeper.metrics.exposition import COUNTER, HISTOGRAM, METRICS, buckets, samples
from gatekeeper.metrics.figures import Figures


def text(figures: Figures) -> bytes:
    """Write it."""
    return generate_latest(_Told(figures))


class _Told(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Family]:
        """Yield what the library writes."""
        found = samples(self._figures)
        for name, kind, labels, help_text in METRICS:
            if kind == HISTOGRAM:
                family = HistogramMetricFamily(name, help_text)
                family.add_metric([], buckets(self._figures), self._figures.took.seconds)
                yield family
                continue
            if name not in found:
                continue
            make = CounterMetricFamily if kind == COUNTER else GaugeMetricFamily
            one = make(name, help_text, labels=labels)
            for value, its in found[name]:
                one.add_metric(its, float(value))
            yield one
