"""``gatekeeper status --watch``: looks again and again, and at little anew.

What costs most (rules, the ruleset) is read again only when its files were changed, or now and then. Of the grants it
reads those that are shown. ``run`` may go away and come back, and so may what it writes.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from gatekeeper import seeing, status
from gatekeeper.errors import GatekeeperError
from gatekeeper.escaping import escape
from gatekeeper.filewatch import FileWatch
from gatekeeper.networks import Source, show_source
from gatekeeper.problems import RulesError
from gatekeeper.rates import Rates
from gatekeeper.store.lock import runner
from gatekeeper.store.sqlite import SqliteStore

LISTED = 20
"""Grants that are listed at the most."""


class Watch:
    """What was seen, and need not be looked at anew."""

    def __init__(self, rules_path: Path, state_dir: Path, source: Source | None = None) -> None:
        """``source``: list only the grants that share an address with it."""
        self._rules_path = rules_path
        self._state_dir = state_dir
        self._source = source
        self._kernel = seeing.Kernel()
        self._files = FileWatch()
        self._pid: int | None = None
        self._in_force: seeing.InForce | None = None
        self._counted, self._dropped = Rates(), Rates()
        self._last: list[status.Section] = []

    def close(self) -> None:
        """Let go of the kernel."""
        self._kernel.close()

    def look(self) -> list[status.Section]:
        """Say what there is to see now; what was there before, with the reason, where that cannot be told.

        Raises:
            GatekeeperError: nothing could be seen yet, ever.
        """
        try:
            self._last = self._look()
        except GatekeeperError as error:
            if not self._last:
                raise
            first = next((str(one) for one in error.problems), "") if isinstance(error, RulesError) else error.message
            return [status.Line(f"what is below is old: {escape(first)}", status.Tone.BAD), *self._last]
        return self._last

    def _look(self) -> list[status.Section]:
        pid = runner(self._state_dir)
        in_force = self._rules(pid)
        with contextlib.closing(SqliteStore(self._state_dir, create=False, is_checked=False)) as store:
            seen = seeing.Seen(self._state_dir, store, pid, in_force)
            found = seen.overview
            found["kernel"] = self._kernel.look(in_force.rules)
            listed, which = self._listed(seen)
        now = time.monotonic()
        self._counted.note(found["counters"], now=now)
        self._dropped.note(found["kernel"].get("dropped", {}), now=now)
        rates = (self._counted.per_second(), self._dropped.per_second())
        return status.sections(found, listed, which=which, rates=rates)

    def _rules(self, pid: int | None) -> seeing.InForce:
        if self._in_force is None or pid != self._pid or self._files.has_changed():
            self._files.begin()
            self._in_force = None
            self._in_force = seeing.rules_in_force(self._rules_path, self._state_dir, pid, note=self._files.note)
            self._pid = pid
        return self._in_force

    def _listed(self, seen: seeing.Seen) -> tuple[list[dict[str, Any]], str]:
        """Choose the grants to show: those that end next. Those that never do are among them where there are few."""
        if self._source is not None or seen.live <= LISTED:
            found = sorted(seen.grants(self._source), key=_by_end)[:LISTED]
            return (
                found,
                "" if self._source is None else f"of those that {show_source(self._source)} has a part in",
            )
        found = seen.ending_next(LISTED)
        return found, f"the {len(found)} that end next"


def _by_end(grant: dict[str, Any]) -> tuple[bool, int]:
    left = grant["seconds_left"]
    return left is None, left or 0
