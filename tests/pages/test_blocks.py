"""Nothing in the documents is left out: each block is of a kind that is tested, and each command line can be typed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from gatekeeper import rules
from gatekeeper.cli import commands
from tests.pages import outputs
from tests.pages.blocks import PAGES, Block, blocks_of
from tests.pages.elsewhere import ELSEWHERE, NOWHERE, is_there, where
from tests.pages.stories import STORIES

KINDS = {"sh", "yaml", "yml", "text", "ssh-config"}
"""``text`` is output, or prose that is set apart; ``yml`` is YAML for another program."""
ALL = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [(block, command) for block in ALL for command in block.commands()]
BASE = """\
services:
  ssh: {port: tcp/22}
  web: {port: tcp/80}
clients: {}
"""


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_is_of_a_kind_that_is_tested(block: Block) -> None:
    assert block.language in KINDS, f"{block}: say of which language it is, or mark it: <!-- test: text -->"
    assert block.text.strip()


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=lambda one: str(one)[:60])
def test_a_command_is_run_by_a_story_or_by_a_test_that_is_named(block: Block, command: str) -> None:
    place = where(command)
    if place is None:
        assert block.page in STORIES, f"{block}: {command}"
    else:
        assert is_there(place) or place in dict(NOWHERE).values(), place


def test_a_place_is_a_script_or_a_test_that_is_there() -> None:
    """A file of tests says little of what runs a command: it goes on being there when the test has gone."""
    here = "tests/pages/test_blocks.py"
    assert is_there(f"{here}::test_a_place_is_a_script_or_a_test_that_is_there")
    assert is_there("scripts/test")
    for place in (here, f"{here}::test_that_is_gone", "scripts/gone", "scripts/test::test_it", f"{here}::Block"):
        assert not is_there(place), place


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in (*ELSEWHERE, *NOWHERE)])
def test_nothing_is_excused_that_is_not_there(pattern: str) -> None:
    assert any(re.fullmatch(pattern, command) for _, command in COMMANDS), pattern


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "yml"], ids=str)
def test_an_example_for_another_program_can_be_read(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "ssh-config"], ids=str)
def test_an_example_for_ssh_is_taken_by_ssh(block: Block, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(block.text)  # it is asked about a host that no Match is for, so nothing is run
    config.chmod(0o600)
    done = subprocess.run(["ssh", "-G", "-F", config, "host"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "yaml"], ids=str)
def test_an_example_of_rules_is_taken_by_the_loader(block: Block) -> None:
    """With what it leaves out: services that it names, and files."""
    said = yaml.safe_load(block.text)
    assert isinstance(said, dict)
    base = yaml.safe_load(BASE)
    for section, value in said.items():
        base[section] = {**base.get(section, {}), **value} if isinstance(value, dict) else value
    for client in base["clients"].values():
        for service in client.get("services", ()):
            base["services"].setdefault(service, {"port": f"tcp/{1000 + len(base['services'])}"})
    base.pop("include", None)
    text = yaml.safe_dump(base, sort_keys=False).encode()
    found, _ = rules.parse(text, file=str(block), read_key=_file)
    assert found.services


def _file(name: str) -> bytes:
    """Be the files that examples name: each of another content, for keys must differ."""
    if name == "sequences.txt":
        return b"1001,1002,1003\n"
    return base64.b64encode(hashlib.sha256(name.encode()).digest())


def _typed() -> list[tuple[str, str]]:
    """List what is typed anywhere: in blocks, and in the text."""
    found = [(str(block), command) for block, command in COMMANDS]
    for page, path in PAGES.items():
        page_text = path.read_text().replace("\\|", "|")  # as tables have it
        for line, text in enumerate(page_text.splitlines(), 1):
            found += [(f"{page}:{line}", words) for words in re.findall(r"`((?:sudo )?gatekeeper [a-z][^`]*)`", text)]
    return [
        (where_from, part)
        for where_from, command in found
        for part in re.split(r"\s(?:&&|\||;)\s", command)
        if re.match(r"(?:sudo )?(?:env \S+ )?(?:\.venv/bin/)?gatekeeper [a-z]", part)
    ]


@pytest.mark.parametrize(("place", "command"), _typed(), ids=lambda one: str(one)[:70])
def test_a_command_line_is_one_that_the_program_takes(place: str, command: str) -> None:
    """By the program's own parser. `...` stands for what is left out, and A|B for either."""
    words = shlex.split(re.sub(r"\s+[<>|].*$", "", command))
    words = words[next(at for at, word in enumerate(words) if word.endswith("gatekeeper")) + 1 :]
    choices = itertools.product(*(word.split("|") for word in words if word != "..."))
    for line in choices:
        assert line[0] in commands.COMMANDS, f"{place}: {command}"
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                commands.called(line)
            except SystemExit as end:
                is_part = "arguments are required" in errors.getvalue() or "expected one argument" in errors.getvalue()
                assert end.code == 0 or is_part, f"{place}: {command}: {errors.getvalue()}"


@pytest.mark.parametrize(("page", "begins", "file"), outputs.ELSEWHERE)
def test_what_is_shown_is_printed_by_a_story_or_by_a_test_that_is_named(page: str, begins: str, file: str) -> None:
    """And every output that no story prints is still shown."""
    assert is_there(file), file
    assert any(outputs.elsewhere(block) == file and block.page == page for block in ALL), begins


def test_an_output_that_is_shown_belongs_to_a_page_that_is_played() -> None:
    for block in ALL:
        if list(outputs.shown(block)):
            assert block.page in STORIES or outputs.elsewhere(block), f"{block}: or mark it: <!-- test: text -->"


def test_what_differs_from_time_to_time_is_no_difference() -> None:
    block = Block("x", 1, "text", "2026-11-23T09:00:05.000Z info opened source=127.0.0.1 ttl=600s\n...\ngone")
    said = "2027-01-01T00:00:00.123Z info opened source=2001:db8::1 ttl=9s"
    assert outputs.not_said(block, said) == ["gone"]


def test_an_hour_of_tomorrow_is_an_hour() -> None:
    """Who plays the page an hour before midnight is told the day too."""
    assert outputs.shape("says: open until 2026-11-29 00:51") == outputs.shape("says: open until 13:34")
