"""``gatekeeper reload`` and ``gatekeeper diff``: has ``run`` go over to rules.yaml; says what that would change."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from gatekeeper import asked, differences, hand, inforce, progress, rules, stopping
from gatekeeper.errors import GatekeeperError, StoreError, UsageError
from gatekeeper.problems import RulesError
from gatekeeper.settings import Mode
from gatekeeper.store.lock import runner

_PATIENCE = 60.0
"""Seconds for `run` to say what became of it: with many grants all of its processes take some to begin anew."""
_GLANCE = 0.02
LOCK = "run.lock"


def reload(rules_file: Path, state_dir: Path) -> str:
    """Have ``run`` go over to a rules file; return what it says of that.

    It is asked also where the file cannot be used: so its log and ``status`` have that too.

    Raises:
        RulesError: the file cannot be used.
        GatekeeperError: ``run`` is not up, reads another file, or refuses; or it does not answer.
    """
    problems: RulesError | None = None
    try:
        rules.load(rules_file)
    except RulesError as error:
        problems = error
    if problems is not None and runner(state_dir) is None:
        raise problems
    if runner(state_dir) is None:
        hint = "`gatekeeper run` (or systemctl start gatekeeper) reads the rules when it starts"
        raise UsageError(f"run is not up on {state_dir}: there is nothing to reload", hint)
    there = _in_force(state_dir)
    if (
        there is not None
        and there.pid == runner(state_dir)
        and there.file != str(rules_file.absolute())
        and not _is_same(there.file, rules_file)
    ):
        raise UsageError(f"run reads {there.file!a}, and not {rules_file}", "name that file with --rules")
    asked.note(state_dir, hand.whose())
    begun = time.monotonic()
    pid = stopping.hang_up(state_dir / LOCK)
    if pid is None:
        raise GatekeeperError("run was not found", "it may be another user's: run this as root, or with sudo")
    with progress.waiting("run reads the rules"):
        said = _answer(state_dir, pid, begun)
    if said.ok:
        return said.words[0] if said.words else "reloaded"
    if problems is not None:
        raise problems
    raise GatekeeperError("\n".join(("run says:", *said.words)))


def _answer(state_dir: Path, pid: int, since: float) -> inforce.Reload:
    """Wait for what ``run`` says of a reload that began after we asked."""
    while time.monotonic() < since + _PATIENCE:
        said = inforce.read_last(state_dir)
        if said is not None and said.pid == pid and said.begun >= since:
            return said
        if runner(state_dir) is None:
            raise GatekeeperError("run has ended meanwhile", "its log says why")
        time.sleep(_GLANCE)
    raise GatekeeperError(
        f"run has said nothing for {_PATIENCE:.0f} s", "its log may tell: a disk that is full, or slow"
    )


def _is_same(there: str, file: Path) -> bool:
    try:
        return Path(there).samefile(file)
    except OSError:
        return False


def _in_force(state_dir: Path) -> inforce.InForce | None:
    try:
        return inforce.read(state_dir)
    except OSError as error:
        raise StoreError(f"cannot read {state_dir}: {error.strerror}", "run it as root, or with sudo") from error


class Diff(NamedTuple):
    """What a reload would change."""

    is_running: bool
    since: str
    """When what is compared with was loaded."""
    rules: list[differences.Change]
    ruleset: dict[str, list[str]]
    """By the tool that loads them: lines that begin with ``-`` go, with ``+`` come."""
    needs_restart: bool

    def as_json(self) -> dict[str, Any]:
        """Lay it out for machines. Of a key it says nothing but that it is another."""
        secret = differences.is_secret
        return {
            "running": self.is_running,
            "since": self.since,
            "needs_restart": self.needs_restart,
            "rules": [
                {
                    "kind": one.kind,
                    "what": one.what,
                    "fields": [
                        {
                            "name": its.name,
                            "before": "(a key)" if secret(its.before) else its.before,
                            "after": "(a key)" if secret(its.after) else its.after,
                        }
                        for its in one.fields
                    ],
                }
                for one in self.rules
            ],
            "ruleset": self.ruleset,
        }

    def as_lines(self) -> Iterator[str]:
        """Lay it out for people."""
        loaded = "is in force" if self.is_running else "run, which is not up, had loaded last"
        yield f"compared with what {loaded}, since {self.since}"
        if not self.rules and not self.ruleset:
            yield "a reload would change nothing"
        yield from differences.as_lines(self.rules)
        for tool, lines in self.ruleset.items():
            yield f"{tool}:"
            yield from (f"  {line}" for line in lines)
        if self.needs_restart:
            yield "a reload refuses this: a change in the section firewall takes a restart"


def diff(rules_file: Path, state_dir: Path) -> Diff:
    """Compare a rules file with what is in force.

    Raises:
        RulesError: the file cannot be used.
        GatekeeperError: nothing is known to be in force, or we may not look.
    """
    wanted, _ = rules.load(rules_file)
    is_running = runner(state_dir) is not None
    there = _in_force(state_dir)
    if there is None:
        hint = "`gatekeeper ruleset` shows all that a start would load"
        raise UsageError(f"nothing is in force that {state_dir} knows of: run has not been up since", hint)
    if there.only_observes:
        wanted = replace(wanted, mode=Mode.OBSERVE)
    changes = differences.compare(there.said, there.said_by(wanted))
    texts = inforce.texts(wanted, has_rules=there.has_rules)
    ruleset = {
        tool: lines for tool, text in texts.items() if (lines := list(_changed_lines(there.texts.get(tool, ""), text)))
    }
    since = datetime.fromtimestamp(there.when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    needs_restart = any(its.name.startswith("firewall: ") for one in changes for its in one.fields)
    return Diff(is_running, since, changes, ruleset, needs_restart)


def _changed_lines(before: str, after: str) -> Iterator[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    for line in lines:
        if not line.startswith(("---", "+++", "@@")):
            yield f"{line[0]} {line[1:]}"
