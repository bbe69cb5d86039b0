"""The command line: exit statuses, error and hint, and that no command shows a traceback."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatekeeper import admin, cli
from gatekeeper.errors import GatekeeperError, UsageError

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


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        [],
        ["grant", "192.0.2.1"],
        ["knock", "host", "--port", "0"],
        *(["run", "--confirm", seconds] for seconds in ("4", "3601", "-60", "soon", "")),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


def test_every_command_has_a_help_text_and_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ["run", "check", "ruleset", "status", "grant", "revoke", "confirm", "flush", "knock", "demo"]
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
            (["--service", "ssh", "--key-file", "-"], "open", b"open ssh"),
            (["--key-file", "-"], "open\nclose\n", b"open"),
        ):
            done = subprocess.run([*base, *more], input=text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert server.recv(100) == payload


def test_knock_asks_for_its_key_at_a_terminal_and_does_not_show_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        port = str(server.getsockname()[1])
        terminal, end = pty.openpty()
        argv = [sys.executable, "-m", "gatekeeper", "knock", "127.0.0.1", "--port", port, "--close", "--key-file", "-"]
        with subprocess.Popen(argv, stdin=end, stdout=end, stderr=end, start_new_session=True) as process:
            shown = b""
            while b"key to close: " not in shown:
                shown += os.read(terminal, 1000)
            os.write(terminal, b"close_sesame\n")
            assert server.recv(100) == b"close_sesame"
            while b"knocked at" not in shown:
                shown += os.read(terminal, 1000)
        assert process.returncode == 0
        os.close(terminal)
        os.close(end)
    assert b"close_sesame" not in shown


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

    monkeypatch.setattr("gatekeeper.rules.read", fail)
    assert cli.main(["check", "--rules", str(rules)]) == 3
    assert "this is a bug in gatekeeper" in capsys.readouterr().err


def test_an_expected_error_is_exit_1_with_its_hint(
    rules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise GatekeeperError("it is raining", "take an umbrella")

    monkeypatch.setattr("gatekeeper.rules.read", fail)
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


def _gatekeeper(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gatekeeper", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20, **more)


def test_rules_that_one_may_not_read_are_an_error_and_no_bug(rules: Path) -> None:
    """A folder of mode 700, as the example makes it, seen by another user (here: by root without rights)."""
    rules.parent.chmod(0o000)
    try:
        argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", sys.executable, "-m", "gatekeeper"]
        drop = argv if os.geteuid() == 0 else argv[4:]
        done = subprocess.run([*drop, "check", "--rules", str(rules)], capture_output=True, text=True, check=False)
    finally:
        rules.parent.chmod(0o700)
    assert done.returncode == 1
    assert "cannot be read: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "x" * 300, "fifo", "folder"])
def test_rules_that_are_no_file_are_an_error_and_no_wait(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    done = _gatekeeper("check", "--rules", name, cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_file_that_never_ends_is_an_error_and_no_wait(rules: Path) -> None:
    os.mkfifo(rules.parent / "fifo")
    for name in ("/dev/zero", "fifo"):
        rules.write_text(RULES.replace("open: 0123456789abcdef0", f"open_file: {name}"))
        done = _gatekeeper("check", "--rules", str(rules))
        assert done.returncode == 1
        assert f"cannot read the key in {name}: it is not a regular file" in done.stderr


def test_a_thousand_problems_are_counted_and_the_first_hundred_shown(rules: Path) -> None:
    """Also where each of them looks for a name that might be meant: that must not take minutes."""
    services = "".join(f"  service{n}: {{port: tcp/{n + 1}}}\n" for n in range(1000))
    wrong = ", ".join(f"servic{n}x" for n in range(2000))
    rules.write_text(f"services:\n{services}clients: {{a: {{open: 0123456789abcdef0, services: [{wrong}]}}}}\n")
    done = _gatekeeper("check", "--rules", str(rules))
    assert done.returncode == 1
    assert done.stderr.endswith("2000 problems in the rules (the first 100 are shown); nothing was changed\n")


def test_output_that_cannot_be_written_is_an_error_and_no_bug(rules: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123  (a device)
        argv = [sys.executable, "-m", "gatekeeper", "ruleset", "--rules", str(rules)]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "gatekeeper: error: the output could not be written: No space left on device\n",
    )


def test_a_closed_standard_input_and_odd_bytes_are_no_bugs(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m gatekeeper knock 127.0.0.1 --key-file - <&-', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the key is empty" in done.stderr
    key = tmp_path / "key"
    key.write_text("open")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
        argv: list[str | bytes] = [sys.executable, "-m", "gatekeeper", "knock", "127.0.0.1", "--port", port]
        done_bytes = subprocess.run(
            [*argv, "--key-file", str(key), "--service", b"\xff"], capture_output=True, check=False
        )
        assert done_bytes.returncode == 0, done_bytes.stderr
        assert server.recv(100) == b"open \xff"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        (" 192.0.2.7/24", "192.0.2.0/24"),
        ("2001:db8::7/64", "2001:db8::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
    ],
)
def test_sources_as_administrators_write_them(text: str, source: str) -> None:
    assert str(admin.parse_source(text)) == source


@pytest.mark.parametrize(
    "text",
    ["", "x", "192.0.2.999", "0.0.0.0/0", "::/0", "10.0.0.0/7", "::ffff:0:0/96", "::ffff:128.0.0.0/97", "fe80::1",
     "fe80::1%eth0", "2001:db8::1%eth0", "169.254.1.1"],
)  # fmt: skip
def test_sources_that_make_no_grant(text: str) -> None:
    """What would not fit into a set must not get into the store: the next start would fail on it."""
    with pytest.raises(UsageError):
        admin.parse_source(text)
