"""``gatekeeper completion``, in real shells: what they offer when Tab is pressed."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from gatekeeper import cli
from gatekeeper.cli import commands, completion

ASKED = [
    ("", "knock", "grant", "completion"),
    ("kno", "knock"),
    ("knock ", "bastion.example.org", "work"),
    ("connect ba", "bastion.example.org"),
    ("knock work --via ", "udp", "icmp", "syn"),
    ("knock work --ti", "--timeout"),
    ("knock work --service ", "ssh", "web"),
    ("grant 192.0.2.7 vau", "vault"),
    ("check --rules ru", "rules.yaml"),
    ("explain rul", "rules.yaml"),
    ("run --state-dir sta", "state"),
    ("client ", "add", "remove", "list"),
    ("client add ann --not", "--not-after"),
    ("completion ", "bash", "zsh", "fish"),
]
ASKABLE = [shell for shell in ("bash", "fish") if shutil.which(shell)]
HAS_ZSH = shutil.which("zsh") is not None
"""Where scripts/setup test has been all of them are there."""
NOT_OFFERED = [("knock work --ti", "--rules"), ("kno", "grant"), ("run --state-dir ", "rules.yaml"), ("run -", "--via")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type in, with profiles, rules, and a ``gatekeeper`` in PATH."""
    profiles = tmp_path / ".config/gatekeeper/profiles"
    profiles.mkdir(parents=True)
    (profiles / "bastion.example.org.conf").write_text("host = bastion.example.org\nservices = ssh web\n")
    (profiles / "work.conf").write_text("host = 192.0.2.1\n")
    (tmp_path / "rules.yaml").write_text("services: {vault: {port: tcp/8200}}\n")
    (tmp_path / "state").mkdir()
    program = tmp_path / "bin/gatekeeper"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gatekeeper "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("GATEKEEPER_RULES", "rules.yaml")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[2]))
    return tmp_path


def ask(shell: str, lines: list[str]) -> dict[str, list[str]]:
    """Have a shell complete each of these lines; return what it offers."""
    if shell == "bash":
        code = (
            'eval "$(gatekeeper completion bash)"; found=$(complete -p gatekeeper); found=${found#* -F }\n'
            'for line; do read -ra COMP_WORDS <<< "gatekeeper $line"; case $line in *" "|"") COMP_WORDS+=("") ;; esac\n'
            "COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=(); ${found% *}\n"
            'printf "%s\\n" "${COMPREPLY[@]}" ==; done'
        )
        argv = ["bash", "--norc", "-c", code, "bash", *lines]
    else:
        code = 'gatekeeper completion fish | source; for l in $argv; complete -C "gatekeeper $l"; echo ==; end'
        argv = ["fish", "--no-config", "-c", code, *lines]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    groups = done.stdout.split("==\n")
    return {
        line: [one.partition("\t")[0].rstrip("/") for one in group.splitlines()]
        for line, group in zip(lines, groups, strict=False)
    }


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("shell", ASKABLE)
def test_a_shell_offers_what_can_stand_there(shell: str) -> None:
    offered = ask(shell, [*(line for line, *_ in ASKED), *(line for line, _ in NOT_OFFERED)])
    for line, *expected in ASKED:
        assert set(expected) <= set(offered[line]), line
    for line, word in NOT_OFFERED:
        assert word not in offered[line], line


@pytest.mark.usefixtures("home")
def test_zsh_offers_what_can_stand_there() -> None:
    if not HAS_ZSH:
        return
    with Zsh() as shell:
        for line, *expected in ASKED:
            shell.tab(f"gatekeeper {line}", *expected)


@pytest.mark.usefixtures("home")
def test_a_name_that_is_a_command_stays_a_name() -> None:
    """What stands in a folder of profiles came from an invite, and so from outside."""
    hostile = Path(".config/gatekeeper/profiles/$(touch stolen).conf")
    hostile.write_text("services = $(touch stolen) `touch stolen`\n")
    for shell in ASKABLE:
        offered = ask(shell, ["knock ", "knock work --service ", "grant 192.0.2.7 "])
        assert shell == "fish" or not any(set("$`(") & set(word) for words in offered.values() for word in words)
    if HAS_ZSH:
        with Zsh() as zsh:
            zsh.tab("gatekeeper knock ", "work")
            zsh.tab("gatekeeper knock work --service ", "ssh", "web")
    assert not Path("stolen").exists()


def test_the_shell_is_that_of_the_environment_where_none_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert cli.main(["completion"]) == 0
    assert capsys.readouterr().out.startswith("#compdef gatekeeper")
    monkeypatch.setenv("SHELL", "/bin/dash")
    assert cli.main(["completion"]) == 1
    assert "name one: bash, zsh, fish" in capsys.readouterr().err


def test_without_shtab_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 1
    assert "it lacks shtab\ngatekeeper: hint: pip install shtab" in capsys.readouterr().err


def test_services_that_cannot_be_read_are_none_and_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody is typing: there is no place for words on the terminal."""
    assert cli.main(["completion", "--services", "--rules", str(tmp_path / "none")]) == 0
    assert capsys.readouterr() == ("", "")


def test_every_file_and_folder_on_a_command_line_is_completed_as_one() -> None:
    for action in completion._arguments(commands.whole()):
        if isinstance(action.metavar, str) and action.metavar.rpartition("-")[2] in {"FILE", "DIR"}:
            assert completion._kind(action) in {"file", "folder"}, action


class Zsh:
    """A zsh on a terminal, in which one can press Tab."""

    def __enter__(self) -> Self:
        self.terminal, its = pty.openpty()
        environ = {**os.environ, "TERM": "dumb", "PROMPT": "", "PS1": ""}
        self.process = subprocess.Popen(
            ["zsh", "-f", "-i"], stdin=its, stdout=its, stderr=its, env=environ, start_new_session=True
        )
        os.close(its)
        self.type("PROMPT=; autoload -Uz compinit; compinit -u -D; setopt no_beep\n")
        self.type('LISTMAX=1000; eval "$(gatekeeper completion zsh)"; print RE""ADY\n')
        self.until("READY")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)

    def tab(self, line: str, *words: str) -> None:
        """Type a line and Tab, and expect these words; then take the line back."""
        self.type(f"{line}\t")
        self.until(*words)
        self.type("\x15")
        "".join(self.shown(quiet=0.1))

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, *words: str) -> None:
        shown, end = "", time.monotonic() + 30
        while not all(word in shown for word in words) and time.monotonic() < end:
            shown += "".join(self.shown(quiet=0.05))
        assert all(word in shown for word in words), shown

    def shown(self, quiet: float) -> Iterator[str]:
        """Return what it prints, until it is quiet for so long."""
        while select.select([self.terminal], [], [], quiet)[0]:
            yield os.read(self.terminal, 4096).decode(errors="replace")
