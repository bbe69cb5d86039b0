"""docs/metrics.md, the dashboard and the alert rules speak of metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatekeeper.firewall import drops
from gatekeeper.firewall.lanes import Lane
from gatekeeper.metrics.exposition import METRICS, labels_of
from gatekeeper.model import Reason
from gatekeeper.rules import parse as load
from gatekeeper.rules.metrics import PORT
from gatekeeper.tallies import PLACES

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
ALERTS = yaml.safe_load((DOCS / "alerts.yaml").read_text())
KNOWN = labels_of(one.name for one in METRICS)
PROMETHEUS = {"up": frozenset({"job"})}
ITS_OWN = {"instance", "job"}
"""Labels that Prometheus adds to each series."""
REASONS = {reason.value for reason in Reason} | {
    drops.NO_TAG,
    drops.TOO_MANY_TAGGED,
    drops.TOO_MANY_STRANGERS,
    drops.NEVER,
}
VALUES = {
    "reason": REASONS,
    "mode": {"guard", "observe"},
    "lane": {one.name.lower() for one in Lane},
    "process": set(PLACES),
    "part": {"store", "kernel", "queues"},
}
_WORDS = {"sum", "min", "max", "rate", "increase", "histogram_quantile", "time", "label_values", "and", "or"}


def of_dashboard() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


EXPRESSIONS = [*of_dashboard(), *(rule["expr"] for rule in rules())]


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each metric of an expression with the matchers behind it: enough of PromQL for what we write."""
    bare = re.sub(r"\b(?:by|on|without) \(([^)]*)\)", "", expression)
    bare = re.sub(r", instance\)$", ")", bare)
    for name, matchers in re.findall(r"\b([a-z_]+)\b(?:\{([^}]*)\})?(?![^{]*\})", bare):
        if name not in _WORDS and not re.fullmatch(r"[a-z]|__rate_interval|_+", name):
            yield name, dict(re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', matchers))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    found = list(selectors(expression))
    assert found, "no metric was seen in it"
    known = KNOWN | PROMETHEUS
    seen: set[str] = set(ITS_OWN)
    for name, matchers in found:
        assert name in known, name
        assert set(matchers) <= known[name] | ITS_OWN, name
        seen |= known[name]
        for key in matchers.keys() & VALUES.keys():
            assert set(matchers[key].split("|")) <= VALUES[key], matchers
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {one.strip() for one in grouped.split(",")} <= seen


def test_the_tokenizer_sees_what_is_there() -> None:
    expression = 'sum by (le) (rate(gatekeeper_a_total{reason=~"no-tag|x", b!="c"}[5m])) > 0 or up == 0'
    assert list(selectors(expression)) == [("gatekeeper_a_total", {"reason": "no-tag|x", "b": "c"}), ("up", {})]


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for expression in of_dashboard() for name, _ in selectors(expression)}
    assert set(KNOWN) <= shown


def test_a_counter_is_never_shown_as_it_is() -> None:
    """It says nothing: how fast it grows does."""
    counters = [one.name for one in METRICS if one.kind == "counter"]
    for expression in EXPRESSIONS:
        for name in counters:
            for at in re.finditer(rf"\b{name}\b", expression):
                assert re.search(r"(rate|increase)\($", expression[: at.start()]), expression


def test_legends_and_words_name_labels_that_the_result_has() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = {label for name, _ in selectors(target["expr"]) for label in KNOWN[name]}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
    for rule in rules():
        labels = {label for name, _ in selectors(rule["expr"]) for label in (KNOWN | PROMETHEUS)[name]} | ITS_OWN
        if by := re.search(r"\bby \(([^)]*)\)", rule["expr"]):
            labels = {one.strip() for one in by[1].split(",")}
        assert set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))) <= labels, rule["alert"]


def test_every_alert_says_what_is_wrong_how_bad_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert DASHBOARD["schemaVersion"] >= 38, "of Grafana 10"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        for one in [panel, *panel.get("targets", ())]:
            if panel["type"] != "row":
                assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, "no server's own"


def test_the_table_of_metrics_says_what_the_program_says() -> None:
    rows = re.findall(r"^\| `gatekeeper_\w+` \|.*$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    expected = [
        f"| `{name}` | {kind} | {', '.join(f'`{one}`' for one in labels) or '-'} | {words} |"
        for name, kind, labels, words in METRICS
    ]
    assert rows == expected


def test_the_alerts_that_the_page_names_are_those_that_there_are() -> None:
    named = re.findall(r"^\| `(Gatekeeper\w+)` \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert named == [rule["alert"] for rule in rules()]


def test_the_examples_of_the_page_can_be_used() -> None:
    """Those of rules.yaml; and the last, which is Prometheus' own, names the rules and the default address."""
    blocks = re.findall(r"^```ya?ml\n(.*?)^```", (DOCS / "metrics.md").read_text(), re.MULTILINE | re.DOTALL)
    ours = [block for block in blocks if block.startswith("metrics:")]
    assert len(ours) == 2
    for block in ours:
        text = block if "services:" in block else f"{block}services: {{ssh: {{port: tcp/22, ttl: 1h}}}}\n"
        assert load(text.encode(), file="rules.yaml", read_key=lambda _: b"")[0].metrics is not None
    (theirs,) = (yaml.safe_load(block) for block in blocks if block not in ours)
    assert theirs["scrape_configs"][0]["static_configs"][0]["targets"] == [f"127.0.0.1:{PORT}"]
    assert theirs["scrape_configs"][0]["job_name"] == "gatekeeper"
