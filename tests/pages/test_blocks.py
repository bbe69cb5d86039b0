"""Nothing in the documents is left out: each block is of a kind that is tested, and each command line can be typed."""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from gatekeeper import rules
from gatekeeper.cli import commands
from tests.pages.blocks import PAGES, ROOT, Block, blocks_of
from tests.pages.elsewhere import ELSEWHERE, where
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
    file = where(command)
    if file is None:
        assert block.page in STORIES, f"{block}: {command}"
    else:
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in ELSEWHERE])
def test_nothing_is_excused_that_is_not_there(pattern: str) -> None:
    assert any(re.fullmatch(pattern, command) for _, command in COMMANDS), pattern


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "yml"], ids=str)
def test_an_example_for_another_program_can_be_read(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "ssh-config"], ids=str)
def test_an_example_for_ssh_is_taken_by_ssh(block: Block, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(block.text.replace("exec ", "!exec ") if "exec " in block.text else block.text)
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
        for line, text in enumerate(path.read_text().splitlines(), 1):
            found += [(f"{page}:{line}", words) for words in re.findall(r"`((?:sudo )?gatekeeper [a-z][^`]*)`", text)]
    return [
        (where_from, part)
        for where_from, command in found
        for part in re.split(r"\s(?:&&|\\?\||;)\s", command)
        if re.match(r"(?:sudo )?(?:env \S+ )?(?:\.venv/bin/)?gatekeeper [a-z]", part)
    ]


@pytest.mark.parametrize(("place", "command"), _typed(), ids=lambda one: str(one)[:70])
def test_a_command_line_is_one_that_the_program_takes(place: str, command: str) -> None:
    """As far as it is one: `...`, and what stands for a choice, end it."""
    words = shlex.split(re.sub(r"\s+[<>|].*$", "", command))
    words = words[next(at for at, word in enumerate(words) if word.endswith("gatekeeper")) + 1 :]
    name, arguments = words[0], [word for word in words[1:] if word != "..."]
    if "|" in name:
        return
    assert name in commands.COMMANDS, f"{place}: {command}"
    parser = dict(_parsers())[name]
    known = set(_options(parser))
    for word in arguments:
        if word.startswith("-") and len(word) > 1:
            assert word.split("=")[0] in known, f"{place}: {command}: {word}"
    if name != "knock" and "..." not in command:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.suppress(SystemExit):
            parser.parse_args(arguments)
        assert "invalid" not in errors.getvalue() or "invalid choice" not in errors.getvalue(), errors.getvalue()


@cache
def _parsers() -> list[tuple[str, argparse.ArgumentParser]]:
    return [(name, parser) for name, parser, _ in commands.subcommands(commands.whole())]


def _options(parser: argparse.ArgumentParser) -> list[str]:
    found: list[str] = []
    for action in parser._actions:
        found += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for its in action.choices.values():
                found += _options(its)
    return found
