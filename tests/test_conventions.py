"""What every command line program should do: exit statuses, closed pipes, colours, systems that lack something."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gatekeeper import cli, colours, progress
from gatekeeper.cli import commands

GATEKEEPER = [sys.executable, "-m", "gatekeeper"]
RULES = "services: {ssh: {port: tcp/22}}\nclients: {laptop: {open: 0123456789abcdef0, services: [ssh]}}\n"
READS_RULES = [
    ["run"], ["load"], ["install", "--root", "below"], ["check"], ["diff"], ["reload"], ["ruleset"], ["status"],
    ["grant", "192.0.2.7", "ssh"], ["revoke", "192.0.2.7"], ["explain", "capture"], ["reset-floor", "laptop"],
    ["invite", "laptop", "--host", "h"], ["pubkey", "--server"], ["run", "--dry-run"],
]  # fmt: skip
"""Each command that reads the rules. None of them gets further than to them here: nothing is loaded into a kernel."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GATEKEEPER_STATE_DIR", str(tmp_path / "state"))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "NO_COLOR", "FORCE_COLOR", "GATEKEEPER_RULES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[2]))
    (tmp_path / "capture").write_bytes(b"")
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "rules.yaml").chmod(0o600)
    return tmp_path


def call(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit status, and all that was said."""
    try:
        status = cli.main(words)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        status = stop.code
    out, err = capsys.readouterr()
    return status, out + err


# -- exit statuses


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"services: [", b"{}", b"a: &a [*a]", b"- " * 9000])
@pytest.mark.parametrize("words", READS_RULES, ids=" ".join)
def test_rules_of_no_use_are_exit_1_with_words_and_no_traceback(
    words: list[str], content: bytes | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "bad.yaml"
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o600)
    status, said = call([*words, "--rules", str(file)], capsys)
    assert status == 1, said
    assert "gatekeeper: error: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
@pytest.mark.parametrize("words", [["--no-such-option"], ["--rules"], ["a", "b", "c", "\x1b[31m", "--x\x07"]])
def test_a_wrong_command_line_is_exit_2_with_a_hint_and_no_hostile_byte(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = call([name, *words], capsys)
    assert status == 2
    assert "error: " in said
    assert f"gatekeeper: hint: `gatekeeper {name} --help` explains it" in said
    assert "\x1b" not in said
    assert "\x07" not in said


@pytest.mark.parametrize(
    ("word", "hint"),
    [("stauts", "did you mean `gatekeeper status`?"), ("\x1b[2J" * 999, "`gatekeeper --help` lists"), ("", "lists")],
)
def test_a_command_that_is_none_is_exit_2_and_the_nearest_is_named(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = call([word], capsys)
    assert status == 2
    assert hint in said
    assert "\x1b" not in said
    assert len(said) < 300


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "nowhere.pcap", "--rules", "rules.yaml"],
        ["explain", "/dev/null", "--rules", "rules.yaml"],
        ["import", "fwknop", "nowhere"],
        ["import", "knockd", "/"],
        ["join", "https://example.org"],
        ["join", "\x1b\udcff"],
        ["knock", "nobody"],
        ["knock", "../../etc/passwd"],
        ["knock", "x" * 5000],
        ["connect", "nobody", "22"],
        ["pubkey", "/"],
        ["pubkey", "rules.yaml"],
        ["keygen", "nowhere/deep/key"],
        ["grant", "192.0.2.7", "nope", "--rules", "rules.yaml"],
        ["grant", "hello", "ssh", "--rules", "rules.yaml"],
        ["grant", "192.0.2.7", "ssh", "--ttl", "1 year", "--rules", "rules.yaml"],
        ["revoke", "\udcff", "--rules", "rules.yaml"],
        ["status", "--rules", "rules.yaml", "--state-dir", "rules.yaml"],
        ["status", "--rules", "rules.yaml", "--source", "300.1.1.1"],
        ["reload", "--rules", "rules.yaml"],
        ["diff", "--rules", "rules.yaml"],
        ["invite", "no such name", "--host", "h", "--rules", "rules.yaml"],
        ["reset-floor", "nobody", "--rules", "rules.yaml"],
        ["check", "--rules", "\udcff"],
        ["run", "--dry-run", "--confirm", "60", "--rules", "rules.yaml"],
        ["install", "--no-start", "--confirm", "60", "--rules", "rules.yaml"],
        ["install", "--root", "rules.yaml", "--rules", "rules.yaml"],
    ],
    ids=lambda words: ascii(" ".join(words))[:60],
)
def test_what_cannot_be_done_is_exit_1_with_words_and_no_traceback(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = call(words, capsys)
    assert status == 1, said
    assert "gatekeeper: error: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"], ["ruleset", "--rules", "rules.yaml"]])
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    """`gatekeeper status | head -1`: no traceback, and no word."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*GATEKEEPER, *words], stdout=write, stderr=subprocess.PIPE, check=False, timeout=20)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["check", "--rules", "rules.yaml"]])
def test_an_output_that_cannot_be_written_is_exit_1(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*GATEKEEPER, *words], stdout=full, stderr=subprocess.PIPE, check=False, timeout=20)
    assert done.returncode == 1
    assert done.stderr == b"gatekeeper: error: the output could not be written: No space left on device\n"


