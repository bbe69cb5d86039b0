"""The contract of every store; each kind is one row of STORES."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.errors import StoreError
from gatekeeper.model import BY_HAND, Admit, Changes, Grant, Outcome, Revoke, Stamp
from gatekeeper.protocols import Store
from gatekeeper.store.grants import MAX_GRANTS
from gatekeeper.store.journal import KEPT
from gatekeeper.store.sqlite import FILE, SqliteStore

NOW = 1000.0
_SOURCES = (
    *("0.0.0.0/0", "192.0.0.0/16", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.0", "192.0.2.127", "192.0.2.128/25"),
    *("192.0.2.255", "192.0.3.0", "198.51.100.0/24", "::/0", "2001:db8::/32", "2001:db8::/64", "2001:db8::", "::"),
)
STORES: dict[str, Callable[[Path], Store]] = {"sqlite": SqliteStore}


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Open the same store again and again, as restarts and other processes do."""
    opened: list[Store] = []

    def make() -> Store:
        opened.append(STORES[request.param](tmp_path / "state"))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def grant(source: str, service: str = "ssh", client: str = "laptop", end: float | None = NOW + 60) -> Grant:
    return Grant(ip_network(source), service, client, end)


def live(store: Store, now: float = NOW) -> set[Grant]:
    return set(store.live(now=now))


def test_what_was_committed_is_there_after_a_restart(open_store: Callable[[], Store]) -> None:
    grants = (grant("192.0.2.7"), grant("2001:db8::/64", end=None))
    first = open_store()
    assert first.commit([Admit(grants)], now=NOW) == [Outcome(admitted=grants)]
    first.close()
    assert live(open_store()) == set(grants)


def test_a_grant_replaces_that_of_the_same_client_only(store: Store) -> None:
    store.commit([Admit((grant("192.0.2.7"), grant("192.0.2.7", client="desk")))], now=NOW)
    store.commit([Admit((grant("192.0.2.7", end=NOW + 5),))], now=NOW)
    assert live(store) == {grant("192.0.2.7", end=NOW + 5), grant("192.0.2.7", client="desk")}


def test_a_close_ends_the_grants_of_its_client_source_and_services(store: Store) -> None:
    mine = [grant("192.0.2.7"), grant("192.0.2.7", "web")]
    others = [grant("192.0.2.7", client="desk"), grant("192.0.2.8"), grant("192.0.2.0/24"), grant("2001:db8::7")]
    store.commit([Admit((*mine, *others))], now=NOW)
    (outcome,) = store.commit([Revoke(ip_network("192.0.2.7"), "laptop", ("ssh",))], now=NOW)
    assert outcome.ended == (mine[0],)
    (outcome,) = store.commit([Revoke(ip_network("192.0.2.7"), "laptop", ("ssh", "web"))], now=NOW)
    assert outcome.ended == (mine[1],)
    assert live(store) == set(others)


def test_revoking_a_network_ends_what_lies_inside(store: Store) -> None:
    inside = [grant("192.0.2.7"), grant("192.0.2.0/24"), grant("192.0.2.128/25", client="desk")]
    outside = [grant("192.0.0.0/16"), grant("192.0.3.1"), grant("2001:db8::1")]
    store.commit([Admit((*inside, *outside))], now=NOW)
    (outcome,) = store.commit([Revoke(ip_network("192.0.2.0/24"))], now=NOW)
    assert set(outcome.ended) == set(inside)
    assert live(store) == set(outside)


def test_expired_grants_are_not_live_and_are_returned_once(store: Store) -> None:
    early, late, never = grant("192.0.2.1", end=NOW + 1), grant("192.0.2.2", end=NOW + 9), grant("192.0.2.3", end=None)
    store.commit([Admit((early, late, never))], now=NOW)
    assert live(store, NOW + 1) == {late, never}
    assert store.matching("ssh", early.source, now=NOW + 1) == []
    assert store.expire(now=NOW + 0.9) == []
    assert store.expire(now=NOW + 1) == [early]
    assert store.expire(now=NOW + 1) == []
    assert store.expire(now=NOW + 1e9) == [late]


