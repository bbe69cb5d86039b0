"""The table of grants: who is let in where, and until when.

Every function takes the open connection; none begins or ends a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice

from gatekeeper import clock
from gatekeeper.model import BY_HAND, Admit, Grant, Reading, Revoke
from gatekeeper.networks import Source
from gatekeeper.store import ranges

SCHEMA = """
CREATE TABLE IF NOT EXISTS grants (
    version    INTEGER NOT NULL CHECK (version IN (4, 6)),
    first      BLOB NOT NULL,       -- first and last address of the source, packed: they sort as numbers
    last       BLOB NOT NULL,
    service    TEXT NOT NULL,
    client     TEXT NOT NULL,
    source     TEXT NOT NULL,
    expires_at REAL,                -- Unix seconds; NULL: until closed
    boot       TEXT NOT NULL DEFAULT '',  -- in which boot that was reckoned, and by how many seconds
    ahead      REAL NOT NULL DEFAULT 0,   -- the wall clock was ahead of the time since it (clock.py)
    PRIMARY KEY (version, first, last, service, client)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS grants_by_end ON grants (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS grants_by_client ON grants (client, service);
"""
MAX_GRANTS = 4096
"""Live grants that one client may have for a service: so that none fills the kernel's set, which all share."""
_COLUMNS = "first, last, service, client, expires_at"
_LIVE = "(expires_at IS NULL OR expires_at > :now)"


def admit(db: sqlite3.Connection, effect: Admit) -> list[Grant]:
    """Enter grants; take out, and return, what a client has too much of then."""
    reckoned = clock.reading()
    db.executemany(
        "INSERT OR REPLACE INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (*ranges.of(grant.source), grant.service, grant.client, str(grant.source), grant.expires_at, *reckoned)
            for grant in effect.grants
        ],
    )
    return _crowded_out(db, effect)


def _crowded_out(db: sqlite3.Connection, effect: Admit) -> list[Grant]:
    """Take out what a client has too much of: what ends first."""
    gone: list[Grant] = []
    for client, service in {(one.client, one.service) for one in effect.grants if one.client != BY_HAND}:
        where = "client = ? AND service = ?"
        count = db.execute(f"SELECT count(*) FROM grants WHERE {where}", (client, service)).fetchone()[0]
        if count > MAX_GRANTS:
            order = "ORDER BY expires_at IS NULL, expires_at LIMIT ?"
            values = (client, service, count - MAX_GRANTS)
            gone += map(_grant, db.execute(f"SELECT {_COLUMNS} FROM grants WHERE {where} {order}", values))
    delete(db, gone)
    return gone


def revoke(db: sqlite3.Connection, effect: Revoke, *, now: float) -> list[Grant]:
    """Take out, and return, the live grants that a revoke is about."""
    where = ranges.WITHIN if effect.client is None else f"{ranges.WITHIN} AND client = :client"
    values = {**ranges.bounds(effect.source), "now": now, "client": effect.client}
    rows = db.execute(f"SELECT {_COLUMNS} FROM grants WHERE {where} AND {_LIVE}", values)
    its_own = (row for row in rows if effect.services is None or row[2] in effect.services)
    found = [_grant(row) for row in islice(its_own, effect.limit)]
    delete(db, found)
    return found


def expire(db: sqlite3.Connection, *, now: float, limit: int) -> list[Grant]:
    """Take out, and return, the grants that ended by time; at most ``limit`` of them, if it is not negative."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM grants WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (now, limit))
    ended = [_grant(row) for row in rows]
    delete(db, ended)
    return ended


def delete(db: sqlite3.Connection, gone: Sequence[Grant]) -> None:
    """Take out grants."""
    db.executemany(
        "DELETE FROM grants WHERE version = ? AND first = ? AND last = ? AND service = ? AND client = ?",
        [(*ranges.of(grant.source), grant.service, grant.client) for grant in gone],
    )


def rebase(db: sqlite3.Connection, reading: Reading) -> None:
    """Move the deadlines that were reckoned in this boot by as much as the wall clock was set since."""
    values = {"boot": reading.boot, "ahead": reading.ahead, "step": clock.STEP}
    where = "boot = :boot AND abs(:ahead - ahead) > :step"
    if db.execute(f"SELECT 1 FROM grants WHERE {where} LIMIT 1", values).fetchone():
        move = "expires_at = expires_at + (:ahead - ahead), ahead = :ahead"
        db.execute(f"UPDATE grants SET {move} WHERE {where}", values)


def live(db: sqlite3.Connection, *, now: float) -> list[Grant]:
    """Return all grants that hold at ``now``."""
    return [_grant(row) for row in db.execute(f"SELECT {_COLUMNS} FROM grants WHERE {_LIVE}", {"now": now})]


def each(db: sqlite3.Connection, *, now: float) -> Iterator[Grant]:
    """Yield what ``live`` returns, one by one, by service and address."""
    order = "ORDER BY service, version, first, last, client"
    return map(_grant, db.execute(f"SELECT {_COLUMNS} FROM grants WHERE {_LIVE} {order}", {"now": now}))


def number(db: sqlite3.Connection, *, now: float) -> int:
    """Count what ``live`` returns."""
    every, ended = "SELECT count(*) FROM grants", "SELECT count(*) FROM grants WHERE expires_at <= ?"
    return int(db.execute(f"SELECT ({every}) - ({ended})", (now,)).fetchone()[0])


def numbers(db: sqlite3.Connection, *, now: float) -> dict[str, int]:
    """Count what ``live`` returns, by service."""
    rows = db.execute(f"SELECT service, count(*) FROM grants WHERE {_LIVE} GROUP BY service", {"now": now})
    return {service: int(count) for service, count in rows}


def ending_next(db: sqlite3.Connection, *, now: float, limit: int) -> list[Grant]:
    """Return the live grants whose time is up first."""
    where = "WHERE expires_at > ? ORDER BY expires_at LIMIT ?"
    return [_grant(row) for row in db.execute(f"SELECT {_COLUMNS} FROM grants {where}", (now, limit))]


def matching(db: sqlite3.Connection, service: str, source: Source, *, now: float) -> list[Grant]:
    """Return the live grants, of any client, for exactly this service and source."""
    version, first, last = ranges.of(source)
    values = {"version": version, "first": first, "last": last, "service": service, "now": now}
    where = f"version = :version AND first = :first AND last = :last AND service = :service AND {_LIVE}"
    return [_grant(row) for row in db.execute(f"SELECT {_COLUMNS} FROM grants WHERE {where}", values)]


def touching(db: sqlite3.Connection, source: Source, *, now: float) -> list[Grant]:
    """Return the live grants that share an address with ``source``."""
    version, first, last = ranges.of(source)
    inside = f"SELECT {_COLUMNS} FROM grants WHERE version = ? AND first >= ? AND first <= ?"
    whole = f"SELECT {_COLUMNS} FROM grants WHERE version = ? AND first = ? AND last = ?"
    rows = db.execute(inside, (version, first, last)).fetchall()
    for low, high in ranges.around(source):
        if low < first:  # what begins where the source does is inside, or was found there
            rows += db.execute(whole, (version, low, high))
    return [grant for grant in map(_grant, rows) if grant.is_live(now)]


def _grant(row: tuple[bytes, bytes, str, str, float | None]) -> Grant:
    first, last, service, client, expires_at = row
    return Grant(ranges.network(first, last), service, client, expires_at)
