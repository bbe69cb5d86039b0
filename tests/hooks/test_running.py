"""One hook as a process: it ends in time with all that it has started, and what it says is bounded."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.hooks.running import Running
from gatekeeper.hooks.telling import Event

PATH = {"PATH": "/usr/bin:/bin"}


def run(script: str, *, limit: int = 10, **environment: str) -> Running:
    return Running(Event(("/bin/sh", "-c", script), limit, PATH | environment))


def finished(one: Running, *, seconds: float = 5.0) -> str | None:
    deadline = time.monotonic() + seconds
    while not one.look():
        one.listen()
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.005)
    return one.finish()


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_it_says_is_heard_on_both_ways_out() -> None:
    one = run("echo out; echo >&2 err; echo; echo end")
    assert finished(one) is None
    assert one.said == ["out", "err", "end"]


@pytest.mark.parametrize(
    ("script", "error"), [("exit 3", "exit status 3"), ("kill -9 $$", "killed by SIGKILL"), ("exit 0", None)]
)
def test_how_it_ended_is_told(script: str, error: str | None) -> None:
    assert finished(run(script)) == error


def test_it_has_the_environment_that_it_was_given_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    one = run("env; pwd; umask; readlink /proc/$$/fd/0", GATEKEEPER_CLIENT="$(touch /x); `x`")
    assert finished(one) is None
    assert "GATEKEEPER_CLIENT=$(touch /x); `x`" in one.said
    assert not any("SECRET_OF_OURS" in line for line in one.said)
    assert one.said[-3:] == ["/", "0077", "/dev/null"]


def test_nothing_that_is_open_here_is_open_there(tmp_path: Path) -> None:
    with (tmp_path / "a secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        one = run("ls -l /proc/$$/fd")
        assert finished(one) is None
    assert not any("a secret" in line for line in one.said)


def test_what_is_ignored_here_is_not_ignored_there() -> None:
    """Python ignores SIGPIPE, which would have a program go on for ever."""
    one = run("grep SigIgn /proc/$$/status")
    finished(one)
    (line,) = one.said
    assert not int(line.split()[1], 16) >> (signal.SIGPIPE - 1) & 1


def test_when_its_time_is_up_it_is_killed_with_what_it_has_started() -> None:
    one = run("trap '' TERM; sleep 60 & echo $!; wait; sleep 60", limit=1)
    begin = time.monotonic()
    assert finished(one) == "it took longer than 1 s, and was killed"
    assert time.monotonic() - begin < 2
    wait_until(lambda: not is_there(int(one.said[0])))


def test_what_it_leaves_behind_ends_with_it_and_keeps_nobody_waiting() -> None:
    one = run("sleep 60 & echo $!")
    begin = time.monotonic()
    assert finished(one) is None
    assert time.monotonic() - begin < 1
    wait_until(lambda: not is_there(int(one.said[0])))


def test_of_one_that_never_stops_talking_only_the_beginning_is_kept() -> None:
    one = run("exec yes", limit=1)
    assert finished(one) == "it took longer than 1 s, and was killed"
    assert sum(map(len, one.said)) <= 4096
    assert set(one.said) == {"y"}


def test_bytes_that_are_no_text_are_shown_as_what_they_are() -> None:
    one = run(r"printf 'a\377b\n'")
    finished(one)
    assert one.said == ["a\\xffb"]


def test_what_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    not_executable, no_program = tmp_path / "a", tmp_path / "b"
    not_executable.write_text("")
    no_program.write_text("nothing that the kernel knows")
    no_program.chmod(0o755)
    for argv in ((str(tmp_path / "gone"),), (str(not_executable),), (str(no_program),), (str(tmp_path),)):
        with pytest.raises(OSError):
            Running(Event(argv, 1, PATH))
    with pytest.raises(ValueError, match="null byte"):
        Running(Event(("/bin/true", "a\0b"), 1, PATH))


def test_it_does_not_outlive_who_has_started_it() -> None:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        one = run("echo $$; exec sleep 60")
        while not one.said:
            one.listen()
        os.write(writer, one.said[0].encode())
        os.kill(os.getpid(), 9)
    hook = int(os.read(reader, 20))
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    wait_until(lambda: not is_there(hook))
