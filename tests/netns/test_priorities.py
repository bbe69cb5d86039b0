"""A hook does not inherit the priority that the unit gives to the door; only root can have that, and give it away."""

from __future__ import annotations

import pytest

from gatekeeper import units
from tests.processes.test_priorities import says
from tests.test_units import HOOKS, LEGACY_HOOKS

_RUNS_A_HOOK = """
rights.give_up("gatekeeper")
one = Running(Event(("/bin/sh", "-c", "nice"), 10, {"PATH": "/usr/bin:/bin"}))
while not one.look():
    time.sleep(0.01)
one.finish()
print(*one.said)
"""


@pytest.mark.parametrize(("setup", "user"), [(HOOKS, "nobody"), (LEGACY_HOOKS, "root")], ids=["nft", "legacy"])
def test_a_hook_does_not_inherit_the_priority_of_the_unit(setup: units.Setup, user: str) -> None:
    assert says(_RUNS_A_HOOK, setup, user=user) == "0"
