"""What there is to see: for ``gatekeeper status``, whether or not ``run`` is up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from gatekeeper import duration, inforce, lately
from gatekeeper import rules as rules_file
from gatekeeper.errors import FirewallError
from gatekeeper.firewall import apply, backends, lanes, nfqueue
from gatekeeper.firewall.names import VERSIONS
from gatekeeper.firewall.rulewise import RulesBackend
from gatekeeper.model import Grant, TrailEntry, Wanted
from gatekeeper.networks import Source, show_source
from gatekeeper.problems import RulesError
from gatekeeper.settings import Rules, show_ports
from gatekeeper.store.lock import runner
from gatekeeper.store.sqlite import SqliteStore

DECISIONS = 10
"""Entries of the audit trail that are listed, the newest first."""
REFUSED = 20
"""Refused sources that are listed."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The rules that count now."""

    rules: Rules
    trouble: dict[str, Any] | None
    """What is wrong with the rules file, if these rules are not what it says now."""


class Seen:
    """What there is to see. Grants are read when they are asked for: there may be very many."""

    def __init__(self, folder: Path, store: SqliteStore, pid: int | None, in_force: InForce) -> None:
        """``folder``: the state directory; ``pid``: of ``run``."""
        self._store = store
        self._now = time.time()
        self.live = store.number(now=self._now)
        """How many grants there are."""
        the_rules = in_force.rules
        refused = lately.read(folder, now=time.monotonic())
        self.overview: dict[str, Any] = {
            "running": pid is not None,
            "pid": pid,
            "services": [
                {
                    "name": service.name,
                    "port": show_ports(service),
                    "ttl": duration.show(service.ttl),
                    "max_ttl": None if service.max_ttl is None else duration.show(service.max_ttl),
                    "established": service.established.value,
                }
                for service in the_rules.services.values()
            ],
            "counters": store.counts(),
            "queues": _queues(the_rules) if pid is not None else [],
            "kernel": {},
            "live": self.live,
            "rules_trouble": in_force.trouble,
            "decisions": [_decided(one, self._now) for one in _newest_first(store.trail(Wanted(), limit=DECISIONS))],
            "refused": [one._asdict() for one in refused[:REFUSED]],
        }
        """All but the grants; ``kernel`` is filled in by who looks."""

    def grants(self, source: Source | None = None) -> Iterator[dict[str, Any]]:
        """Describe the live grants, or those that share an address with a source."""
        if source is None:
            return (_shown(one, self._now) for one in self._store.each(now=self._now))
        return (_shown(one, self._now) for one in sorted(self._store.touching(source, now=self._now), key=_by_service))

    def ending_next(self, number: int) -> list[dict[str, Any]]:
        """Describe those whose time is up first."""
        return [_shown(one, self._now) for one in self._store.ending_next(now=self._now, limit=number)]


@contextlib.contextmanager
def looking(rules_path: Path, state_dir: Path) -> Iterator[Seen]:
    """See services, live grants, counters, whether ``run`` is up, and the kernel's sets.

    Also where the rules file cannot be used, as long as ``run`` works by what it said before.
    """
    pid = runner(state_dir)
    in_force = rules_in_force(rules_path, state_dir, pid)
    with contextlib.closing(SqliteStore(state_dir, create=False, is_checked=False)) as store:
        seen = Seen(state_dir, store, pid, in_force)
        with contextlib.closing(Kernel()) as kernel:
            seen.overview["kernel"] = kernel.look(in_force.rules)
        yield seen


def rules_in_force(
    path: Path, state_dir: Path, pid: int | None, *, note: Callable[[Path], None] = lambda _: None
) -> InForce:
    """Read the rules; with what is wrong about them, if ``run`` works by earlier ones because of that.

    ``note`` is told of each file that this rests on, just before it is read.

    Raises:
        RulesError: they cannot be used, and ``run`` is not up or has said nothing.
    """
    for name in (inforce.IN_FORCE, inforce.LAST_RELOAD):
        note(state_dir / name)
    in_force, last = _told(state_dir, pid)
    try:
        the_rules, _ = rules_file.load(path, note=note)
    except RulesError as error:
        if in_force is None:
            raise
        lines = [str(one) for one in error.problems if not one.is_warning]
        return InForce(in_force.rules(), _trouble(path, lines, since=in_force.when))
    if in_force is None or last is None or last.ok:
        return InForce(the_rules, None)
    return InForce(the_rules, _trouble(path, last.words, since=in_force.when, failed_at=last.when))


