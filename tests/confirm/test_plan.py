"""The plan of a probation: kept whole, and believed only if root has written it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gatekeeper.confirm import ending, plan
from gatekeeper.confirm.plan import Plan
from gatekeeper.errors import StoreError
from gatekeeper.firewall.snapshot import Snapshot
from gatekeeper.store import lock

BEFORE = Snapshot(12.5, {"nft": {"4": {"mangle": "*mangle\n:GKEEPER-IN - [0:0]\nCOMMIT\n"}}}, "")
PLAN = Plan(60, 72.5, BEFORE, undo=(("touch", "/nowhere"),))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "_LOCKS", tmp_path / "run")
    return tmp_path / "run"


def test_a_plan_is_read_as_it_was_written_and_there_is_one(folder: Path) -> None:
    assert plan.read() is None
    path = plan.write(PLAN)
    assert path.stat().st_mode & 0o777 == 0o600
    assert plan.read() == PLAN
    assert not BEFORE.is_empty
    with pytest.raises(FileExistsError):
        plan.write(PLAN)
    assert list(folder.iterdir()) == [path]
    plan.forget("it ended")
    assert plan.read() is None
    assert plan.last() == "it ended"


def test_a_plan_that_somebody_else_may_have_written_is_not_believed() -> None:
    """It says what root is to run."""
    path = plan.write(PLAN)
    path.chmod(0o620)
    with pytest.raises(StoreError, match="is not ours"):
        plan.read()
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))
    with pytest.raises(StoreError, match="cannot read"):
        plan.read()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"seconds": 1, "deadline": 2, "before": {}, "undo": []}'])
def test_a_damaged_plan_is_a_clear_error(text: str) -> None:
    plan.write(PLAN).write_text(text)
    with pytest.raises(StoreError, match="is damaged"):
        plan.read()


def test_what_is_confirmed_after_the_guards_death_has_its_commands_carried_out(tmp_path: Path) -> None:
    """Services would be up, and not come back with the machine; and what fails is said."""
    made = tmp_path / "enabled"
    plan.write(replace(PLAN, keep=(("/nowhere/systemctl", "enable"), ("sh", "-c", "exit 3"), ("touch", str(made)))))
    words, caution = ending.confirm()
    assert words == "confirmed: the ruleset stays"
    assert caution is not None
    assert caution.startswith("/nowhere/systemctl failed: ")
    assert caution.endswith("; sh failed: exit status 3")
    assert made.exists()
    assert plan.read() is None
