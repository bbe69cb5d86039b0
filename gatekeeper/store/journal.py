"""Which grants have changed lately, whoever changed them: so that another process need not read them all again.

Triggers write it, in the transaction of the change. Every function takes the open connection; none begins or ends a
transaction.
"""

from __future__ import annotations

import sqlite3

from gatekeeper.model import Changes, Grant
from gatekeeper.networks import Source
from gatekeeper.store import ranges

SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    serial  INTEGER PRIMARY KEY,    -- without gaps
    version INTEGER,                -- all that follow are NULL where floors were set back
    first   BLOB,
    last    BLOB,
    service TEXT,
    client  TEXT
);
CREATE TRIGGER IF NOT EXISTS note_insert AFTER INSERT ON grants BEGIN
    INSERT INTO journal (version, first, last, service, client)
    VALUES (NEW.version, NEW.first, NEW.last, NEW.service, NEW.client);
END;
CREATE TRIGGER IF NOT EXISTS note_update AFTER UPDATE ON grants BEGIN
    INSERT INTO journal (version, first, last, service, client)
    VALUES (NEW.version, NEW.first, NEW.last, NEW.service, NEW.client);
END;
CREATE TRIGGER IF NOT EXISTS note_delete AFTER DELETE ON grants BEGIN
    INSERT INTO journal (version, first, last, service, client)
    VALUES (OLD.version, OLD.first, OLD.last, OLD.service, OLD.client);
END;
"""
KEPT = 5000
"""Changes that are kept. Who has missed more reads all grants."""
_SINCE = """
SELECT DISTINCT j.version, j.first, j.last, j.service, j.client, g.source IS NOT NULL, g.expires_at
FROM journal j LEFT JOIN grants g
    ON g.version = j.version AND g.first = j.first AND g.last = j.last AND g.service = j.service AND g.client = j.client
WHERE j.serial > ?
"""


def last(db: sqlite3.Connection) -> int:
    """Return the number of the last change."""
    return int(db.execute("SELECT coalesce(max(serial), 0) FROM journal").fetchone()[0])


def note_floors(db: sqlite3.Connection) -> None:
    """Note that floors were set back."""
    db.execute("INSERT INTO journal DEFAULT VALUES")


def trim(db: sqlite3.Connection) -> int:
    """Forget the oldest, where there are too many; return the number of the last change."""
    latest = last(db)
    db.execute("DELETE FROM journal WHERE serial <= ?", (latest - KEPT,))
    return latest


def since(db: sqlite3.Connection, serial: int) -> Changes | None:
    """Return what has become of all that was changed after ``serial``; ``None`` if not all of that is known."""
    first = db.execute("SELECT min(serial) FROM journal").fetchone()[0]
    if first is not None and first > serial + 1:
        return None
    there: list[Grant] = []
    gone: list[tuple[str, Source, str]] = []
    floors = False
    for version, low, high, service, client, is_there, end in db.execute(_SINCE, (serial,)):
        if version is None:
            floors = True
            continue
        grant = Grant(ranges.network(low, high), service, client, end)
        if is_there:
            there.append(grant)
        else:
            gone.append((service, grant.source, client))
    return Changes(tuple(there), tuple(gone), floors)
