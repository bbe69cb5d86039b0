"""Room on the disk, taken ahead of time: a full disk must not shut out who comes to make room on it.

SQLite writes into what it has. Commits begin at the start of the write-ahead log again, whenever a checkpoint has
copied what is in there (sqlite.org/wal.html, 2.2), and new rows go into free pages of the database before it grows
(sqlite.org/fileformat2.html, 1.5). So both need to have been large once, and to be left so.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

ROOM = 5 << 20
"""Bytes, of each. A checkpoint is due at 1,000 pages of 4 KiB, and some hundred knocks may be in one commit; in free
pages, some 30,000 knocks and their entries in the audit trail find room."""
_MODEST = 8
"""On a disk that has less than this many times that much left, none is taken: others need it too. But what was taken
before is taken again: whoever closes the database last deletes the log."""
_TABLE = "reserve"


def take(db: sqlite3.Connection, path: Path) -> bool:
    """Take the room, unless it is there. Returns ``False`` where the disk at ``path`` has little left.

    Raises:
        sqlite3.Error: it cannot be taken.
        OSError: the disk cannot be looked at.
    """
    has_pages = _has_pages(db)
    if has_pages and _has_log(path):
        return True
    disk = os.statvfs(path)
    if not has_pages and disk.f_bavail * disk.f_frsize < _MODEST * ROOM:
        return False
    # Two commits: what is written and deleted in one never reaches the disk.
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(f"DROP TABLE IF EXISTS {_TABLE}")  # somebody was killed here
        db.execute(f"CREATE TABLE {_TABLE} (room BLOB)")
        db.execute(f"INSERT INTO {_TABLE} VALUES (zeroblob({ROOM}))")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    db.execute(f"DROP TABLE {_TABLE}")
    make_room(db)
    return True


def make_room(db: sqlite3.Connection) -> None:
    """Have the log written from its start again, as soon as nobody reads it. Waits for nobody."""
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _has_pages(db: sqlite3.Connection) -> bool:
    free, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_size"))
    return free * size >= ROOM // 2


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size >= ROOM
