"""The process that runs hooks: some at a time, each grant's in their order, without rights, and whatever they do."""

from __future__ import annotations

import os
import pwd
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper.hooks.telling import Event, encode
from gatekeeper.processes.child import Child, Control
from gatekeeper.processes.hooking import run_hooks
from gatekeeper.processes.link import Wire

PATH = {"PATH": "/usr/bin:/bin"}


class Hooks:
    """Such a process, and a folder that hooks can write to, whoever they are."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self._log = folder, log
        self.wire = Wire()
        self.child = Child("hooks", self._main, log_format="text")
        wait_until(self._is_ready)

    def _main(self, control: Control) -> None:
        sys.stderr = self._log.open("w")
        run_hooks(control, self.wire.read)

    def _is_ready(self) -> bool:
        self.child.listen()
        return self.child.is_ready

    def send(self, script: str, *, limit: int = 10, client: str = "laptop") -> None:
        environment = PATH | {"GATEKEEPER_CLIENT": client, "GATEKEEPER_EVENT": "open", "HERE": str(self.folder)}
        self.wire.written.send(encode(Event(("/bin/sh", "-c", script), limit, environment)))

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> float:
        """Stop it as the supervisor does; return how long that took."""
        begin = time.monotonic()
        self.child.stop()
        wait_until(lambda: self.child.ended() is not None)
        return time.monotonic() - begin


def wait_until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooks]:
    with tempfile.TemporaryDirectory(prefix="gatekeeper-test-") as folder:
        Path(folder).chmod(0o777)  # hooks may be somebody else, and pytest's own folders are for their owner alone
        made = Hooks(Path(folder), tmp_path / "log")
        yield made
        if made.child.control.fileno() >= 0:
            made.child.kill(signal.SIGKILL)
            wait_until(lambda: made.child.ended() is not None)
        made.wire.written.close()
        made.wire.read.close()


def test_a_hook_has_no_rights_and_no_way_to_get_any(hooks: Hooks) -> None:
    hooks.send(
        'grep -E "^(Uid|Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)" /proc/self/status > "$HERE/new"; mv "$HERE/new" "$HERE/x"'
    )
    wait_until((hooks.folder / "x").exists)
    its = dict(line.split(":\t") for line in (hooks.folder / "x").read_text().splitlines())
    assert {its[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert its["NoNewPrivs"] == "1"
    uids = set(its["Uid"].split("\t"))
    assert len(uids) == 1
    assert uids != {"0"}
    if os.geteuid() == 0 and uids == {str(pwd.getpwnam("nobody").pw_uid)}:
        assert "there is no user gatekeeper here, as which hooks are run: they are run as nobody" in hooks.log


def test_what_is_about_one_grant_runs_in_order_and_others_do_not_wait_for_it(hooks: Hooks) -> None:
    for number in range(5):
        hooks.send(f'sleep 0.05; echo {number} >> "$HERE/laptop"')
    hooks.send('echo x > "$HERE/desk"', client="desk")
    wait_until((hooks.folder / "desk").exists)
    assert not (hooks.folder / "laptop").exists() or len((hooks.folder / "laptop").read_text()) < 6
    wait_until(lambda: (hooks.folder / "laptop").exists() and len((hooks.folder / "laptop").read_text()) == 10)
    assert (hooks.folder / "laptop").read_text().split() == ["0", "1", "2", "3", "4"]


def test_four_run_at_a_time_and_the_fifth_has_its_turn(hooks: Hooks) -> None:
    for number in range(6):
        hooks.send(f'touch "$HERE/{number}"; sleep 0.5', client=str(number))
    wait_until(lambda: len(list(hooks.folder.iterdir())) == 4)
    time.sleep(0.15)
    assert len(list(hooks.folder.iterdir())) == 4
    wait_until(lambda: len(list(hooks.folder.iterdir())) == 6)


def test_a_failure_is_a_line_in_the_log_and_the_next_one_runs(hooks: Hooks) -> None:
    hooks.send("echo sorry; echo >&2 '\033[31m'; exit 3")
    hooks.send("sleep 60", limit=1)
    hooks.wire.written.send(b"junk")
    hooks.wire.written.send(encode(Event(("/nowhere/told",), 1, {})))
    hooks.wire.written.send(encode(Event(("/bin/echo", "a\0b"), 1, {})))
    hooks.send('touch "$HERE/x"')
    wait_until((hooks.folder / "x").exists)
    log = hooks.log
    assert 'client=laptop source= service= error="exit status 3" said="sorry / \\\\x1b[31m"' in log
    assert 'error="it took longer than 1 s, and was killed"' in log
    assert "hook-failed hook=/nowhere/told" in log
    assert 'error="it cannot be started: No such file or directory"' in log
    assert "null byte" in log
    assert "Traceback" not in log


def test_what_it_says_is_in_the_log_and_a_flood_of_it_is_not(hooks: Hooks) -> None:
    hooks.send("echo one; echo two")
    hooks.send("exec yes | head -c 100000")
    for number in range(60):
        hooks.send("echo again; exit 1", client=str(number))
    hooks.send('touch "$HERE/x"', client="59")
    wait_until((hooks.folder / "x").exists)
    log = hooks.log
    assert "hook-said hook=/bin/sh on=open client=laptop" in log
    assert log.count("said=y\n") == 10
    assert log.count("hook-failed") < 30


def test_a_stop_gives_those_that_run_a_moment_and_says_what_did_not_run(hooks: Hooks) -> None:
    hooks.send('touch "$HERE/began"; sleep 60')
    hooks.send("true")
    hooks.send('sleep 0.2; touch "$HERE/done"', client="desk")
    wait_until((hooks.folder / "began").exists)
    assert hooks.stop() < 0.75  # the supervisor kills it after 0.8 s
    assert (hooks.folder / "done").exists()
    assert "killed, for run is stopping" in hooks.log
    assert "hook-lost number=1" in hooks.log


def test_a_script_that_has_gone_wild_finds_its_bounds(hooks: Hooks) -> None:
    hooks.send("for i in $(seq 200); do sleep 20 & done", limit=2)
    wait_until(lambda: "annot fork" in hooks.log or "unavailable" in hooks.log)
    hooks.send('touch "$HERE/x"', client="desk")
    wait_until((hooks.folder / "x").exists)
    children = Path(f"/proc/{hooks.child.pid}/task/{hooks.child.pid}/children")
    wait_until(lambda: not children.read_text())  # what they leave is cleared up


def test_it_ends_with_its_supervisor_though_it_is_another_user(hooks: Hooks) -> None:
    hooks.send('echo $$ > "$HERE/new"; mv "$HERE/new" "$HERE/pid"; exec sleep 60')
    wait_until((hooks.folder / "pid").exists)
    hook = (hooks.folder / "pid").read_text().strip()
    hooks.child.control.close()
    wait_until(lambda: os.waitpid(hooks.child.pid, os.WNOHANG)[0] != 0)
    wait_until(lambda: _has_ended(hook))


def _has_ended(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().split()[2] == "Z"  # whoever is there now may reap it later
    except (FileNotFoundError, ProcessLookupError):
        return True