@pytest.mark.parametrize("words", [["status", "--rules", "nowhere"], ["nosuch"], ["run", "--nope"]])
def test_an_error_that_nobody_can_read_is_still_an_exit_status(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        argv = [*GATEKEEPER, *words]
        done = subprocess.run(argv, stdout=write, stderr=write, env=environment, check=False, timeout=20)
    finally:
        os.close(write)
    assert done.returncode in {1, 2}


def test_ctrl_c_is_exit_130_without_a_word(folder: Path) -> None:
    """While it waits: for a port that does not answer, and for a capture that does not come."""
    (folder / "key").write_text("open sesame please\n")
    with socket.socket() as listening:  # it is never accepted from: bound, but nobody listens
        listening.bind(("127.0.0.1", 0))
        port = f"tcp/{listening.getsockname()[1]}"
        waits = [
            ["knock", "127.0.0.1", "--key-file", "key", "--wait", port, "--timeout", "60"],
            ["explain", "-", "--rules", "rules.yaml"],
        ]
        for words in waits:
            pipe, piped = subprocess.PIPE, subprocess.PIPE
            with subprocess.Popen([*GATEKEEPER, *words], stdin=pipe, stdout=piped, stderr=piped) as process:
                time.sleep(1.5)
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=20)
            assert process.returncode == 130, err
            assert b"Traceback" not in err


# -- colours


@pytest.mark.parametrize(
    ("environ", "terminal", "piped"),
    [
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    environ: dict[str, str], terminal: bool, piped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    ours, its = pty.openpty()
    try:
        with open(its, "w", closefd=False) as stream:
            assert colours.suit(stream) is terminal
    finally:
        os.close(ours)
        os.close(its)
    with Path(os.devnull).open("w") as stream:
        assert colours.suit(stream) is piped
    assert colours.suit(None) is False


# -- what is waited for


def on_terminal(monkeypatch: pytest.MonkeyPatch, term: str, seconds: float) -> str:
    ours, its = pty.openpty()
    try:
        with open(its, "w", closefd=False) as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            monkeypatch.setenv("TERM", term)
            with progress.waiting("stopping run"):
                time.sleep(seconds)
            monkeypatch.undo()
        os.write(its, b"end")
        shown = b""
        while not shown.endswith(b"end"):
            shown += os.read(ours, 1000)
        return shown.decode().removesuffix("end")
    finally:
        os.close(ours)
        os.close(its)


def test_what_takes_over_a_second_says_so_on_a_terminal_and_the_line_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.05)
    monkeypatch.setattr(progress, "_LOOK", 0.05)
    said = on_terminal(monkeypatch, "xterm", 0.2)
    assert said.startswith("\rstopping run ... 0 s")
    assert said.endswith("\r\x1b[K")


def test_on_a_dumb_terminal_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.05)
    assert on_terminal(monkeypatch, "dumb", 0.2) == "stopping run ...\r\n"


