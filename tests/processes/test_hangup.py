"""SIGHUP asks for a reload; where the terminal is gone it ends us, as it ends any program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

PROGRAM = """
import time
from gatekeeper.processes.hangup import Hangup
one = Hangup()
print("up", flush=True)
for _ in range(500):
    one.look()
    if one.take():
        print("asked", flush=True)
    time.sleep(0.01)
"""


def start(terminal: int | None = None) -> subprocess.Popen[str]:
    """Start it, with a terminal of its own, or with none."""
    command = ["setsid", *(["--ctty"] if terminal is not None else []), sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, stdin=terminal or subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_without_a_terminal_it_is_a_question() -> None:
    with start() as process:
        assert line(process) == "up"
        process.send_signal(signal.SIGHUP)
        assert line(process) == "asked"
        process.kill()


def test_with_a_terminal_it_is_a_question_and_the_end_when_that_is_closed() -> None:
    master, slave = os.openpty()
    with start(slave) as process:
        os.close(slave)
        assert line(process) == "up"
        process.send_signal(signal.SIGHUP)
        assert line(process) == "asked"
        os.close(master)
        assert process.wait(5) == -signal.SIGHUP


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    master, slave = os.openpty()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited
    try:
        process = start(slave)
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        os.close(slave)
        assert line(process) == "up"
        os.close(master)
        assert line(process) == "asked"
        process.kill()


def test_a_terminal_that_went_unnoticed_before_is_no_reason_to_end() -> None:
    """As that of a job in the background, which the kernel does not signal."""
    master, slave = os.openpty()
    job = f"import subprocess, sys; print(subprocess.Popen({[sys.executable, '-c', PROGRAM]!r}, process_group=0).pid)"
    argv = ["setsid", "--ctty", sys.executable, "-u", "-c", job + "; sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=slave, stdout=subprocess.PIPE, text=True) as leader:
        os.close(slave)
        pid = int(next(word for word in (line(leader), line(leader)) if word != "up"))
        os.close(master)
        leader.wait(5)
        time.sleep(0.1)  # it has looked
        os.kill(pid, signal.SIGHUP)
        assert line(leader) == "asked"
        os.kill(pid, signal.SIGKILL)