def _told(state_dir: Path, pid: int | None) -> tuple[inforce.InForce | None, inforce.Reload | None]:
    """Return what this ``run`` has said; nothing where we may not look, for there is more to see than that."""
    try:
        in_force, last = inforce.read(state_dir), inforce.read_last(state_dir)
    except OSError:
        return None, None
    return (
        in_force if in_force is not None and in_force.pid == pid else None,
        last if last is not None and last.pid == pid else None,
    )


def _trouble(path: Path, lines: Sequence[str], *, since: float, failed_at: float | None = None) -> dict[str, Any]:
    """Describe it. ``failed_at``: when ``run`` could not use the file, though it can be read now."""
    changed_at = None
    with contextlib.suppress(OSError):
        changed_at = _iso(path.stat().st_mtime)
    return {
        "file": str(path),
        "changed_at": changed_at,
        "failed_at": None if failed_at is None else _iso(failed_at),
        "error": list(lines),
        "in_force_since": _iso(since),
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _queues(the_rules: Rules) -> list[dict[str, object]]:
    """List the queues of ``run``, as far as we may look."""
    there = {one.number: one for one in nfqueue.queues()}
    return [
        {
            "number": number,
            "lane": lane.name.lower(),
            "worker": worker,
            "waiting": there[number].waiting,
            "dropped": there[number].dropped_full + there[number].dropped_unsent,
        }
        for lane in lanes.Lane
        for worker, number in enumerate(lanes.numbers(the_rules, lane), 1)
        if number in there
    ]


def _shown(one: Grant, now: float) -> dict[str, Any]:
    left = None if one.expires_at is None else max(0, round(one.expires_at - now))
    end = None if one.expires_at is None else datetime.fromtimestamp(one.expires_at, UTC).isoformat(timespec="seconds")
    return {
        "source": show_source(one.source),
        "service": one.service,
        "client": one.client,
        "expires_at": end,
        "seconds_left": left,
    }


def _newest_first(rows: Sequence[TrailEntry]) -> list[TrailEntry]:
    """Order what some have noted a moment late."""
    return sorted(rows, key=attrgetter("at"), reverse=True)


def _decided(one: TrailEntry, now: float) -> dict[str, Any]:
    return {
        "at": _iso(one.at),
        "seconds_ago": max(0, round(now - one.at)),
        "reason": one.reason,
        "client": one.client,
        "source": one.source,
        "service": one.service,
        "note": one.note,
    }


def _by_service(one: Grant) -> tuple[str, int, int, str]:
    return (one.service, one.source.version, int(one.source.network_address), one.client)


class Kernel:
    """What the kernel has; for a while the ruleset need not be looked at again, for that takes four programs."""

    _WHOLE_EVERY = 5.0

    def __init__(self) -> None:
        self._rules: Rules | None = None
        self._due = 0.0
        self._backend: backends.KernelBackend | None = None
        self._found: dict[str, Any] = {}
        self._missing: set[tuple[str, int]] = set()

    def look(self, the_rules: Rules) -> dict[str, Any]:
        """Say what there is; ``error`` where we may not look."""
        try:
            if the_rules is not self._rules or time.monotonic() >= self._due or not self._counts_anew(the_rules):
                self._look_at_all(the_rules)
        except FirewallError as error:
            self._rules = None
            return {"error": error.message}
        return self._found

    def close(self) -> None:
        """Let go of the kernel."""
        if self._backend is not None:
            self._backend.close()
        self._backend = None

    def _counts_anew(self, the_rules: Rules) -> bool:
        """Count members again; return whether the ruleset can be as it was: no set has come or gone."""
        before = self._missing
        if self._backend is not None and not isinstance(self._backend, RulesBackend):
            self._found["members"] = self._members(the_rules)
        return self._missing == before

    def _look_at_all(self, the_rules: Rules) -> None:
        self.close()
        loaded = apply.loaded()
        self._backend = backends.of(loaded, the_rules)
        self._found = {
            "ruleset": loaded is not None,
            "observes": loaded is not None and loaded.observes,
            "backend": self._backend.name,
            "members": self._members(the_rules),
            "dropped": {} if loaded is None else apply.dropped(loaded.variant),
        }
        self._rules, self._due = the_rules, time.monotonic() + self._WHOLE_EVERY

    def _members(self, the_rules: Rules) -> dict[str, int]:
        if isinstance(self._backend, RulesBackend):
            return {service: self._backend.count(service) for service in the_rules.services}
        sizes = {} if self._backend is None else self._backend.sizes(the_rules.services)
        self._missing = {place for place, size in sizes.items() if size < 0}
        return {name: sum(max(0, sizes.get((name, one), 0)) for one in VERSIONS) for name in the_rules.services}
