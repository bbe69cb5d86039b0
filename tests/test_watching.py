"""``status --watch``: what it looks at anew, and what happens to it when ``run`` does not go on as it did."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gatekeeper import rules as rules_file
from gatekeeper import seeing
from gatekeeper.errors import StoreError
from gatekeeper.firewall import apply, backends
from gatekeeper.model import Admit, Grant, TrailEntry
from gatekeeper.problems import RulesError
from gatekeeper.settings import TrailSettings
from gatekeeper.status import Line, Table, Tone, plain
from gatekeeper.store.sqlite import FILE, SqliteStore
from gatekeeper.store.trail import Trail
from gatekeeper.watching import Watch

RULES = "services: {ssh: {port: tcp/22}}\n"
KERNEL = {"ruleset": True, "observes": False, "backend": "ipset", "members": {"ssh": 1}, "dropped": {"no-tag": 1}}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(tmp_path / "state")) as made:
        yield made


@pytest.fixture
def watch(rules: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(seeing.Kernel, "look", lambda *_: dict(KERNEL))
    return Watch(rules, store.path.parent)


def grants(number: int, *, end: float | None) -> Admit:
    return Admit(tuple(Grant(ip_network((0xC6120000 + n, 32)), "ssh", f"client-{n}", end) for n in range(number)))


def test_grants_count_down_and_those_without_an_end_come_last(watch: Watch, store: SqliteStore) -> None:
    now = time.time()
    store.commit([grants(1, end=None)], now=now)
    late, soon = (
        Grant(ip_network("192.0.2.1"), "ssh", "b", now + 900),
        Grant(ip_network("192.0.2.2"), "ssh", "c", now + 9),
    )
    store.commit([Admit((late, soon))], now=now)
    table = next(one for one in watch.look() if isinstance(one, Table) and one.head[0] == "SOURCE")
    assert [row[0] for row in table.rows] == ["192.0.2.2", "192.0.2.1", "198.18.0.0"]


def test_the_last_decisions_are_those_of_the_trail_the_newest_first(watch: Watch, store: SqliteStore) -> None:
    now = time.time()
    entries = [TrailEntry(now - 60 + n, "replayed", f"client-{n}", "192.0.2.1", note="sent before") for n in range(15)]
    with contextlib.closing(SqliteStore(store.path.parent, trail_of=Trail(TrailSettings()))) as other:
        other.add_counts({}, entries, now=now)
    table = next(one for one in watch.look() if isinstance(one, Table) and one.head[0] == "LAST DECISIONS")
    assert [row[2] for row in table.rows] == [f"client-{n}" for n in range(14, 4, -1)]
    assert table.rows[0][0] == "replayed"
    assert table.rows[0][1] in {"46s", "47s"}


def test_of_many_grants_it_reads_those_that_it_shows(
    watch: Watch, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit([grants(500, end=time.time() + 60)], now=time.time())
    monkeypatch.setattr(SqliteStore, "each", lambda *_, **__: pytest.fail("all were read"))
    monkeypatch.setattr(SqliteStore, "live", lambda *_, **__: pytest.fail("all were read"))
    text = plain(watch.look())
    assert "500 live grants; the 20 that end next:" in text
    assert text.count("198.18.") == 20


def test_the_rules_are_read_again_when_they_were_changed(
    watch: Watch, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, reads = [1000.0], []
    real = rules_file.load

    def load(path: Path, **others: Any) -> Any:
        reads.append(path)
        return real(path, **others)

    monkeypatch.setattr(rules_file, "load", load)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for _ in range(5):
        watch.look()
        clock[0] += 1.1
    assert len(reads) == 1
    new = rules.with_suffix(".new")  # as editors do
    new.write_text(RULES.replace("ssh", "telnet"))
    os.replace(new, rules)  # noqa: PTH105
    for _ in range(3):
        text = plain(watch.look())
        clock[0] += 1.1
    assert "telnet" in text
    assert len(reads) == 2


def test_what_goes_away_is_said_above_what_was_seen_last(watch: Watch, store: SqliteStore) -> None:
    watch.look()
    away = store.path.with_suffix(".away")
    store.path.rename(away)
    first, *rest = watch.look()
    assert first == Line(f"what is below is old: no store in {store.path.parent}", Tone.BAD)
    assert "ssh" in plain(rest)
    away.rename(store.path)
    assert "old" not in plain(watch.look()[:1])


def test_rules_that_cannot_be_used_are_said_too_and_do_not_end_it(watch: Watch, rules: Path) -> None:
    watch.look()
    rules.write_text("services: {ssh: {prot: tcp/22}}\n")
    watch._pid = -1
    first = watch.look()[0]
    assert isinstance(first, Line)
    assert first.words.startswith(f"what is below is old: {rules}:1:12: ")
    rules.write_text(RULES)
    assert "old" not in plain(watch.look()[:1])


def test_what_was_never_seen_is_an_error(tmp_path: Path, rules: Path, store: SqliteStore) -> None:
    with pytest.raises(StoreError):
        Watch(rules, tmp_path / "elsewhere").look()
    rules.write_text("nonsense")
    with pytest.raises(RulesError):
        Watch(rules, store.path.parent).look()
    assert (store.path.parent / FILE).exists()


def test_the_rates_are_those_of_the_counters(watch: Watch, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    store.add_counts({"no-grant": 1000})
    watch.look()
    clock[0] += 2
    store.add_counts({"no-grant": 30})
    assert "no-grant         15.0      1030" in plain(watch.look())


def test_the_ruleset_is_looked_at_now_and_then_and_the_sizes_of_sets_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = [1000.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Backend:
        name = "ipset"

        def sizes(self, services: Any) -> dict[tuple[str, int], int]:
            passed = int(clock[0]) - 1000
            return {(one, 4): -1 if passed == 8 else passed for one in services} | {(one, 6): -1 for one in services}

        def close(self) -> None:
            looks.append("closed")

    monkeypatch.setattr(apply, "loaded", lambda: looks.append("loaded"))
    monkeypatch.setattr(backends, "of", lambda *_: Backend())
    kernel = seeing.Kernel()
    services: Any = type("Rules", (), {"services": {"ssh": None}})()
    members = []
    for _ in range(8):
        members.append(kernel.look(services)["members"]["ssh"])
        clock[0] += 1
    assert members == list(range(8))
    assert looks == ["loaded", "closed", "loaded"]
    kernel.look(services)  # a set is gone: so is the ruleset, perhaps
    assert looks == ["loaded", "closed", "loaded", "closed", "loaded"]