def test_expiry_can_be_taken_in_parts_the_earliest_first(store: Store) -> None:
    grants = [grant(f"192.0.2.{n}", end=NOW + n) for n in (5, 3, 1, 4, 2)]
    store.commit([Admit(tuple(grants))], now=NOW)
    assert [one.expires_at for one in store.expire(now=NOW + 9, limit=2)] == [NOW + 1, NOW + 2]
    assert len(store.expire(now=NOW + 9, limit=100)) == 3


def test_matching_finds_every_client_for_exactly_this_source(store: Store) -> None:
    both = {grant("192.0.2.7"), grant("192.0.2.7", client="desk", end=None)}
    store.commit([Admit((*both, grant("192.0.2.0/24"), grant("192.0.2.7", "web")))], now=NOW)
    assert set(store.matching("ssh", ip_network("192.0.2.7"), now=NOW)) == both


def test_effects_take_place_in_their_order(store: Store) -> None:
    outcomes = store.commit([Admit((grant("192.0.2.7"),)), Revoke(ip_network("192.0.2.7"))], now=NOW)
    assert outcomes == [Outcome(admitted=(grant("192.0.2.7"),)), Outcome(ended=(grant("192.0.2.7"),))]
    assert live(store) == set()


def test_forgetting_takes_out_what_it_is_told(store: Store) -> None:
    store.commit([Admit((grant("192.0.2.7"), grant("192.0.2.8")))], now=NOW)
    store.forget([grant("192.0.2.7")], now=NOW)
    assert live(store) == {grant("192.0.2.8")}


def test_a_revoke_owes_a_cut_until_it_is_settled(open_store: Callable[[], Store]) -> None:
    """Also after a restart; an administrator's also when there was nothing to revoke."""
    first = open_store()
    first.commit([Admit((grant("192.0.2.7"), grant("192.0.2.7", "web")))], now=NOW)
    revokes = [Revoke(ip_network("192.0.2.7"), "laptop", ("ssh", "web")), Revoke(ip_network("2001:db8::/64"))]
    first.commit(revokes, now=NOW)
    first.commit(revokes, now=NOW)
    first.close()
    again = open_store()
    owed = [Revoke(ip_network("192.0.2.7"), None, ("ssh", "web")), Revoke(ip_network("2001:db8::/64"))]
    assert sorted(again.owed_cuts(), key=str) == sorted(owed, key=str)
    again.settle_cuts(owed[:1])
    assert again.owed_cuts() == owed[1:]


def test_counters_add_up_over_restarts(open_store: Callable[[], Store]) -> None:
    first = open_store()
    first.add_counts({"opened": 2, "closed": 1})
    first.add_counts({"opened": 3})
    first.close()
    assert open_store().counts() == {"closed": 1, "opened": 5}


def test_a_change_by_another_is_noticed_once_and_ones_own_never(open_store: Callable[[], Store]) -> None:
    mine, other = open_store(), open_store()
    mine.commit([Admit((grant("192.0.2.7"),))], now=NOW)
    assert not mine.changed_by_others()
    other.commit([Admit((grant("192.0.2.8"),))], now=NOW)
    assert mine.changed_by_others()
    assert not mine.changed_by_others()
    assert len(live(mine)) == 2


