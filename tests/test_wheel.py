"""What hatch_build.py puts into a wheel besides the package; hatchling itself is there only while one is built."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gatekeeper.cli import completion

TOP = Path(__file__).parents[1]


class Hook:
    """As far as ours goes, what hatchling gives a hook."""

    root = str(TOP)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Any:
    parts = ["hatchling", "builders", "hooks", "plugin", "interface"]
    for number in range(1, len(parts) + 1):
        name = ".".join(parts[:number])
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
    module.__dict__["BuildHookInterface"] = Hook
    monkeypatch.setattr(sys, "path", [*sys.path])
    return runpy.run_path(str(TOP / "hatch_build.py"))["Shared"]()


def test_a_wheel_brings_the_man_page_and_a_completion_for_each_shell(shared: Any) -> None:
    build: dict[str, dict[str, str]] = {"shared_data": {}}
    shared.initialize("standard", build)
    texts = {place: Path(file).read_text() for file, place in build["shared_data"].items()}
    shared.finalize("standard", build, "a.whl")
    assert "share/man/man1/gatekeeper.1" in texts
    assert len(texts) == 1 + len(completion.SHELLS)
    assert all("gatekeeper" in text for text in texts.values())
    assert not any(Path(file).exists() for file in build["shared_data"]), "nothing is left in the temporary folder"


def test_an_editable_installation_brings_none(shared: Any) -> None:
    build: dict[str, dict[str, str]] = {"shared_data": {}}
    shared.initialize("editable", build)
    shared.finalize("editable", build, "a.whl")
    assert build == {"shared_data": {}}
