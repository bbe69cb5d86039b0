"""The command line: exit statuses, error and hint, and that no command shows a traceback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper import cli
from gatekeeper.errors import GatekeeperError

RULES = "services: {ssh: {port: tcp/22}}\nclients: {laptop: {open: 0123456789abcdef0, services: [ssh]}}\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    file.chmod(0o600)
    return file


def test_check_is_silent_about_a_good_file_but_for_its_sum(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--rules", str(rules)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{rules}: ok (1 service, 1 client)\n"
    assert err == ""


def test_check_shows_every_problem_with_its_hint(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules.write_text("services:\n  ssh: {port: 22}\nclints: {}\n")
    assert cli.main(["check", "--rules", str(rules)]) == 1
    assert capsys.readouterr().err == (
        f'{rules}:2:15: "22" is not a port\n  hint: did you mean tcp/22?\n'
        f'{rules}:3:1: unknown key "clints" in the file\n  hint: did you mean "clients"?\n'
        "gatekeeper: error: 2 problems in the rules; nothing was changed\n"
    )


def test_check_warns_and_still_succeeds(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules.chmod(0o644)
    assert cli.main(["check", "--rules", str(rules)]) == 0
    assert ":1:1: warning: other users can read or write this file" in capsys.readouterr().err


def test_places_come_from_the_environment(
    rules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEKEEPER_RULES", str(rules))
    assert cli.main(["check"]) == 0
    monkeypatch.setenv("GATEKEEPER_RULES", str(rules) + ".not")
    assert cli.main(["check"]) == 1
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
    monkeypatch.setenv("GATEKEEPER_STATE_DIR", str(rules.parent / "nowhere"))
    assert cli.main(["status", "--rules", str(rules)]) == 1
    assert f"no store in {rules.parent / 'nowhere'}" in capsys.readouterr().err


def test_ruleset_prints_both_families_without_root(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ruleset", "--rules", str(rules)]) == 0
    out = capsys.readouterr().out
    assert "create gatekeeper-4-ssh" in out
    assert "create gatekeeper-6-ssh" in out
    assert out.count("*mangle") == 2


@pytest.mark.parametrize("arguments", [["nosuch"], [], ["grant", "192.0.2.1"], ["knock", "host", "--port", "0"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


def test_every_command_has_a_help_text_and_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ["run", "check", "ruleset", "status", "grant", "revoke", "flush", "knock", "demo"]
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    overview = capsys.readouterr().out
    for command in commands:
        assert f"    {command} " in overview
        with pytest.raises(SystemExit) as stop:
            cli.main([command, "--help"])
        assert stop.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) > 4


def test_knock_reads_its_key_from_a_file_or_standard_input(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(2)
        key = tmp_path / "key"
        key.write_text("open\nclose\n")
        base = [sys.executable, "-m", "gatekeeper", "knock", "127.0.0.1", "--port", str(server.getsockname()[1])]
        for more, text, payload in (
            (["--key-file", str(key)], "", b"open"),
            (["--key-file", str(key), "--close"], "", b"close"),
            (["--service", "ssh"], "open", b"open ssh"),
            (["--key-file", "-"], "open\nclose\n", b"open"),
        ):
            done = subprocess.run([*base, *more], input=text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert server.recv(100) == payload


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot read the key"), (b"", "the key is empty"), (b"\xff\xfe", "is not text")]
)
def test_a_bad_key_file_is_an_error_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    assert cli.main(["knock", "127.0.0.1", "--key-file", str(key)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("gatekeeper: error: ")
    assert words in err


def test_a_bug_is_exit_3_and_says_so(
    rules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gatekeeper.rules.load", fail)
    assert cli.main(["check", "--rules", str(rules)]) == 3
    assert "this is a bug in gatekeeper" in capsys.readouterr().err


def test_an_expected_error_is_exit_1_with_its_hint(
    rules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise GatekeeperError("it is raining", "take an umbrella")

    monkeypatch.setattr("gatekeeper.rules.load", fail)
    assert cli.main(["check", "--rules", str(rules)]) == 1
    assert capsys.readouterr().err == "gatekeeper: error: it is raining\ngatekeeper: hint: take an umbrella\n"


def test_the_clients_path_imports_nothing_of_the_servers() -> None:
    """`gatekeeper knock` starts fast, and works where Scapy and NetfilterQueue cannot be installed."""
    code = (
        "import sys, json, gatekeeper.cli, gatekeeper.client;"
        "heavy = ('scapy', 'netfilterqueue', 'yaml', 'sqlite3');"
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in heavy]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_dry_run_imports_nothing_of_the_servers() -> None:
    code = (
        "import sys, json, gatekeeper.dryrun;"
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in ('scapy', 'netfilterqueue', 'fcntl')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
