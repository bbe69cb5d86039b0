from __future__ import annotations

from typing import Any, TypeGuard

import pytest

from gatekeeper.status import Line, Section, Table, Tone, _shares, as_text, fitted, plain, sections

SERVICE = {"name": "ssh", "port": "tcp/22", "ttl": "1h", "max_ttl": None, "established": "keep"}
GRANT = {
    "source": "192.0.2.7",
    "service": "ssh",
    "client": "laptop",
    "expires_at": "2026-11-22T22:00:00+00:00",
    "seconds_left": 3600,
}


def test_everything_there_is_to_see_is_laid_out() -> None:
    found = {
        "running": True,
        "pid": 7,
        "services": [SERVICE],
        "live": 2,
        "counters": {"opened": 3},
        "queues": [{"number": 6221, "lane": "knocks", "worker": 2, "waiting": 1, "dropped": 0}],
        "kernel": {
            "ruleset": True,
            "observes": False,
            "backend": "ipset",
            "members": {"ssh": 2},
            "dropped": {"no-tag": 5},
        },
    }
    grants = [GRANT, GRANT | {"expires_at": None, "seconds_left": None, "source": "2001:db8::/64"}]
    assert as_text(found, grants).splitlines() == [
        "run is up (process 7)",
        "",
        "SERVICE  PORT    TTL  MAX TTL  ESTABLISHED  IN KERNEL",
        "ssh      tcp/22  1h   -        keep         2",
        "",
        "SOURCE         SERVICE  CLIENT  EXPIRES                    LEFT",
        "192.0.2.7      ssh      laptop  2026-11-22T22:00:00+00:00  1h",
        "2001:db8::/64  ssh      laptop  until closed               -",
        "",
        "REASON  PACKETS",
        "opened  3",
        "",
        "DROPPED IN THE KERNEL  PACKETS",
        "no-tag                 5",
        "",
        "QUEUE  LANE    WORKER  WAITING  DROPPED",
        "6221   knocks  2       1        0",
    ]


@pytest.mark.parametrize(
    ("failed_at", "words"),
    [
        (None, "rules.yaml was changed at T1, and cannot be used: line one (and 1 more: `gatekeeper check`)"),
        ("T2", "the reload of T2 failed: line one (and 1 more: `gatekeeper check`)"),
    ],
)
def test_a_file_that_is_not_in_force_is_said_with_the_reason(failed_at: str | None, words: str) -> None:
    trouble = {
        "file": "rules.yaml",
        "changed_at": "T1",
        "failed_at": failed_at,
        "error": ["line one", "line two"],
        "in_force_since": "T0",
    }
    found = {
        "running": True,
        "pid": 7,
        "services": [SERVICE],
        "live": 0,
        "counters": {},
        "queues": [],
        "kernel": {"ruleset": True, "observes": False, "backend": "ipset", "members": {}, "dropped": {}},
        "rules_trouble": trouble,
    }
    assert as_text(found, []).splitlines()[:3] == [
        "run is up (process 7)",
        "",
        f"{words}; the rules of T0 are in force",
    ]


def test_where_grants_are_many_it_says_how_many_and_which_are_listed() -> None:
    found = {
        "running": True,
        "pid": 7,
        "services": [SERVICE],
        "live": 100_000,
        "counters": {},
        "queues": [],
        "kernel": {"error": "-"},
    }
    text = as_text(found, [GRANT], which="the one that ends next")
    assert "\n\n100,000 live grants; the one that ends next:\n\nSOURCE " in text


def test_what_is_wrong_stands_in_the_first_line() -> None:
    base: dict[str, object] = {"running": False, "pid": None, "services": [SERVICE], "live": 0, "counters": {}}
    base["queues"] = []
    open_to_all = as_text(base | {"kernel": {"ruleset": False, "members": {}}}, [])
    assert open_to_all.startswith("run is not up; the ruleset is not in the kernel: the ports are open to all\n")
    kernel: dict[str, object] = {"ruleset": True, "observes": False, "backend": "ipset"}
    for more, words in (
        ({}, "run is not up: nobody new gets in\n"),
        ({"backend": "rules"}, "run is not up: nobody new gets in, and what is open stays open until run is back\n"),
        ({"observes": True}, "run is not up; it only observes: NOTHING IS DROPPED, "),
    ):
        assert as_text(base | {"kernel": kernel | more}, []).startswith(words)
    assert "no live grants" in open_to_all
    blind = as_text(base | {"kernel": {"error": "you are not root"}}, [])
    assert "the kernel could not be looked at: you are not root" in blind.splitlines()[0]


UP: dict[str, Any] = {
    "running": True,
    "pid": 7,
    "services": [SERVICE, SERVICE | {"name": "web", "port": "tcp/80,tcp/443"}],
    "live": 1,
    "counters": {"opened": 3, "no-grant": 500, "unknown-key": 9},
    "queues": [
        {"number": 6220, "lane": "knocks", "worker": 1, "waiting": 0, "dropped": 0},
        {"number": 6236, "lane": "strangers", "worker": 1, "waiting": 2, "dropped": 0},
    ],
    "kernel": {
        "ruleset": True,
        "observes": False,
        "backend": "ipset",
        "members": {"ssh": 2, "web": 0},
        "dropped": {"no-tag": 50},
    },
    "refused": [{"source": "203.0.113.2", "reason": "no-grant", "packets": 480}],
}


