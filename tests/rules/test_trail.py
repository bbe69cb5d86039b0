"""The section ``trail``: how much of the audit trail is kept."""

from __future__ import annotations

import pytest

from gatekeeper import differences, rules
from gatekeeper.problems import RulesError
from gatekeeper.settings import Rules, TrailSettings

BASE = "services: {ssh: {port: tcp/22}}\nclients: {}\n"


def read(text: str) -> Rules:
    return rules.parse((BASE + text).encode(), file="rules.yaml", read_key=lambda _: b"")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", TrailSettings(90 * 86_400, 16_000_000)),
        ("trail:", TrailSettings()),
        ("trail: none", None),
        ("trail: {keep: 12h}", TrailSettings(keep=43_200)),
        ("trail: {keep: forever, size: 1GB}", TrailSettings(None, 10**9)),
    ],
)
def test_it_says_how_much_is_kept(text: str, expected: TrailSettings | None) -> None:
    assert read(text).trail == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trail: {keep: 90}", "rules.yaml:3:15: keep: "),
        ("trail: {keep: 0s}", "rules.yaml:3:15: keep: "),
        ("trail: {size: lots}", "rules.yaml:3:15: size: 'lots' is not a size from 100kB to 100GB"),
        ("trail: {size: [1]}", "rules.yaml:3:15: "),
        ("trail: {kep: 1d}", "rules.yaml:3:9: "),
        ("trail: all", "rules.yaml:3:8: "),
        ("trail: [none]", "rules.yaml:3:8: "),
    ],
)
def test_what_makes_no_sense_is_said_with_its_place(text: str, words: str) -> None:
    with pytest.raises(RulesError) as found:
        read(text)
    (error,) = [str(one) for one in found.value.problems if not one.is_warning]
    assert error.startswith(words)


def test_a_reload_shows_it() -> None:
    before, after, none = (
        differences.describe(read(text), bytes.hex) for text in ("", "trail: {keep: 1d}", "trail: none")
    )
    (change,) = differences.compare(before, after)[0].fields
    assert (change.name, change.after) == ("trail", "keep 1d, size 16MB")
    (change,) = differences.compare(before, none)[0].fields
    assert change.after == "none"
