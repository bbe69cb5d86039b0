from __future__ import annotations

import pytest

from gatekeeper.status import as_text

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
