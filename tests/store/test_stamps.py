"""Spent stamps in the store: in one transaction with what they opened, for good, and as the memory has them."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper import replay
from gatekeeper.errors import StoreError
from gatekeeper.model import GRACE, Action, Admit, Effect, Floor, Grant, Outcome, Reason, Revoke, Stamp
from gatekeeper.replay import KEPT, ReplayMemory
from gatekeeper.store.sqlite import FILE, SqliteStore

NOW = 1_800_000_000.0
NS = int(NOW) * 10**9
KEY, OTHER = b"k" * 32, b"o" * 32
SOURCE = ip_network("192.0.2.7")
GRANT = Grant(SOURCE, "ssh", "laptop", NOW + 60)
OPEN, CLOSE = Action.OPEN, Action.CLOSE


def opened(folder: Path) -> SqliteStore:
    """Open a store that was made long ago."""
    store = SqliteStore(folder)
    store.lower_floors([], now=1.0)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = opened(tmp_path)
    yield one
    one.close()


def effect(sent_at: int, action: Action = OPEN, key: bytes = KEY, grace: int = GRACE) -> Effect:
    stamp = Stamp(key, sent_at, grace)
    return Admit((GRANT,), stamp) if action is OPEN else Revoke(SOURCE, "laptop", ("ssh",), stamp)


def commit(store: SqliteStore, sent_at: int, action: Action = OPEN, *, now: float = NOW) -> Reason | None:
    (outcome,) = store.commit([effect(sent_at, action)], now=now)
    if outcome.refused is not None:
        assert outcome == Outcome(refused=outcome.refused)
    return outcome.refused


# Times that lie close together, and around each other's floors.
TIMES = st.one_of(st.integers(0, 30), st.integers(0, 30).map(lambda n: GRACE + n), st.integers(0, 100 * 10**9))
ATTEMPTS = st.lists(
    st.tuples(TIMES.map(lambda n: NS - 50 * 10**9 + n), st.sampled_from([OPEN, CLOSE]), st.sampled_from([KEY, OTHER])),
    min_size=1,
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(ATTEMPTS, st.sets(st.integers(0, 25)), st.sampled_from([0, -40 * 10**9]), st.sampled_from([GRACE, 3 * GRACE]))
def test_store_and_memory_give_the_same_answers_and_no_stamp_counts_twice(
    attempts: list[tuple[int, Action, bytes]], restarts: set[int], born: int, grace: int
) -> None:
    """Also over restarts, which the store comes back from with all that it knew; also with few above a floor."""
    few = 8
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr(replay, "MOST", few)
        folder = Path(name)
        store = SqliteStore(folder)
        store.lower_floors([], now=NOW + born / 1e9)
        memory = ReplayMemory()
        memory.replace(store.born, store.floors())
        accepted: set[tuple[bytes, int]] = set()
        for number, (sent_at, action, key) in enumerate([*attempts, *attempts]):
            if number in restarts:
                store.close()
                store = SqliteStore(folder)
                memory = ReplayMemory()
                memory.replace(store.born, store.floors())
            stamp = Stamp(key, sent_at, grace)
            expected = memory.refusal(stamp, action, now=NOW)
            (outcome,) = store.commit([effect(sent_at, action, key, grace)], now=NOW)
            assert outcome.refused is expected
            if expected is None:
                memory.spend(stamp, action)
                assert (key, sent_at) not in accepted
                accepted.add((key, sent_at))
        known = {key: (one.floor.floor, one.floor.closed, one.spent) for key, one in memory._keys.items()}
        assert known == {key: (one.floor, one.closed, set(one.spent)) for key, one in store.floors().items()}
        assert all(len(spent) <= few for _, _, spent in known.values())
        store.close()


def test_a_stamp_is_spent_with_what_it_opens_and_refused_for_ever_after(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert commit(store, NS) is None
    assert store.live(now=NOW) == [GRANT]
    store.forget([GRANT], now=NOW)
    assert commit(store, NS) is Reason.REPLAYED
    assert store.live(now=NOW) == []
    store.close()
    again = SqliteStore(tmp_path)
    assert commit(again, NS) is Reason.REPLAYED
    assert commit(again, NS, CLOSE) is Reason.REPLAYED
    assert again.live(now=NOW) == []
    again.close()


def test_of_two_processes_only_one_can_spend_a_stamp(tmp_path: Path) -> None:
    one, two = opened(tmp_path), SqliteStore(tmp_path)
    assert commit(one, NS) is None
    assert commit(two, NS) is Reason.REPLAYED
    one.close()
    two.close()


def test_in_one_transaction_the_second_of_two_equal_stamps_is_refused(store: SqliteStore) -> None:
    outcomes = store.commit([effect(NS), effect(NS), effect(NS + 1, CLOSE), effect(NS)], now=NOW)
    assert [one.refused for one in outcomes] == [None, Reason.REPLAYED, None, Reason.REPLAYED]
    assert store.live(now=NOW) == []


def test_a_refused_close_ends_nothing_and_owes_no_cut(store: SqliteStore) -> None:
    assert commit(store, NS, CLOSE) is None
    store.settle_cuts(store.owed_cuts())
    assert commit(store, NS + 1) is None
    assert commit(store, NS, CLOSE) is Reason.REPLAYED
    assert store.live(now=NOW) == [GRANT]
    assert store.owed_cuts() == []


@pytest.mark.parametrize("table", ["grants", "floors", "spent"])
def test_a_commit_that_fails_leaves_neither_grant_nor_stamp(store: SqliteStore, table: str) -> None:
    """Wherever it fails, also behind another effect that went well."""
    words = "BEFORE INSERT ON {} WHEN (SELECT count(*) FROM spent) > 0 BEGIN SELECT RAISE(ABORT, 'full'); END"
    store._db.execute("CREATE TRIGGER full " + words.format(table))
    with pytest.raises(StoreError):
        store.commit([effect(NS), effect(NS + 1, key=OTHER)], now=NOW)
    assert store.live(now=NOW) == []
    assert store.floors() == {}
    assert store._db.execute("SELECT count(*) FROM spent").fetchone() == (0,)
    store._db.execute("DROP TRIGGER full")
    outcomes = store.commit([effect(NS), effect(NS + 1, key=OTHER)], now=NOW)
    assert [one.refused for one in outcomes] == [None, None], "what failed has used nothing up"


def test_effects_without_a_stamp_ask_nobody(store: SqliteStore) -> None:
    for _ in range(2):
        assert store.commit([Admit((GRANT,)), Revoke(SOURCE)], now=NOW) == [
            Outcome(admitted=(GRANT,)),
            Outcome(ended=(GRANT,)),
        ]
    assert store.floors() == {}


def test_a_new_store_refuses_what_was_sent_before_it_was_made(tmp_path: Path) -> None:
    before = time.time_ns()
    store = SqliteStore(tmp_path)
    assert before <= store.born <= time.time_ns()
    assert commit(store, store.born, now=time.time()) is Reason.BEFORE_STORE
    assert commit(store, before - 1, CLOSE, now=time.time()) is Reason.BEFORE_STORE
    assert commit(store, store.born + 1, now=time.time()) is None
    born = store.born
    store.close()
    again = SqliteStore(tmp_path)
    assert again.born == born
    again.close()


# -- a clock that was wrong

DAY = 86400


def test_a_floor_that_a_wrong_clock_made_is_repaired_and_what_was_spent_stays_spent(store: SqliteStore) -> None:
    """Or whoever recorded a knock of the wrong time could send it when that time comes."""
    ahead = [NS + DAY * 10**9 + number for number in range(5)]
    for sent_at in ahead[:4]:
        assert commit(store, sent_at, now=NOW + DAY) is None
    assert commit(store, ahead[4], CLOSE, now=NOW + DAY) is None
    assert commit(store, NS) is Reason.FLOOR_AHEAD
    assert store.lower_floors([KEY, OTHER], now=NOW) == (1, 0)
    assert store.lower_floors([KEY, OTHER], now=NOW) == (0, 0)
    assert commit(store, NS + 1) is None
    assert commit(store, NS + 2, CLOSE) is None
    for sent_at in ahead:
        assert commit(store, sent_at, now=NOW + DAY) is Reason.REPLAYED
    memory = ReplayMemory()
    memory.replace(store.born, store.floors())
    for sent_at in ahead:
        assert memory.refusal(Stamp(KEY, sent_at), OPEN, now=NOW + DAY) is Reason.REPLAYED


def test_only_the_floors_of_the_keys_that_are_named_are_lowered(store: SqliteStore) -> None:
    store.commit([effect(NS + DAY * 10**9, key=key) for key in (KEY, OTHER)], now=NOW + DAY)
    assert store.lower_floors([OTHER], now=NOW) == (1, 0)
    assert commit(store, NS + 1) is Reason.FLOOR_AHEAD
    assert store.floors()[OTHER].floor == NS


def test_a_floor_of_now_is_left_alone(store: SqliteStore) -> None:
    assert commit(store, NS) is None
    assert store.lower_floors([KEY], now=NOW) == (0, 0)
    assert store.floors() == {KEY: Floor(NS - GRACE, 0, (NS,))}


def test_a_store_that_was_made_by_a_wrong_clock_is_repaired_too(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    early = store.born / 1e9 - DAY
    assert commit(store, int(early * 1e9), now=early) is Reason.BEFORE_STORE
    store.lower_floors([], now=early - 1)
    assert commit(store, int(early * 1e9), now=early) is None
    store.close()


def test_so_many_stamps_are_kept_below_a_floor_and_no_more(store: SqliteStore) -> None:
    """All above it are; ``KEPT`` below it, the newest, in case it must be set back."""
    step = 10**9 // 10
    sent = [NS + number * step for number in range(2 * KEPT)]
    store.commit([effect(one) for one in sent], now=NOW + 60)
    store.commit([effect(NS, key=OTHER)], now=NOW)
    above = GRACE // step
    kept = [row[0] for row in store._db.execute("SELECT sent_at FROM spent WHERE key = ? ORDER BY 1", (KEY,))]
    assert kept == sent[-KEPT - above :]
    floor = store.floors()[KEY]
    assert floor.floor == sent[-1] - GRACE
    assert floor.spent == tuple(sent[-above:])
    assert store.floors()[OTHER].spent == (NS,)


def test_no_stamp_counts_twice_though_more_were_spent_ahead_of_time_than_are_kept(store: SqliteStore) -> None:
    """A floor is set back no further than is known what was spent above it."""
    start, step = NS + DAY * 10**9, 10**9 // 10
    sent = [start + number * step for number in range(2 * KEPT)]
    store.commit([effect(one) for one in sent], now=NOW + DAY)
    assert store.lower_floors([KEY], now=NOW) == (0, 1)
    outcomes = store.commit([effect(one) for one in sent], now=NOW + DAY)
    assert None not in {one.refused for one in outcomes}


# -- upgrades

VERSION_1 = """
CREATE TABLE IF NOT EXISTS grants (
    version    INTEGER NOT NULL CHECK (version IN (4, 6)),
    first      BLOB NOT NULL,
    last       BLOB NOT NULL,
    service    TEXT NOT NULL,
    client     TEXT NOT NULL,
    source     TEXT NOT NULL,
    expires_at REAL,
    PRIMARY KEY (version, first, last, service, client)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS grants_by_end ON grants (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS owed_cuts (source TEXT NOT NULL, services TEXT NOT NULL, PRIMARY KEY (source, services))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO grants VALUES (4, X'C0000207', X'C0000207', 'ssh', 'laptop', '192.0.2.7', 1800000060.0);
INSERT INTO grants VALUES
    (6, X'20010DB8000000000000000000000000', X'20010DB800000000FFFFFFFFFFFFFFFF', 'ssh', 'desk', '2001:db8::/64', NULL);
INSERT INTO owed_cuts VALUES ('192.0.2.9', 'ssh web');
INSERT INTO counters VALUES ('opened', 7);
PRAGMA user_version = 1;
"""


def test_a_store_of_version_1_is_upgraded_and_keeps_what_it_has(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    old.executescript(VERSION_1)
    old.close()
    grants = {GRANT, Grant(ip_network("2001:db8::/64"), "ssh", "desk", None)}
    born = 0
    for _ in range(2):
        store = SqliteStore(tmp_path)
        assert set(store.live(now=NOW)) == grants
        assert store.counts() == {"opened": 7}
        assert store.owed_cuts() == [Revoke(ip_network("192.0.2.9"), None, ("ssh", "web"))]
        assert store.floors() == {}
        assert store.born == (born or store.born)
        born = store.born
        store.close()
    store = SqliteStore(tmp_path)
    assert commit(store, born, now=born / 1e9) is Reason.BEFORE_STORE
    assert commit(store, born + 1, now=born / 1e9) is None
    assert commit(store, born + 1, now=born / 1e9) is Reason.REPLAYED
    store.close()


def test_a_key_that_is_good_for_one_knock_is_spent_for_good_whatever_the_clock_says(tmp_path: Path) -> None:
    """Also one that says no time, in a store that was made just now; and whoever opens it next."""
    once = Stamp(KEY, 0, once=True)
    store = SqliteStore(tmp_path)
    memory = ReplayMemory()
    memory.replace(store.born, store.floors())
    assert memory.refusal(once, OPEN, now=NOW) is None
    assert [one.refused for one in store.commit([Admit((GRANT,), once)] * 2, now=NOW)] == [None, Reason.REPLAYED]
    memory.spend(once, OPEN)
    assert memory.refusal(once, OPEN, now=NOW) is Reason.REPLAYED
    assert memory.refusal(Stamp(OTHER, 0, once=True), OPEN, now=NOW) is None
    store.close()
    again = SqliteStore(tmp_path)
    memory.replace(again.born, again.floors())
    assert memory.refusal(once, OPEN, now=NOW - DAY) is Reason.REPLAYED
    assert again.commit([Admit((GRANT,), once)], now=NOW - DAY)[0].refused is Reason.REPLAYED
    again.close()


def test_a_key_that_is_good_for_one_knock_stays_spent_in_memory_if_the_store_could_not_take_it() -> None:
    memory, once = ReplayMemory(), Stamp(KEY, 0, once=True)
    memory.spend(once, OPEN)
    memory.replace(NS, {})
    assert memory.refusal(once, OPEN, now=NOW) is Reason.REPLAYED
