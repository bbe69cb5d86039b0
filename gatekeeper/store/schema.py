"""The tables of the store, and how an older store becomes one of today's."""

from __future__ import annotations

import sqlite3

from gatekeeper.store import grants, journal, owed, stamps, trail

_VERSION = 5
_COUNTERS = "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;"
_NEW_IN_3 = """
ALTER TABLE grants ADD COLUMN boot TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN ahead REAL NOT NULL DEFAULT 0;
"""


def is_newer(db: sqlite3.Connection) -> bool:
    """Whether a later gatekeeper has made this."""
    return _version(db) > _VERSION


def upgrade(db: sqlite3.Connection) -> None:
    """Make what is not there yet, in one transaction."""
    version = _version(db)
    if version < _VERSION:
        older = _NEW_IN_3 if 0 < version < 3 else ""
        each = (grants, owed, stamps, journal, trail)
        tables = " ".join([_COUNTERS, *(one.SCHEMA for one in each), stamps.birth()])
        db.executescript(f"BEGIN IMMEDIATE; {older} {tables} PRAGMA user_version = {_VERSION}; COMMIT;")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
