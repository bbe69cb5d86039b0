"""In ``run``: goes over to what rules.yaml says now, when it is told to (SIGHUP) or when the file was changed (watch).

1. The file is read, and all that can be wrong with it is found. Queues for more workers are bound.
2. Everybody rests: the queues stay bound, so what comes meanwhile, and what workers had in hand, waits.
3. The ruleset is loaded, as at a start. If it cannot be, everybody goes on as before.
4. All begin anew, by the new rules: the keeper from the store, so grants live on, and those that the rules no longer
   give end. Nobody had to be asked what it remembers, for a keeper or a worker that dies is replaced in the same way.

What becomes of it is logged, written for who asked (inforce.py), and noted in the audit trail. The rules in force
stay in force whatever happens.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gatekeeper import asked, differences, inforce, lockout, observe, rules, serverkeys
from gatekeeper.budget import Budget
from gatekeeper.errors import GatekeeperError, UsageError
from gatekeeper.filewatch import FileWatch
from gatekeeper.firewall import backends, guardian, tools
from gatekeeper.knocks import enabled
from gatekeeper.problems import Problem, RulesError
from gatekeeper.processes.hangup import Hangup
from gatekeeper.processes.plan import Plan
from gatekeeper.processes.supervisor import Supervisor
from gatekeeper.settings import Mode, Rules

_SETTLES = 15.0
"""Seconds in which all begin anew. Until then another reload waits."""
_NOTED_AT_ONCE, _NOTED_EACH_SECOND = 20.0, 1 / 60
"""Entries of the audit trail, and how fast there may be more: somebody may ask in a loop, or save a file in one."""
_LATE = "the ruleset is loaded, but not all processes of run could begin by it yet: its log says why"
_BUG = "a bug in gatekeeper: the log has where"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rules come from."""

    file: Path
    watch: FileWatch
    """Of this file, and of those that it names."""
    only_observe: bool
    """Whatever the rules say."""

    def read(self) -> tuple[Rules, list[Problem]]:
        """Read the rules; return them and what is unwise.

        Raises:
            RulesError: they cannot be used.
        """
        self.watch.begin()
        found, problems = rules.load(self.file, note=self.watch.note)
        return (replace(found, mode=Mode.OBSERVE) if self.only_observe else found), problems


@dataclass(slots=True)
class _Underway:
    """A reload whose rules are loaded, and by which not all work yet."""

    begun: float
    summary: str
    is_late: bool = False


