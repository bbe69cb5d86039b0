"""The audit trail has each change, and each client that was refused; and never more than it may have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from gatekeeper.model import BY_HAND, Admit, Grant, Revoke, TrailEntry, Wanted
from gatekeeper.settings import TrailSettings
from gatekeeper.store.grants import MAX_GRANTS
from gatekeeper.store.sqlite import FILE, SqliteStore
from gatekeeper.store.trail import ROW, Trail

NOW = 1_800_000_000.0
HOME, NEXT = ip_network("192.0.2.7"), ip_network("2001:db8::/64")


def grant(source: object = HOME, client: str = "laptop", end: float | None = NOW + 60) -> Grant:
    return Grant(ip_network(str(source)), "ssh", client, end)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(TrailSettings()))) as one:
        yield one


def said(store: SqliteStore, **wanted: object) -> list[tuple[str, str | None, str | None]]:
    """Return reason, client and source of what is wanted, the oldest first."""
    found = store.trail(Wanted(**wanted))  # type: ignore[arg-type]
    return [(one.reason, one.client, one.source) for one in reversed(found)]


def test_each_change_has_its_row_in_the_transaction_of_the_change(store: SqliteStore) -> None:
    store.commit([Admit((grant(), grant(NEXT, end=None)))], now=NOW)
    store.commit([Revoke(HOME, "laptop")], now=NOW + 1)
    store.commit([Admit((grant(client=BY_HAND, end=NOW + 5),))], now=NOW + 2)
    store.commit([Revoke(NEXT)], now=NOW + 3)
    store.expire(now=NOW + 6)
    assert said(store) == [
        ("opened", "laptop", "192.0.2.7"),
        ("opened", "laptop", "2001:db8::/64"),
        ("closed", "laptop", "192.0.2.7"),
        ("granted", BY_HAND, "192.0.2.7"),
        ("revoked", "laptop", "2001:db8::/64"),
        ("expired", BY_HAND, "192.0.2.7"),
    ]
    *_, second, first = store.trail(Wanted())
    assert (first.at, first.service, first.ends_at) == (NOW, "ssh", NOW + 60)
    assert second.ends_at is None


def test_who_did_it_by_hand_is_said(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(TrailSettings(), who="alice"))) as store:
        store.commit([Admit((grant(client=BY_HAND),))], now=NOW)
        assert [one.note for one in store.trail(Wanted())] == ["by alice"]


def test_what_is_no_change_has_no_row(store: SqliteStore) -> None:
    store.commit([Revoke(HOME)], now=NOW)  # nothing was open
    store.commit([Admit((grant(),))], now=NOW)
    store.shorten([grant(end=NOW + 5)], now=NOW)
    store.add_counts({"no-grant": 5}, now=NOW)
    assert said(store) == [("opened", "laptop", "192.0.2.7")]


def test_a_crowd_is_one_row_and_what_is_crowded_out_has_its_own(store: SqliteStore) -> None:
    many = tuple(grant(ip_network((0x0A000000 + number, 32))) for number in range(MAX_GRANTS))
    store.commit([Admit(many)], now=NOW)
    store.commit([Admit((grant(),))], now=NOW + 1)
    first, opened, crowded = reversed(store.trail(Wanted()))
    assert (first.reason, first.note, first.source) == ("opened", f"{MAX_GRANTS} grants", None)
    assert (opened.reason, crowded.reason) == ("opened", "crowded-out")


def test_it_is_looked_through_by_time_client_source_service_and_reason(store: SqliteStore) -> None:
    store.commit([Admit((grant(), grant(NEXT, "desk")))], now=NOW)
    store.add_counts({}, [TrailEntry(NOW + 1, "clock-skew", "desk", "192.0.2.9", note="udp/62201")], now=NOW + 1)
    store.commit([Revoke(HOME)], now=NOW + 2)
    assert said(store, client="desk") == [("opened", "desk", "2001:db8::/64"), ("clock-skew", "desk", "192.0.2.9")]
    assert [one[0] for one in said(store, since=NOW + 1)] == ["clock-skew", "revoked"]
    assert [one[0] for one in said(store, until=NOW + 1, client="desk")] == ["opened", "clock-skew"]
    assert [one[0] for one in said(store, source=ip_network("192.0.2.0/24"))] == ["opened", "clock-skew", "revoked"]
    assert [one[0] for one in said(store, source=ip_network("2001:db8::/32"))] == ["opened"]
    assert said(store, service="web") == []
    assert [one[0] for one in said(store, reason="revoked")] == ["revoked"]
    newest = store.trail(Wanted(), limit=1)
    assert [one.reason for one in newest] == ["revoked"]
    assert [one.reason for one in store.trail(Wanted(), after=newest[0].number - 1)] == ["revoked"]
    assert store.trail(Wanted(), after=newest[0].number) == []


def test_what_is_old_is_forgotten(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(TrailSettings(keep=100)))) as store:
        for second in range(0, 300, 10):
            store.add_counts({}, [TrailEntry(NOW + second, "no-grant", "laptop")], now=NOW + second)
        assert [one.at - NOW for one in store.trail(Wanted())] == [*range(290, 180, -10)]
        store.add_counts({"x": 1}, now=NOW + 1000)
        assert store.trail(Wanted()) == []


def test_a_clock_that_was_set_back_forgets_nothing_that_is_young(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(TrailSettings(keep=100)))) as store:
        for at in (NOW, NOW + 500, NOW + 10, NOW + 20):
            store.add_counts({}, [TrailEntry(at, "no-grant", "laptop")], now=NOW + 20)
        assert len(store.trail(Wanted())) == 4


def test_it_never_takes_more_room_than_it_may(tmp_path: Path) -> None:
    """Also if each row is as long as rows can be."""
    size = 1_000_000
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(TrailSettings(size=size)))) as store:
        before = (tmp_path / FILE).stat().st_size
        long = TrailEntry(NOW, "x" * 30, "c" * 64, str(NEXT), "s" * 16, NOW, "\N{SNOWMAN}" * 500)
        for _ in range(30):
            store.add_counts({}, [long] * 500, now=NOW)
        assert len(store.trail(Wanted())) == size // ROW
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # what is added before the oldest goes, and what stands around it
        assert (tmp_path / FILE).stat().st_size - before < size + 500 * ROW + 50_000


def test_who_follows_it_is_not_lost_when_all_of_it_was_forgotten(tmp_path: Path) -> None:
    """The rows are numbered anew then."""
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(TrailSettings(keep=60)))) as store:
        store.add_counts({}, [TrailEntry(NOW, "clock-skew", "laptop")] * 5, now=NOW)
        last = store.trail(Wanted(), limit=1)[0].number
        store.add_counts({"x": 1}, now=NOW + 100)
        store.commit([Admit((grant(),))], now=NOW + 101)
        assert [one.reason for one in store.trail(Wanted(), after=last)] == ["opened"]


def test_to_look_for_what_is_old_does_not_take_longer_the_more_there_is(store: SqliteStore) -> None:
    """It is done between knocks, each second."""
    store.add_counts({}, [TrailEntry(NOW, "clock-skew", "laptop")] * 20_000, now=NOW)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    store._db.set_progress_handler(count, 100)
    store.add_counts({"x": 1}, now=NOW)
    assert steps < 10  # hundreds of the virtual machine's steps; a scan of all is some 1,000


def test_without_a_trail_nothing_is_noted_and_what_was_is_forgotten(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(TrailSettings()))) as store:
        store.commit([Admit((grant(),))], now=NOW)
    with contextlib.closing(SqliteStore(tmp_path, trail_of=Trail(None))) as store:
        store.commit([Revoke(HOME)], now=NOW)
        store.add_counts({"x": 1}, now=NOW)
        assert store.trail(Wanted()) == []


def test_a_change_that_fails_leaves_no_row(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.store.journal.trim", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.commit([Admit((grant(),))], now=NOW)
    assert store.trail(Wanted()) == []
