from __future__ import annotations

from typing import Any

import pytest

from gatekeeper import differences, rules
from gatekeeper.problems import RulesError
from gatekeeper.settings import Rules

REST = "services: {ssh: {port: tcp/22, ttl: 1h}}\nclients: {one: {open: a_secret_of_someone, services: [ssh]}}\n"


def read(said: str) -> tuple[Rules, list[Any]]:
    return rules.parse(f"{said}\n{REST}".encode(), file="rules.yaml", read_key=lambda _: b"")


def warnings(said: str) -> list[str]:
    return [str(one) for one in read(said)[1] if "metrics" in str(one)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", None),
        ("metrics: false", None),
        ("metrics: true", "127.0.0.1:16220"),
        ("metrics: 9100", "127.0.0.1:9100"),
        ("metrics: 127.0.0.2:16220", "127.0.0.2:16220"),
        ("metrics: '[::1]:16220'", "[::1]:16220"),
        ("metrics: 192.0.2.1:16220", "192.0.2.1:16220"),
        ("metrics: 0.0.0.0:16220", "0.0.0.0:16220"),
    ],
)
def test_metrics_are_off_or_at_the_loopback_or_where_the_rules_say(said: str, expected: str | None) -> None:
    listen = read(said)[0].metrics
    assert (None if listen is None else str(listen)) == expected


def test_an_address_that_others_reach_is_warned_about() -> None:
    assert warnings("metrics: true") == []
    assert warnings("metrics: '[::1]:16220'") == []
    assert "can be read by whoever reaches that address" in warnings("metrics: 0.0.0.0:16220")[0]
    assert "can be read by whoever reaches that address" in warnings("metrics: '[::]:16220'")[0]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("yes", 'metrics cannot be "yes"'),
        ("localhost:16220", 'metrics cannot be "localhost:16220"'),
        ("999.0.0.1:16220", 'metrics cannot be "999.0.0.1:16220"'),
        ("'[fe80::1%eth0]:16220'", "metrics cannot be"),
        ("'[127.0.0.1.1]:16220'", "metrics cannot be"),
        ("::1:16220", "metrics cannot be"),
        ("80", "metrics: port 80 is out of range"),
        ("70000", "metrics: port 70000 is out of range"),
        ("'١٦٢٢٠'", "metrics cannot be"),
        ("[1, 2]", "metrics must be a word, not a list"),
        ("", "metrics must be a word, not"),
    ],
)
def test_what_it_cannot_be_is_said_with_its_place(said: str, words: str) -> None:
    with pytest.raises(RulesError) as caught:
        read(f"metrics: {said}")
    assert any(words in str(one) and "rules.yaml:1:" in str(one) for one in caught.value.problems)


def test_a_reload_says_that_it_has_changed() -> None:
    said = [differences.describe(read(one)[0], bytes.hex) for one in ("metrics: true", "metrics: '[::1]:9470'")]
    assert list(differences.as_lines(differences.compare(*said))) == [
        "changed the file",
        "    metrics: 127.0.0.1:16220 -> [::1]:9470",
    ]
