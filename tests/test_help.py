"""Help, man page and examples: every command has them, and what they say is so."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper import cli
from gatekeeper.cli import commands, examples, manpage
from gatekeeper.cli.options import RULES, STATE_DIR

INVITE = "gatekeeper://bastion.example.org:62201/laptop/VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY/ssh"


ALL = {one.prog: one for _, one in commands.all_below("", commands.whole()) if one.prog != "gatekeeper"}


def command_lines(text: str) -> list[list[str]]:
    """Return the arguments of each ``gatekeeper`` in the lines of a text."""
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=False) if re.search(r"^\s+\S.*\bgatekeeper ", line) else []
        for number, word in enumerate(words):
            if word == "gatekeeper" and (number == 0 or words[number - 1] in {"sudo", "|"}):
                rest = words[number + 1 :]
                end = next((place for place, one in enumerate(rest) if one in {"|", ">"} or one[0] == "("), len(rest))
                found.append(rest[:end])
    return found


@pytest.mark.parametrize("prog", sorted(ALL))
def test_every_command_has_a_description_and_examples_of_itself(prog: str) -> None:
    parser = ALL[prog]
    assert parser.description
    assert parser.epilog is not None
    assert f"{prog} " in f"{parser.epilog} ".replace("\n", " ")


@pytest.mark.parametrize("prog", sorted(ALL))
def test_every_example_is_a_command_line(prog: str) -> None:
    for words in command_lines(ALL[prog].epilog or ""):
        if words[0] in commands.COMMANDS:
            commands.called(words)


def test_examples_are_there_for_commands_only() -> None:
    assert {f"gatekeeper {words}" for words in examples._EXAMPLES} <= set(ALL)


def test_help_shows_the_examples_each_in_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["revoke", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "\nexamples:\n  sudo gatekeeper revoke 192.0.2.7\n      all of its grants; what is open is cut\n" in said
    assert all(len(line) <= 100 for line in said.splitlines())


def test_a_call_does_not_pay_for_the_examples() -> None:
    code = "import sys; from gatekeeper.cli import commands; commands.called(['knock', 'x', '--close']); "
    code += "print({'gatekeeper.cli.examples', 'shtab', 'difflib', 'typing', 'json'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- the man page


def test_the_man_page_has_every_command_and_every_option() -> None:
    page = manpage.page()
    for prog, parser in ALL.items():
        assert f".SS {manpage._plain(prog.removeprefix('gatekeeper '))}\n" in page
        for action in parser._actions:
            for option in action.option_strings:
                assert action.help == argparse.SUPPRESS or manpage._plain(option) in page


def test_the_man_page_says_where_things_are_and_what_an_exit_status_means() -> None:
    page = manpage.page().replace("\\-", "-")
    sections = ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "FILES", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES"]
    assert re.findall(r"^\.SH (.*)$", page, re.MULTILINE) == [*sections, "SEE ALSO"]
    for word in (RULES, STATE_DIR, "GATEKEEPER_RULES", "NO_COLOR", "FORCE_COLOR", INVITE):
        assert word in page


def test_the_man_page_is_without_a_fault(tmp_path: Path) -> None:
    """As man, which is on the machines of most, reads it; and as the strictest reader does (mandoc, where it is)."""
    file = tmp_path / "gatekeeper.1"
    environ = {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1764355000", "LC_ALL": "C.UTF-8"}
    environ["PYTHONPATH"] = str(Path(cli.__file__).parents[2])
    argv = [sys.executable, "-m", "gatekeeper.cli.manpage"]
    file.write_text(subprocess.run(argv, capture_output=True, text=True, check=True, env=environ).stdout)
    checks = [
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(file)],
        ["mandoc", "-T", "lint", "-W", "warning", str(file)],
    ]
    for argv in checks:
        if shutil.which(argv[0]):
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environ)
            faults = done.stderr if argv[0] == "man" else done.stdout
            assert (done.returncode, faults) == (0, "")


def test_what_a_user_writes_cannot_be_a_request_to_roff() -> None:
    assert manpage._plain(".so /etc/shadow") == "\\&.so /etc/shadow"
    assert manpage._plain("'x\\n") == "\\(aqx\\en"
