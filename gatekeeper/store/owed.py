"""What revokes still have to cut in the kernel; and whose connections a grant that ended by time may have left.

Every function takes the open connection; none begins or ends a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from gatekeeper.model import Grant, Revoke
from gatekeeper.store import ranges

SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (  -- ended by time, so its connections may have been kept; a close still cuts them
    version  INTEGER NOT NULL,
    first    BLOB NOT NULL,
    last     BLOB NOT NULL,
    service  TEXT NOT NULL,
    client   TEXT NOT NULL,
    ended_at REAL NOT NULL,
    PRIMARY KEY (version, first, last, service, client)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_by_end ON kept (ended_at);
CREATE TABLE IF NOT EXISTS owed_cuts (  -- revoked, but perhaps not cut in the kernel yet
    source TEXT NOT NULL,
    services TEXT NOT NULL,         -- separated by spaces; empty: all
    PRIMARY KEY (source, services)
) WITHOUT ROWID;
"""
_KEPT_FOR = 30 * 86_400.0
"""Seconds for which it is remembered whose connections may have been kept."""


def note(db: sqlite3.Connection, effect: Revoke, ended: Iterable[Grant]) -> None:
    """Note the cuts that a revoke owes, which has ``ended`` these grants."""
    services = effect.services
    if effect.client is not None:  # what is cut is its own: it had, or has, a grant there
        kept = f"SELECT DISTINCT service FROM kept WHERE {ranges.WITHIN} AND client = :client"
        rows = db.execute(kept, {**ranges.bounds(effect.source), "client": effect.client})
        its = {grant.service for grant in ended} | {service for (service,) in rows}
        services = tuple(sorted(its if services is None else its & set(services)))
    if services is None or services:
        db.execute("INSERT OR IGNORE INTO owed_cuts VALUES (?, ?)", (str(effect.source), " ".join(services or ())))


def cuts(db: sqlite3.Connection) -> list[Revoke]:
    """Return the revokes, of any process, whose cuts have not been settled."""
    rows = db.execute("SELECT source, services FROM owed_cuts").fetchall()
    return [
        Revoke(ip_network(source), None, tuple(services.split()) if services else None) for source, services in rows
    ]


def settle(db: sqlite3.Connection, cut: Sequence[Revoke]) -> None:
    """Note that these have been carried out."""
    db.executemany(
        "DELETE FROM owed_cuts WHERE source = ? AND services = ?",
        [(str(one.source), " ".join(one.services or ())) for one in cut],
    )


def keep(db: sqlite3.Connection, ended: Iterable[Grant], *, now: float) -> None:
    """Remember the grants that ended by time, for as long as a close may still have to cut what they left."""
    db.executemany(
        "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)",
        [(*ranges.of(grant.source), grant.service, grant.client, now) for grant in ended],
    )
    db.execute("DELETE FROM kept WHERE ended_at < ?", (now - _KEPT_FOR,))
