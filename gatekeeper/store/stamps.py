"""The tables of spent stamps, inside the transactions of ``sqlite.py``. The rule itself is in ``replay.py``.

Every function takes the open connection; none begins or ends a transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from gatekeeper import replay
from gatekeeper.model import Action, Floor, Reason, Stamp

SCHEMA = """
CREATE TABLE IF NOT EXISTS birth (born INTEGER NOT NULL);  -- one row; Unix nanoseconds, as all that follow
CREATE TABLE IF NOT EXISTS floors (
    key    BLOB PRIMARY KEY,        -- a client's public key, or what stands for its keys; or one good for one knock
    floor  INTEGER NOT NULL,        -- no stamp at or below it is accepted
    closed INTEGER NOT NULL         -- and no opening at or below this
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (  -- accepted: all above the floor, and some below
    key     BLOB NOT NULL,
    sent_at INTEGER NOT NULL,
    PRIMARY KEY (key, sent_at)
) WITHOUT ROWID;
"""


def birth() -> str:
    """Write the statement that notes when a store was made, if none has yet."""
    return f"INSERT INTO birth SELECT {time.time_ns()} WHERE NOT EXISTS (SELECT 1 FROM birth);"


def born(db: sqlite3.Connection) -> int:
    """When the store was made (Unix time in nanoseconds): the floor of a key that has none."""
    return int(db.execute("SELECT born FROM birth").fetchone()[0])


def spend(db: sqlite3.Connection, stamp: Stamp, action: Action, *, latest: int) -> Reason | None:
    """Spend a stamp, or say why it cannot be. ``latest``: the newest time that any clock may honestly say, in ns."""
    row = db.execute("SELECT floor, closed FROM floors WHERE key = ?", (stamp.key,)).fetchone()
    if stamp.once:
        if row is None:
            db.execute("INSERT INTO floors VALUES (?, 0, 0)", (stamp.key,))
        return None if row is None else Reason.REPLAYED
    if row is None and stamp.sent_at <= born(db):
        return Reason.BEFORE_STORE
    floor = Floor(*row) if row is not None else Floor(born(db))
    where = (stamp.key, stamp.sent_at)
    is_spent = db.execute("SELECT 1 FROM spent WHERE key = ? AND sent_at = ?", where).fetchone() is not None
    refused = replay.refusal(stamp, action, floor, is_spent=is_spent, latest=latest)
    if refused is not None:
        return refused
    after = replay.advanced(floor, stamp, action)
    db.execute("INSERT INTO spent VALUES (?, ?)", where)
    above = "SELECT sent_at FROM spent WHERE key = ? AND sent_at > ? ORDER BY sent_at DESC LIMIT 1 OFFSET ?"
    if (beyond := db.execute(above, (stamp.key, after.floor, replay.MOST)).fetchone()) is not None:
        after = replace(after, floor=beyond[0])
    db.execute("INSERT OR REPLACE INTO floors VALUES (?, ?, ?)", (stamp.key, after.floor, after.closed))
    db.execute(
        "DELETE FROM spent WHERE key = :key AND sent_at < (SELECT sent_at FROM spent WHERE key = :key"
        " AND sent_at <= :floor ORDER BY sent_at DESC LIMIT 1 OFFSET :kept)",
        {"key": stamp.key, "floor": after.floor, "kept": replay.KEPT - 1},
    )
    return None


def floors(db: sqlite3.Connection) -> dict[bytes, Floor]:
    """Return the floors of the keys that have one."""
    spent: dict[bytes, list[int]] = {}
    for key, sent_at in db.execute(
        "SELECT key, sent_at FROM spent JOIN floors USING (key) WHERE sent_at > floor ORDER BY key, sent_at"
    ):
        spent.setdefault(key, []).append(sent_at)
    rows = db.execute("SELECT key, floor, closed FROM floors")
    return {key: Floor(floor, closed, tuple(spent.get(key, ()))) for key, floor, closed in rows}


def lower_floors(db: sqlite3.Connection, keys: Sequence[bytes], *, to: int) -> tuple[int, int]:
    """Set back the floors that are above ``to`` (ns); return how many were, and how many could not be.

    What was spent stays spent. So a floor stays where more was spent above ``to`` than is kept. The store's
    own birth, which is the floor of all keys that have none, is set back too, and counts as one.
    """
    lowered = stuck = 0
    for key in keys:
        row = db.execute("SELECT max(floor, closed) FROM floors WHERE key = ?", (key,)).fetchone()
        if row is None or row[0] <= to:
            continue
        above = db.execute("SELECT count(*) FROM spent WHERE key = ? AND sent_at > ?", (key, to)).fetchone()[0]
        if above >= replay.KEPT:
            stuck += 1
            continue
        db.execute("UPDATE floors SET floor = min(floor, ?), closed = min(closed, ?) WHERE key = ?", (to, to, key))
        lowered += 1
    lowered += db.execute("UPDATE birth SET born = ? WHERE born > ?", (to, to)).rowcount
    return lowered, stuck
