"""Reads the figures of a run: of its store, of the kernel, of what its processes share. It changes nothing.

What cannot be read now is ``None``, and the rest is told all the same.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from gatekeeper import __version__, inforce
from gatekeeper.errors import FirewallError, StoreError
from gatekeeper.firewall import apply, lanes, nfqueue, pressure
from gatekeeper.firewall.backends import KernelBackend
from gatekeeper.metrics.figures import Figures, Kernel, Queue, Stored
from gatekeeper.settings import Mode, Rules
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.tallies import Tallies


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The run that is looked at."""

    rules: Rules
    since: float
    """When these rules were loaded; Unix time."""
    started: float
    state_dir: Path
    supervisor: int
    """Its process."""
    tallies: Tallies


class Gatherer:
    """Reads again and again. The store is opened when it is first needed, and kept open while that works."""

    def __init__(self, subject: Subject, backend: KernelBackend) -> None:
        self._subject = subject
        self._backend = backend
        self._store: SqliteStore | None = None

    def figures(self) -> Figures:
        """Look around."""
        one = self._subject
        return Figures(
            version=__version__,
            started=one.started,
            rules_since=one.since,
            reload_succeeded=self._reload_succeeded(),
            observes=one.rules.mode is Mode.OBSERVE,
            clients=len(one.rules.clients),
            workers=one.rules.workers,
            replaced=one.tallies.replaced(),
            took=one.tallies.took(),
            sockets={
                (lane.name.lower(), worker + 1): waiting
                for (lane, worker), waiting in one.tallies.waiting(one.rules.workers).items()
            },
            queues=self._queues(),
            stored=self._stored(),
            kernel=self._kernel(),
            tracked=pressure.tracked(),
        )

    def _reload_succeeded(self) -> bool | None:
        with contextlib.suppress(OSError):
            last = inforce.read_last(self._subject.state_dir)
            if last is not None and last.pid == self._subject.supervisor:
                return last.ok
        return None

    def _stored(self) -> Stored | None:
        try:
            if self._store is None:
                self._store = SqliteStore(self._subject.state_dir, create=False, is_checked=False)
            grants = dict.fromkeys(self._subject.rules.services, 0)
            found = self._store.numbers(now=time.time())
            grants |= {name: number for name, number in found.items() if name in grants}
            return Stored(counters=self._store.counts(), grants=grants)
        except (StoreError, sqlite3.Error):
            self._forget_store()
            return None

    def _forget_store(self) -> None:
        """Open it anew next time: it may be another file then."""
        if self._store is not None:
            with contextlib.suppress(sqlite3.Error):
                self._store.close()
            self._store = None

    def _kernel(self) -> Kernel | None:
        services = self._subject.rules.services
        try:
            loaded = apply.loaded()
            sizes = self._backend.sizes(services)
            dropped = {} if loaded is None else apply.dropped(loaded.variant)
        except FirewallError:
            return None
        members = dict.fromkeys(services, 0)
        for (service, _), size in sizes.items():
            members[service] += max(0, size)
        return Kernel(has_ruleset=loaded is not None, members=members, dropped=dropped)

    def _queues(self) -> dict[tuple[str, int], Queue] | None:
        if not os.access(nfqueue.PROC, os.R_OK):
            return None
        there = {one.number: one for one in nfqueue.queues()}
        return {
            (lane.name.lower(), worker): Queue(one.waiting, one.dropped_full + one.dropped_unsent)
            for lane in lanes.Lane
            for worker, number in enumerate(lanes.numbers(self._subject.rules, lane), 1)
            if (one := there.get(number)) is not None
        }
