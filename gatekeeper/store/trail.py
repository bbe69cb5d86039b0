"""The audit trail: who was let in, who no longer is, and which client was refused; bounded by age and by size.

A change of the grants has its row in the transaction that makes it. Every function takes the open connection; none
begins or ends a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network

from gatekeeper.model import BY_HAND, Admit, Effect, Grant, Outcome, TrailEntry, Wanted
from gatekeeper.networks import show_source
from gatekeeper.settings import TrailSettings

SCHEMA = """
CREATE TABLE IF NOT EXISTS trail (
    id      INTEGER PRIMARY KEY,    -- without gaps
    at      REAL NOT NULL,          -- Unix seconds
    reason  TEXT NOT NULL,          -- as the log has it
    client  TEXT,
    source  TEXT,
    service TEXT,
    ends_at REAL,                   -- of what was opened; NULL: until closed
    note    TEXT
);
"""
ROW = 400
"""Bytes that a row takes at the most, with its share of the pages."""
_LONGEST = 120
"""Bytes of a note, or of any other word."""
_EACH = 100
"""Grants that have a row of their own, of one change."""
_LATEST = 253_370_678_400
"""Unix seconds: the last day of the year 9998; what is later cannot be shown."""
_TRIMMED_AT_ONCE = 2000
_COLUMNS = "at, reason, client, source, service, ends_at, note"


class Trail:
    """Writes the trail of one process."""

    def __init__(self, settings: TrailSettings | None, *, who: str | None = None) -> None:
        """``settings``: ``None`` for no trail; ``who``: by whose hand, if that is known."""
        self._settings = settings
        self._by = None if who is None else f"by {who}"

    def carried_out(self, db: sqlite3.Connection, effect: Effect, outcome: Outcome, *, now: float) -> None:
        """Note what has become of an effect."""
        if isinstance(effect, Admit):
            by_hand = [one for one in outcome.admitted if one.client == BY_HAND]
            self.changed(db, "granted", by_hand, now=now)
            self.changed(db, "opened", [one for one in outcome.admitted if one.client != BY_HAND], now=now)
            self.changed(db, "crowded-out", outcome.ended, now=now)
        else:
            self.changed(db, "revoked" if effect.client is None else "closed", outcome.ended, now=now)

    def changed(self, db: sqlite3.Connection, reason: str, grants: Sequence[Grant], *, now: float) -> None:
        """Note grants that began or ended: each, or how many it were."""
        if self._settings is None or not grants:
            return
        note = self._by
        if len(grants) > _EACH:
            note = f"{len(grants)} grants" + (f" {self._by}" if self._by else "")
            grants = ()
        rows = [
            TrailEntry(now, reason, one.client, show_source(one.source), one.service, one.expires_at, note)
            for one in grants
        ]
        self.add(db, rows or [TrailEntry(now, reason, note=note)])

    def add(self, db: sqlite3.Connection, entries: Iterable[TrailEntry]) -> None:
        """Note these."""
        if self._settings is not None:
            places = (
                "INSERT INTO trail (at, reason, client, source, service, ends_at, note) VALUES (?, ?, ?, ?, ?, ?, ?)"
            )
            db.executemany(places, [tuple(_cut(value) for value in one[:7]) for one in entries])

    def trim(self, db: sqlite3.Connection, *, now: float) -> None:
        """Forget what is too old, or too much: some of it, so that nobody waits; the rest at the next time."""
        # two questions: asked for both at once, SQLite goes through the whole table
        first, last = db.execute("SELECT (SELECT min(id) FROM trail), (SELECT max(id) FROM trail)").fetchone()
        if first is None:
            return
        keep_from, rows = (last + 1, 0) if self._settings is None else (first, self._settings.size // ROW)
        keep_from = max(keep_from, last + 1 - rows)
        if self._settings is not None and self._settings.keep is not None:
            oldest = now - self._settings.keep
            young = "SELECT id FROM trail WHERE id <= ? AND at >= ? ORDER BY id LIMIT 1"
            some = first + _TRIMMED_AT_ONCE
            found = db.execute(young, (some, oldest)).fetchone()
            keep_from = max(keep_from, some if found is None else found[0])
        db.execute("DELETE FROM trail WHERE id < ?", (min(keep_from, first + _TRIMMED_AT_ONCE),))


def read(db: sqlite3.Connection, wanted: Wanted, *, after: int = 0, limit: int = -1) -> Iterator[TrailEntry]:
    """Yield what is wanted, the newest first; of the rows behind the number ``after``; at most ``limit`` of them."""
    newest = db.execute("SELECT max(id) FROM trail").fetchone()[0]
    if newest is None or newest < after:  # all of it was forgotten, and the numbers begin anew
        after = 0
    where: list[str] = ["id > ?"]
    values: list[object] = [after]
    for name, value in (("at >= ?", wanted.since), ("at <= ?", wanted.until), ("client = ?", wanted.client)):
        _and(where, values, name, value)
    for name, value in (("service = ?", wanted.service), ("reason = ?", wanted.reason)):
        _and(where, values, name, value)
    rows = db.execute(f"SELECT {_COLUMNS}, id FROM trail WHERE {' AND '.join(where)} ORDER BY id DESC", values)
    for row in rows:
        entry = _entry(*row)
        if wanted.source is None or entry.lies_in(wanted.source):
            if limit == 0:
                return
            limit -= 1
            yield entry


def _entry(at: object, reason: object, *rest: object) -> TrailEntry:
    """Read a row. Whoever may write the file may not have root, who reads it, stumble.

    Raises:
        ValueError: it is none that we have written.
    """
    client, source, service, ends_at, note, number = rest
    words = (reason, client, source, service, note)
    if not isinstance(reason, str) or not all(one is None or isinstance(one, str) for one in words):
        raise ValueError("the trail has words that are no text")
    for moment in (at, 0.0 if ends_at is None else ends_at):
        if not isinstance(moment, (int, float)) or not 0 <= moment < _LATEST:
            raise ValueError("the trail has a time that is none")
    if isinstance(source, str):
        ip_network(source)
    return TrailEntry(at, reason, client, source, service, ends_at, note, number)  # type: ignore[arg-type]


def _and(where: list[str], values: list[object], condition: str, value: object) -> None:
    if value is not None:
        where.append(condition)
        values.append(value)


def _cut(value: object) -> object:
    if not isinstance(value, str):
        return value
    return value.encode(errors="backslashreplace")[:_LONGEST].decode(errors="ignore")