def test_on_a_screen_the_busiest_comes_first_and_what_is_at_rest_is_left_out() -> None:
    parts = sections(UP, [GRANT], rates=({"no-grant": 250.4, "opened": 0.25}, {"no-tag": 12345.0}))
    text = plain(parts)
    assert text.splitlines()[-11:] == [
        "REASON           A SECOND  PACKETS",
        "no-tag (kernel)  12,345    50",
        "no-grant         250       500",
        "opened           0.2       3",
        "unknown-key      -         9",
        "",
        "REFUSED OF LATE  REASON    PACKETS, AT LEAST",
        "203.0.113.2      no-grant  480",
        "",
        "QUEUE  LANE       WORKER  WAITING  DROPPED",
        "6236   strangers  1       2        0",
    ]
    assert "6220" not in text


def test_the_last_decisions_are_told_with_their_age() -> None:
    opened = {"reason": "opened", "client": "laptop", "source": "192.0.2.7", "service": "ssh", "note": None}
    refused = opened | {"reason": "replayed", "service": None, "note": "sent before"}
    ages = (-1, 0, 59, 60, 3599, 3600, 200_000)
    found = UP | {"decisions": [refused | {"seconds_ago": 5}, *(opened | {"seconds_ago": age} for age in ages)]}
    table = next(one for one in sections(found, []) if _is(one, "LAST DECISIONS"))
    assert table.rows[0] == ("replayed", "5s", "laptop", "192.0.2.7", "-", "sent before")
    assert [row[1] for row in table.rows[1:]] == ["0s", "0s", "59s", "1m", "59m", "1h", "2d"]
    assert not any(_is(one, "LAST DECISIONS") for one in sections(UP, []))


def test_what_comes_from_outside_is_escaped() -> None:
    hostile = "\x1b[31m\n[red]\u202e"
    found = UP | {
        "services": [SERVICE | {"name": hostile}],
        "counters": {hostile: 1},
        "kernel": {"error": hostile},
        "refused": [{"source": hostile, "reason": hostile, "packets": 1}],
        "rules_trouble": {
            "file": hostile,
            "changed_at": hostile,
            "failed_at": None,
            "error": [hostile],
            "in_force_since": hostile,
        },
    }
    text = as_text(found, [GRANT | {"client": hostile, "source": hostile}])
    assert text.count("\\x1b[31m\\n[red]\\u202e") == 11
    assert all(char.isprintable() or char == "\n" for char in text)


def test_what_is_worth_a_look_has_a_tone() -> None:
    def tone(changes: dict[str, Any], **kernel: object) -> Tone:
        line = sections(UP | changes | {"kernel": UP["kernel"] | kernel}, [])[0]
        assert isinstance(line, Line)
        return line.tone

    assert tone({}) is Tone.GOOD
    assert tone({}, observes=True) is Tone.ATTENTION
    assert tone({}, error="no") is Tone.ATTENTION
    assert tone({}, ruleset=False) is Tone.BAD
    assert tone({"running": False}) is Tone.BAD
    ending, open_for_good = GRANT | {"seconds_left": 59}, GRANT | {"seconds_left": None}
    (grants,) = (one for one in sections(UP, [GRANT, ending, open_for_good]) if _is(one, "SOURCE"))
    assert grants.tones == {1: Tone.ATTENTION}


def _is(part: Section, first: str) -> TypeGuard[Table]:
    return isinstance(part, Table) and part.head[0] == first


@pytest.mark.parametrize("height", [24, 30, 60])
def test_a_screen_has_room_for_all_tables_and_the_longest_lose_most(height: int) -> None:
    found = UP | {"refused": UP["refused"] * 20}
    parts = fitted(sections(found, [GRANT] * 20, rates=({}, {})), 80, height)
    tables = [one for one in parts if isinstance(one, Table)]
    assert len(tables) == 5
    lines = len(parts) - 1 + sum(1 + len(one.rows) if isinstance(one, Table) else 1 for one in parts)
    assert lines <= height
    grants = next(one for one in tables if _is(one, "SOURCE"))
    assert len(grants.rows) + grants.more == 20
    assert bool(grants.more) is (height < 60)
    if height >= 30:
        assert len(next(one for one in tables if _is(one, "SERVICE")).rows) == 2


@pytest.mark.parametrize(
    ("wanted", "room", "shares"),
    [
        ([3, 5, 3, 3], 11, [3, 3, 3, 2]),
        ([20, 20, 1], 10, [5, 4, 1]),
        ([2, 2], 1, [1, 0]),
        ([2, 3], 100, [2, 3]),
        ([5], -3, [0]),
        ([], 4, []),
    ],
)
def test_room_is_shared_out_evenly_and_none_is_wasted(wanted: list[int], room: int, shares: list[int]) -> None:
    assert _shares(wanted, room) == shares


def test_a_screen_of_no_size_is_no_error() -> None:
    for size in (0, 1, 5):
        assert fitted(sections(UP, [GRANT] * 20, rates=({}, {})), size, size)
