"""Under the unit's own filter of system calls, what the door does not need lets others have the processor first."""

from __future__ import annotations

import json
import subprocess
import sys

from gatekeeper import units
from tests.test_units import METRICS

UNIT = -10
"""The service's own (``Nice=``), which its children inherit."""
_BEGUN_AS_IN_THE_UNIT = """
import json, os, pwd, sys, time
from gatekeeper.hooks import rights
from gatekeeper.hooks.running import Running
from gatekeeper.hooks.telling import Event
from gatekeeper.processes.confine import confine, step_back

calls, priority, user = json.load(sys.stdin)
if os.geteuid() == 0:
    os.setpriority(os.PRIO_PROCESS, 0, priority)
    its = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(its.pw_gid, its.pw_gid, its.pw_gid)
    os.setresuid(its.pw_uid, its.pw_uid, its.pw_uid)
confine(calls, who="test")
"""
_STEPS_BACK = """
step_back()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


def allowed(unit: str) -> list[str]:
    """The system calls that a unit's filter lets through (systemd.exec(5): a list, and what later lines do to it)."""
    shown = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    groups: dict[str, set[str]] = {}
    its: set[str] = set()
    for line in shown.splitlines():
        word = line.strip().removeprefix("# ") if line.startswith("# @") else line.strip()
        if word.startswith("@") and not line.startswith(" "):
            its = groups.setdefault(word, set())
        elif word and not word.startswith("#"):
            its.add(word)

    def calls(word: str) -> set[str]:
        return set().union(*map(calls, groups[word])) if word.startswith("@") else {word}

    found = calls("@default")
    for line in unit.splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.removeprefix("SystemCallFilter=")
            named = set().union(*map(calls, words.removeprefix("~").split()))
            found = found - named if words.startswith("~") else found | named
    return sorted(found)


def says(act: str, setup: units.Setup, *, user: str) -> str:
    calls = allowed(units.texts(setup)[units.SERVICE])
    assert "chown" not in calls, "a filter that forbids nothing would show nothing"
    argv = [sys.executable, "-c", _BEGUN_AS_IN_THE_UNIT + act]
    told = json.dumps([calls, UNIT, user])
    done = subprocess.run(argv, input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_meter_and_exporter_run_behind_all_others_in_the_unit() -> None:
    assert says(_STEPS_BACK, METRICS, user="nobody") == "10"