def test_what_others_changed_is_told_once_and_how_it_is_now(open_store: Callable[[], Store]) -> None:
    """What began and what ended since, not what was there before; and that floors were set back."""
    other = open_store()
    other.commit([Admit((grant("192.0.2.1"), grant("192.0.2.2")))], now=NOW)
    mine = open_store()
    assert mine.changes() == Changes((), (), floors=False)
    other.commit([Admit((grant("2001:db8::/64", end=None), grant("192.0.2.9", end=NOW + 1)))], now=NOW)
    other.commit([Revoke(ip_network("192.0.2.1")), Admit((grant("192.0.2.2", end=NOW + 99),))], now=NOW)
    other.expire(now=NOW + 1)
    found = mine.changes()
    assert found is not None
    assert set(found.there) == {grant("2001:db8::/64", end=None), grant("192.0.2.2", end=NOW + 99)}
    assert set(found.gone) == {("ssh", ip_network(f"192.0.2.{n}"), "laptop") for n in (1, 9)}
    assert not found.floors
    assert mine.changes() == Changes((), (), floors=False)
    mine.commit([Admit((grant("192.0.2.3"),))], now=NOW)
    assert mine.changes() == Changes((), (), floors=False), "its own are known"
    other.lower_floors([], now=NOW)
    assert mine.changes() == Changes((), (), floors=True)


def test_changes_of_others_do_not_pass_for_ones_own(open_store: Callable[[], Store]) -> None:
    mine, other = open_store(), open_store()
    other.commit([Admit((grant("192.0.2.1"),))], now=NOW)
    mine.commit([Admit((grant("192.0.2.2"),))], now=NOW)
    found = mine.changes()
    assert found is not None
    assert grant("192.0.2.1") in found.there


def test_who_missed_more_changes_than_are_kept_is_told_so_and_goes_on_from_there(
    open_store: Callable[[], Store],
) -> None:
    mine, other = open_store(), open_store()
    many = tuple(grant(f"10.0.{n // 256}.{n % 256}", client=BY_HAND) for n in range(KEPT + 1))
    other.commit([Admit(many)], now=NOW)
    assert mine.changes() is None
    other.commit([Admit(many[:1])], now=NOW)
    assert mine.changes() == Changes(many[:1], (), floors=False)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(_SOURCES), st.sets(st.sampled_from(_SOURCES)))
def test_touching_finds_whatever_shares_an_address_with_a_source(asked: str, there: set[str]) -> None:
    with TemporaryDirectory() as directory, contextlib.closing(SqliteStore(Path(directory))) as store:
        store.commit([Admit((*map(grant, there), grant(asked, "web", end=NOW)))], now=NOW)
        source = ip_network(asked)
        expected = {grant(one) for one in there if ip_network(one).overlaps(source)}
        found = store.touching(source, now=NOW)
        assert set(found) == expected
        assert len(found) == len(expected)


def test_a_hundred_thousand_grants_do_not_slow_a_commit_down(store: Store) -> None:
    """Not a timed test: 100,000 grants are written and read, and one more is found among them."""
    many = tuple(Grant(ip_network((0x0A00_0000 + n, 32)), "ssh", f"c{n % 100}", NOW + 60) for n in range(100_000))
    store.commit([Admit(many)], now=NOW)
    store.commit([Admit((grant("192.0.2.7"),))], now=NOW)
    assert store.matching("ssh", ip_network("192.0.2.7"), now=NOW) == [grant("192.0.2.7")]
    assert len(store.live(now=NOW)) == 100_001


def test_a_client_that_opens_for_everybody_crowds_out_only_itself(store: Store) -> None:
    """Beyond 4,096 live grants for a service, what ends first gives way."""
    other = grant("192.0.2.7", client="desk", end=NOW + 1)
    by_hand = grant("192.0.2.8", client=BY_HAND, end=NOW + 1)
    store.commit([Admit((other, by_hand))], now=NOW)
    many = [grant(f"10.0.{n // 256}.{n % 256}", end=NOW + 60 + n) for n in range(MAX_GRANTS)]
    store.commit([Admit(tuple(many))], now=NOW)
    (outcome,) = store.commit([Admit((grant("192.0.2.9", end=None), grant("192.0.2.10", end=NOW + 999_999)))], now=NOW)
    assert set(outcome.ended) == set(many[:2])
    assert set(store.live(now=NOW)) > {other, by_hand, grant("192.0.2.9", end=None), *many[2:]}