def test_what_is_done_at_once_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_terminal(monkeypatch, "xterm", 0.0) == ""


# -- other systems, and installations for clients

LINUX_ONLY = ("fcntl", "grp", "pwd", "resource", "syslog", "termios")
SERVERS = ("netfilterqueue", "scapy", "rich")
ELSEWHERE = """
import sys, json, os, signal, socket
for name in {missing!r}:
    sys.modules[name] = None
for owner, name in ((os, "geteuid"), (os, "getuid"), (os, "fork"), (os, "O_NONBLOCK"), (os, "O_NOFOLLOW"),
                    (signal, "SIGHUP"), (socket, "AF_UNIX"), (socket, "AF_NETLINK")):
    if {lacks!r} and hasattr(owner, name):
        delattr(owner, name)
from gatekeeper import cli
from gatekeeper.cli import commands
commands._SYSTEM = {system!r}
try:
    status = cli.main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
sys.exit(status)
"""


def elsewhere(*words: str, system: str = "darwin", missing: tuple[str, ...] = LINUX_ONLY + SERVERS) -> Any:
    """Run a command as on a system that is not Linux, in an installation for clients."""
    code = ELSEWHERE.format(missing=missing, system=system, lacks=system != "linux")
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=20)


def test_the_client_works_on_any_system() -> None:
    """macOS, Windows: no module, call or constant of Linux is needed from the invite to the knock."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket() as service:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        service.bind(("127.0.0.1", 0))
        service.listen()
        port = server.getsockname()[1]
        invite = f"gatekeeper://127.0.0.1:{port}/laptop/VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY/ssh"
        at = service.getsockname()[1]
        for words in (
            ["keygen"],
            ["pubkey"],
            ["join", invite, "--name", "work"],
            ["knock", "work"],
            ["knock", "work", "--close"],
            ["knock", "work", "--wait", f"tcp/{at}"],
            ["knock", "127.0.0.1", "--format", "sequence", "7000/udp"],
            ["check", "--rules", "rules.yaml"],
            ["ruleset", "--rules", "rules.yaml"],
            ["completion", "zsh"],
            ["--help"],
        ):
            done = elsewhere(*words)
            assert (done.returncode, done.stderr) == (0, ""), words
        assert len(server.recv(2000)) > 100


@pytest.mark.parametrize("name", sorted(commands._LINUX))
def test_a_servers_command_on_another_system_says_that_it_is_for_linux(name: str) -> None:
    words = {"grant": ["192.0.2.7", "ssh"], "revoke": ["192.0.2.7"], "invite": ["x", "--host", "h"]}
    done = elsewhere(name, *words.get(name, ["laptop"] if name == "reset-floor" else []))
    assert done.returncode == 1, done.stderr
    assert f"gatekeeper: error: gatekeeper {name} is for the server, which is Linux\n" in done.stderr
    assert "`run --dry-run` work on any system" in done.stderr


@pytest.mark.parametrize("words", [["run"], ["demo"], ["explain", "capture"]], ids=" ".join)
def test_an_installation_for_clients_says_what_a_servers_command_lacks(words: list[str]) -> None:
    done = elsewhere(*words, system="linux", missing=SERVERS)
    assert done.returncode == 1, done.stderr
    assert "gatekeeper: error: this is an installation for clients: it lacks " in done.stderr
    assert "gatekeeper: hint: pip install 'gatekeeper[server]'" in done.stderr


def test_an_installation_that_has_lost_a_library_says_which() -> None:
    done = elsewhere("check", "--rules", "rules.yaml", system="linux", missing=("yaml",))
    assert done.returncode == 1
    assert done.stderr.startswith("gatekeeper: error: this installation lacks yaml, which that command needs\n")


def test_no_command_is_set_up_by_a_module_of_linux() -> None:
    """So that help, completion and the man page are the same everywhere."""
    code = f"import sys, json; [sys.modules.__setitem__(one, None) for one in {LINUX_ONLY + SERVERS!r}]; "
    code += "from gatekeeper.cli import commands, manpage; print(json.dumps(len(manpage.page()) > 9999))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is True
