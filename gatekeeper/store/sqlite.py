"""The store in a file: SQLite in the state directory, write-ahead log, full synchronisation.

What ``commit`` has returned for is there after a power cut (https://www.sqlite.org/pragma.html,
"synchronous"). Several processes may have the store open: the daemon, and a ``gatekeeper grant``
beside it. A connection is used by one thread at a time.

The file, the transactions and the errors are here; what is in the tables has a file for each beside this one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gatekeeper import replay
from gatekeeper.errors import StoreError
from gatekeeper.model import (
    Action,
    Admit,
    Changes,
    Effect,
    Floor,
    Grant,
    Outcome,
    Reading,
    Revoke,
    TrailEntry,
    Wanted,
)
from gatekeeper.networks import Source
from gatekeeper.store import grants, journal, owed, reserve, schema, stamps, trail
from gatekeeper.store.owner import open_or_make
from gatekeeper.store.trail import Trail

FILE = "gatekeeper.db"
_BUSY_MS = 5000


class SqliteStore:
    """Grants, spent stamps and counters in one SQLite file."""

    def __init__(
        self,
        directory: Path,
        *,
        create: bool = True,
        skew: int = 120,
        is_checked: bool = True,
        trail_of: Trail | None = None,
    ) -> None:
        """Open the store in a state directory (made 0700 if it is not there); ``skew`` as the rules have it.

        ``is_checked``: whether all of it is looked through for damage, which takes longer the more there is.

        Raises:
            StoreError: it cannot be read, written or made, or is damaged.
        """
        self.path = directory / FILE
        self._skew = skew
        self._trail = trail_of or Trail(None)
        with self._errors():
            if create:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(open_or_make(self.path))  # what SQLite makes beside it gets the same owner
            elif not self.path.exists():
                raise StoreError(f"no store in {directory}", "name another with --state-dir DIR")
            elif self.path.is_symlink():  # which we never make: a trap of the folder's owner, for root
                raise StoreError(f"the store {self.path} is a symbolic link", "put the file itself in its place")
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(is_checked=is_checked)
            except BaseException:
                self._db.close()
                raise
        self._data_version = self._read_data_version()
        with self._errors():
            self._seen = journal.last(self._db)

    def _prepare(self, *, is_checked: bool) -> None:
        self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        if schema.is_newer(self._db):
            raise StoreError(f"{self.path} was written by a newer gatekeeper", "upgrade gatekeeper")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if is_checked:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        schema.upgrade(self._db)
        self._db.execute("SELECT 1 FROM grants, counters, floors, spent LIMIT 1")

    def reserve(self) -> bool:
        """Take room on the disk for what is to come; return whether it has enough to spare (reserve.py)."""
        with self._errors():
            return reserve.take(self._db, self.path)

    def commit(self, effects: Sequence[Effect], *, now: float) -> list[Outcome]:
        """Carry out effects in one transaction; one outcome each."""
        with self._transaction():
            outcomes = [self._carry_out(effect, now) for effect in effects]
            for effect, outcome in zip(effects, outcomes, strict=True):
                self._trail.carried_out(self._db, effect, outcome, now=now)
            return outcomes

    def shorten(self, shorter: Sequence[Grant], *, now: float) -> None:
        """Let grants end earlier: the rules say so, and nobody has opened or closed anything."""
        with self._transaction():
            self._carry_out(Admit(tuple(shorter)), now)

    def _carry_out(self, effect: Effect, now: float) -> Outcome:
        if effect.stamp is not None:
            action = Action.OPEN if isinstance(effect, Admit) else Action.CLOSE
            refused = stamps.spend(self._db, effect.stamp, action, latest=replay.latest(now, self._skew))
            if refused is not None:
                return Outcome(refused=refused)
        if isinstance(effect, Admit):
            return Outcome(admitted=effect.grants, ended=tuple(grants.admit(self._db, effect)))
        ended = grants.revoke(self._db, effect, now=now)
        owed.note(self._db, effect, ended)
        return Outcome(ended=tuple(ended))

    # -- stamps

    @property
    def born(self) -> int:
        """When the store was made (Unix time in nanoseconds): the floor of a key that has none."""
        with self._errors():
            return stamps.born(self._db)

    def floors(self) -> dict[bytes, Floor]:
        """Return the floors of the keys that have one."""
        with self._errors():
            return stamps.floors(self._db)

    def lower_floors(self, keys: Sequence[bytes], *, now: float) -> tuple[int, int]:
        """Set back to ``now`` the floors that are above it; return how many were, and how many could not be."""
        with self._transaction():
            journal.note_floors(self._db)
            return stamps.lower_floors(self._db, keys, to=int(now * 1e9))

    # -- grants

    def owed_cuts(self) -> list[Revoke]:
        """The revokes, of any process, whose cuts have not been settled."""
        with self._errors():
            return owed.cuts(self._db)

    def settle_cuts(self, cuts: Sequence[Revoke]) -> None:
        """Note that these have been carried out."""
        with self._transaction():
            owed.settle(self._db, cuts)

    def expire(self, *, now: float, limit: int = -1) -> list[Grant]:
        """Remove and return the grants that ended by time; at most ``limit`` of them, if it is not negative."""
        with self._transaction():
            ended = grants.expire(self._db, now=now, limit=limit)
            owed.keep(self._db, ended, now=now)
            self._trail.changed(self._db, "expired", ended, now=now)
        return ended

    def forget(self, gone: Sequence[Grant], *, now: float) -> None:
        """Remove grants, whoever gave them."""
        with self._transaction():
            grants.delete(self._db, gone)
            self._trail.changed(self._db, "ended", gone, now=now)

    def rebase(self, reading: Reading) -> None:
        """Move the deadlines that were reckoned in this boot by as much as the wall clock was set since."""
        with self._transaction():
            grants.rebase(self._db, reading)

    def live(self, *, now: float) -> list[Grant]:
        """All grants that hold at ``now``."""
        with self._errors():
            return grants.live(self._db, now=now)

    def each(self, *, now: float) -> Iterator[Grant]:
        """Yield what ``live`` returns, one by one, by service and address."""
        with self._errors():
            yield from grants.each(self._db, now=now)

    def number(self, *, now: float) -> int:
        """Count what ``live`` returns."""
        with self._errors():
            return grants.number(self._db, now=now)

    def numbers(self, *, now: float) -> dict[str, int]:
        """Count what ``live`` returns, by service."""
        with self._errors():
            return grants.numbers(self._db, now=now)

    def ending_next(self, *, now: float, limit: int) -> list[Grant]:
        """The live grants whose time is up first."""
        with self._errors():
            return grants.ending_next(self._db, now=now, limit=limit)

    def matching(self, service: str, source: Source, *, now: float) -> list[Grant]:
        """The live grants, of any client, for exactly this service and source."""
        with self._errors():
            return grants.matching(self._db, service, source, now=now)

    def touching(self, source: Source, *, now: float) -> list[Grant]:
        """The live grants that share an address with ``source``."""
        with self._errors():
            return grants.touching(self._db, source, now=now)

    # -- counters, the trail, and what others do

    def add_counts(self, counts: Mapping[str, int], noted: Sequence[TrailEntry] = (), *, now: float = 0.0) -> None:
        """Add to the counters that outlive a restart, and to the trail."""
        with self._transaction():
            self._trail.add(self._db, noted)
            self._trail.trim(self._db, now=now)
            self._db.executemany(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = count + excluded.count",
                list(counts.items()),
            )

    def counts(self) -> dict[str, int]:
        """Return these counters."""
        with self._errors():
            return dict(self._db.execute("SELECT name, count FROM counters ORDER BY name"))

    def trail(self, wanted: Wanted, *, after: int = 0, limit: int = -1) -> list[TrailEntry]:
        """What the audit trail has, the newest first; of the rows behind the number ``after``; at most ``limit``."""
        with self._errors():
            return list(trail.read(self._db, wanted, after=after, limit=limit))

    def changed_by_others(self) -> bool:
        """Whether another process has written since this was last asked."""
        before, self._data_version = self._data_version, self._read_data_version()
        return before != self._data_version

    def changes(self) -> Changes | None:
        """What has become of the grants that others changed since this was last asked; ``None``: of too many."""
        with self._errors():
            latest = journal.last(self._db)
            found = journal.since(self._db, self._seen)
            self._seen = latest
            return found

    def _read_data_version(self) -> int:
        with self._errors():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Let go of the store."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                before = journal.last(self._db)
                yield
                latest = journal.trim(self._db)
                self._db.execute("COMMIT")
                if before == self._seen:  # or others' changes would pass for ours
                    self._seen = latest
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    with contextlib.suppress(sqlite3.Error):  # a reader may have kept the log from beginning again
                        reserve.make_room(self._db)
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(f"the store {self.path} cannot be used: {error}", _hint(error)) from error
        except (sqlite3.DatabaseError, ValueError) as error:
            hint = "put a backup in its place, or move it away: then all grants must be given again"
            raise StoreError(f"the store {self.path} is damaged: {error}", hint) from error
        except OSError as error:
            raise StoreError(f"the store {self.path} cannot be used: {error.strerror}", _hint(error)) from error


def _hint(error: Exception) -> str | None:
    words = str(error)
    if "locked" in words:
        return "another process holds it: try again"
    if "full" in words:
        return "make room on the disk"
    if isinstance(error, PermissionError) or "readonly" in words or "unable to open" in words:
        return "run it as root or with sudo, or name another directory with --state-dir DIR"
    return None