class Reloading:
    """Told at each look of the supervisor; does nothing then, nearly always."""

    def __init__(self, source: Source, hangup: Hangup, keep: Callable[[Plan], None]) -> None:
        """``keep`` leaves a ruleset behind for the next boot."""
        self._source = source
        self._hangup = hangup
        self._keep = keep
        self._is_start = True
        self._begun = time.monotonic()
        self._underway: _Underway | None = None
        self._budget = Budget(_NOTED_AT_ONCE, _NOTED_EACH_SECOND)
        self._untold: list[tuple[float, str, str]] = []
        """Times, reasons and notes that the keeper is to add to the trail, and has not been told of."""

    def has_begun(self, plan: Plan, note: str) -> bool:
        """Note that all work by a plan; return whether it is that of the start."""
        if self._is_start:
            self._is_start = False
            self._note_start(plan)
            self._note_force(plan)
            self._say(plan, self._begun, ok=True, words=["these are the rules of the start"])
            return True
        one, self._underway = self._underway, None
        if one is not None:
            self._note_end(one, plan, note)
        return False

    def _note_start(self, plan: Plan) -> None:
        """Note a start by other rules than the last one: so one that is tried again and again fills nothing."""
        with contextlib.suppress(OSError):
            last = inforce.read(plan.state_dir)
            if last is not None and (changes := differences.compare(last.said, last.said_by(plan.rules))):
                self._note("reloaded", "at a start", differences.in_numbers(changes))

    def _note_end(self, one: _Underway, plan: Plan, note: str) -> None:
        took = f"{(time.monotonic() - one.begun) * 1000:.0f} ms"
        words = f"{self._source.file} reloaded in {took}: {one.summary}; {note}"
        observe.message(words)
        self._note_force(plan)
        self._keep(plan)
        self._say(plan, one.begun, ok=True, words=[words])

    def look(self, supervisor: Supervisor) -> bool:
        """Reload, if somebody has asked for it and it can be done now; return whether everybody begins anew."""
        self._hangup.look()
        self._tell(supervisor)
        one = self._underway
        if self._is_start or (one is not None and time.monotonic() - one.begun < _SETTLES):
            return False  # who has asked is heard when that is done
        if one is not None and not one.is_late:
            one.is_late = True
            self._say(supervisor.plan, one.begun, ok=False, words=[_LATE])
        was_changed = supervisor.plan.rules.watch and self._source.watch.has_changed()
        if self._hangup.take():
            who = asked.take(supervisor.plan.state_dir)
            return self._reload(supervisor, "by SIGHUP" if who is None else f"by {who}")
        return was_changed and self._reload(supervisor, "watched")

    def _reload(self, supervisor: Supervisor, how: str) -> bool:
        """Reload; return whether everybody begins anew, by these rules or by the old ones.

        ``how`` it came about is for the audit trail.
        """
        begun, before = time.monotonic(), supervisor.plan
        is_resting = False
        try:
            draft = self._draft(before)
            with lockout.looking(draft.rules, grant_me=False, before=before.rules) as present:
                supervisor.rest(draft.rules)
                is_resting = True
                plan = _load(draft)
            plan = replace(plan, present=present)
            for words in present.warnings:
                observe.message(words, level=logging.WARNING)
        except GatekeeperError as error:
            self._refuse(before, begun, _lines(error), how)
        except Exception:
            logging.getLogger("gatekeeper").exception("reloading failed")
            self._refuse(before, begun, [_BUG], how)
        else:
            self._underway = _Underway(begun, _summary(before.rules, plan.rules))
            self._note("reloaded", how, self._underway.summary)
            before.backend.close()
            supervisor.go_on(plan)
            return True
        if is_resting:
            supervisor.go_on(before)
        self._tell(supervisor)  # at once: run may be stopped before it looks around again
        return is_resting

    def _draft(self, before: Plan) -> Plan:
        """Read what can be read before anything is changed: the plan but for what loading will tell.

        Raises:
            GatekeeperError: the rules cannot be used, or not without a restart.
        """
        the_rules, problems = self._source.read()
        if the_rules.firewall != before.rules.firewall:
            hint = "a restart does: its connections and grants live on (systemctl restart gatekeeper)"
            raise UsageError("a reload cannot change the section firewall", hint)
        observe.warnings(problems)
        formats = enabled(the_rules, serverkeys.load(the_rules, before.state_dir), now=time.time())
        gc.unfreeze()  # what the last reload left behind goes
        gc.collect()
        gc.freeze()  # as at the start: looking through it again would stop packets
        return replace(before, rules=the_rules, formats=formats)

    def _note(self, reason: str, how: str, what: str) -> None:
        """Note it for the trail, if that has room for it."""
        if self._budget.take():
            more, self._budget.unshown = self._budget.unshown, 0
            unnoted = f", after {more} that are not noted" if more else ""
            self._untold.append((time.time(), reason, f"{how}{unnoted}: {what}"))

    def _tell(self, supervisor: Supervisor) -> None:
        while self._untold and supervisor.note(*self._untold[0]):
            del self._untold[0]

    def _refuse(self, plan: Plan, begun: float, lines: Sequence[str], how: str) -> None:
        self._note("reload-failed", how, lines[0])
        self._say(plan, begun, ok=False, words=lines)
        more = f" (and {len(lines) - 1} more: `gatekeeper check`)" if len(lines) > 1 else ""
        words = f"{self._source.file} is not reloaded, and nothing has changed: {lines[0]}{more}"
        observe.message(words, level=logging.ERROR)

    def _say(self, plan: Plan, begun: float, *, ok: bool, words: Sequence[str]) -> None:
        inforce.write(plan.state_dir, inforce.Reload(os.getpid(), begun, time.time(), ok, tuple(words)))

    def _note_force(self, plan: Plan) -> None:
        source, has_rules = self._source, not plan.backend.keeps_time
        what = inforce.of(
            plan.rules, source.file, when=plan.since, only_observes=source.only_observe, has_rules=has_rules
        )
        inforce.write(plan.state_dir, what)


def _load(draft: Plan) -> Plan:
    """Put the ruleset in place, and learn what the kernel made of it.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    backend, variant, warnings = backends.load(draft.rules)
    learned = guardian.learn(draft.rules, tools.Iptables(variant), has_rules=not backend.keeps_time)
    for words in warnings:
        observe.message(words, level=logging.WARNING)
    return replace(draft, backend=backend, variant=variant, learned=learned, since=time.time())


def _summary(before: Rules, after: Rules) -> str:
    changes = differences.compare(*(differences.describe(one, bytes.hex) for one in (before, after)))
    return differences.in_numbers(changes)


def _lines(error: GatekeeperError) -> list[str]:
    """Say what is wrong, a line for each problem, as ``gatekeeper check`` does."""
    if not isinstance(error, RulesError):
        return [f"{error.message} ({error.hint})" if error.hint else error.message]
    errors = [one for one in error.problems if not one.is_warning]
    return [f"{one} ({one.hint})" if one.hint else str(one) for one in errors]
