"""The tables of the store, and how an older store becomes one of today's."""

from __future__ import annotations

import sqlite3

from gatekeeper.store import journal, stamps, trail

_VERSION = 5
_SCHEMA = """
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
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""
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
        tables = f"{_SCHEMA} {stamps.SCHEMA} {journal.SCHEMA} {trail.SCHEMA} {stamps.birth()}"
        db.executescript(f"BEGIN IMMEDIATE; {older} {tables} PRAGMA user_version = {_VERSION}; COMMIT;")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
