"""The documents name what there is: reasons, tests, commands, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatekeeper import reasons
from gatekeeper.cli import commands
from gatekeeper.firewall import drops
from gatekeeper.model import Reason

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_every_reason_is_explained() -> None:
    kernels = {drops.NO_TAG, drops.TOO_MANY_TAGGED, drops.TOO_MANY_STRANGERS, drops.NEVER}
    assert {reason.value for reason in Reason} | kernels <= set(reasons.WHY)


def test_the_table_of_reasons_says_what_the_program_says() -> None:
    """Row by row, in its order: ``gatekeeper explain`` and docs/reasons.md have the same sentences."""
    text, _, _ = (ROOT / "docs/reasons.md").read_text().partition("# Events")
    rows = re.findall(r"^\| `[a-z-]+` \|.*$", text, re.MULTILINE)
    expected = [
        f"| `{code}` | {why.meaning} | {f'{why.advice} |' if why.advice else '|'}" for code, why in reasons.WHY.items()
    ]
    assert rows == expected


@pytest.mark.parametrize("name", ["threat-model.md", "knock-formats.md"])
def test_every_test_that_a_document_names_is_there(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in tests, test
    for path in re.findall(r"`(?:tests/)?([\w/]+\.py)`", text):
        assert list((ROOT / "tests").rglob(path)), path


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_commands_are_right(path: Path) -> None:
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", text):
        assert (path.parent / link).exists(), link
    for command in re.findall(r"^\s+(?:sudo )?gatekeeper ([a-z-]+)", text, re.MULTILINE):
        assert command in commands.COMMANDS, command