# -- SQLite's own


def test_nothing_that_a_knock_or_an_end_asks_for_reads_all_grants(tmp_path: Path) -> None:
    """Nor the other tables: every statement finds its rows by an index, also in a store that knows its statistics."""
    store = SqliteStore(tmp_path)
    store.commit([Admit(tuple(grant(f"10.0.{n // 250}.{n % 250}", client=f"c{n}") for n in range(500)))], now=NOW)
    for statistics in ("SELECT 1", "ANALYZE"):
        store._db.execute(statistics)
        said: list[str] = []
        store._db.set_trace_callback(said.append)
        store.commit([Admit((grant("192.0.2.7"),)), Revoke(ip_network("192.0.2.7"), "laptop", ("ssh",))], now=NOW)
        store.commit([Admit((grant("192.0.2.7", end=NOW + 1),), Stamp(bytes(32), store.born + 1))], now=NOW)
        store.expire(now=NOW + 1, limit=100)
        store.matching("ssh", ip_network("192.0.2.7"), now=NOW)
        store.touching(ip_network("192.0.2.7"), now=NOW)
        store.changes()
        store.changed_by_others()
        store._db.set_trace_callback(None)
        for statement in said:
            if statement.split()[0] in {"SELECT", "DELETE", "INSERT", "UPDATE"}:
                plan = " | ".join(str(row[3]) for row in store._db.execute(f"EXPLAIN QUERY PLAN {statement}"))
                assert not re.search(r"SCAN (grants|kept|spent|journal|floors)(?! USING COVERING INDEX)", plan), (
                    statement
                )
    store.close()


def test_a_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    for content in (b"not a database at all" * 300, b"SQLite format 3\0" + b"\xff" * 5000):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(StoreError, match="is damaged") as failure:
            SqliteStore(tmp_path)
        assert failure.value.hint is not None
        assert (tmp_path / FILE).read_bytes() == content, "nothing is lost"


def test_damage_inside_is_noticed_at_opening(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.commit([Admit(tuple(grant(f"10.0.{n // 250}.{n % 250}") for n in range(2000)))], now=NOW)
    store.close()
    content = bytearray((tmp_path / FILE).read_bytes())
    content[20_000:24_000] = bytes(4000)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        SqliteStore(tmp_path)


def test_a_store_of_the_future_is_not_touched(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreError, match="newer gatekeeper"):
        SqliteStore(tmp_path)


def test_a_store_that_is_not_there_is_not_made_for_a_look(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store in"):
        SqliteStore(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()


def test_files_are_private(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state")
    store.add_counts({"opened": 1})
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()} == {0o600}
    store.close()


def test_a_revoke_with_a_limit_ends_so_many_of_its_own(store: SqliteStore) -> None:
    there = [grant(f"192.0.2.{number}") for number in range(1, 6)]
    others = [grant(f"192.0.2.{number}", service="web") for number in range(1, 6)]
    store.commit([Admit((*there, *others))], now=NOW)
    effect = Revoke(ip_network("192.0.2.0/24"), None, ("ssh",), limit=3)
    ended = [one for _ in range(3) for outcome in store.commit([effect], now=NOW) for one in outcome.ended]
    assert sorted(ended, key=lambda one: one.source) == there
    assert set(store.live(now=NOW)) == set(others)


@pytest.mark.parametrize("create", [True, False])
def test_what_a_link_names_is_never_taken_for_the_store(tmp_path: Path, *, create: bool) -> None:
    """The folder is the service's user's, and who opens the store may be root: the database may be another's."""
    others = tmp_path / "others.db"
    with contextlib.closing(sqlite3.connect(others)) as db:
        db.execute("CREATE TABLE theirs (x)")
    before = others.read_bytes()
    (tmp_path / FILE).symlink_to(others)
    with pytest.raises(StoreError):
        SqliteStore(tmp_path, create=create)
    assert others.read_bytes() == before
