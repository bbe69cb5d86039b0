"""What systemd is told, over a real socket; and that nothing there can hold up the door."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.notify import Notifier


@contextlib.contextmanager
def listener(address: str | bytes) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(address)
        one.settimeout(2)
        yield one


@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
def test_systemd_is_told_as_sd_notify_has_it(tmp_path: Path, is_abstract: bool) -> None:
    name = f"gatekeeper-test-{os.getpid()}"
    path = str(tmp_path / "notify")
    with listener(f"\0{name}" if is_abstract else path) as heard:
        notifier = Notifier(f"@{name}" if is_abstract else path)
        assert notifier.is_heard
        notifier.ready("guards ssh\nREADY=0")
        notifier.beat()
        notifier.status("x" * 1000)
        notifier.stopping("the ruleset stays")
        assert heard.recv(9999) == b"READY=1\nSTATUS=guards ssh READY=0", "a status is one line"
        assert heard.recv(9999) == b"WATCHDOG=1"
        assert heard.recv(9999) == b"STATUS=" + b"x" * 200
        assert heard.recv(9999) == b"STOPPING=1\nSTATUS=the ruleset stays"
        notifier.close()
        notifier.beat()
        heard.setblocking(False)
        with pytest.raises(BlockingIOError):
            heard.recv(9999)


def test_what_systemd_put_into_the_environment_is_read_once_and_is_not_for_the_tools_that_are_run() -> None:
    environment = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "7", "X": "y"}
    notifier = Notifier.from_environment(environment, pid=7)
    assert (notifier.is_heard, notifier.interval) == (True, 5.0)
    assert environment == {"X": "y"}
    notifier.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "8"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "often"},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
    ],
)
def test_where_nobody_listens_or_waits_nothing_is_said(environment: dict[str, str]) -> None:
    notifier = Notifier.from_environment(environment, pid=7)
    assert (notifier.is_heard, notifier.interval) == (False, None)
    notifier.ready("ready")
    notifier.close()


def test_a_listener_that_is_gone_or_does_not_read_costs_no_more_than_a_second(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier(path)
    notifier.beat()
    with listener(path):
        begin = time.monotonic()
        notifier._socket.settimeout(0.001)
        for _ in range(50):  # more than the kernel keeps (net.unix.max_dgram_qlen is 10 on many machines, or 512)
            notifier.beat()
        assert time.monotonic() - begin < 1
    notifier.close()
