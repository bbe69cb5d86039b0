"""Who holds a lock is found by the lock, and nobody else is ever signalled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper import stopping

HOLDER = """
import os, pathlib, signal, sys, time
from gatekeeper.store.lock import RunLock
lock = RunLock.of_state(pathlib.Path(sys.argv[1]))
if "deaf" in sys.argv or "child" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "child" in sys.argv:
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
print("up", flush=True)
time.sleep(20)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


@pytest.fixture
def onlooker(lock: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who has the file open, as ``gatekeeper status`` has."""
    code = "import sys, time; file = open(sys.argv[1], 'a'); print('up', flush=True); time.sleep(20)"
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("how", [(), ("deaf",), ("child",)])
@pytest.mark.usefixtures("onlooker")
def test_whoever_holds_the_lock_is_stopped(lock: Path, how: tuple[str, ...]) -> None:
    """Also if it does not listen, or has forked; and who only looks at the file is left alone."""
    argv = [sys.executable, "-c", HOLDER, str(lock.parent), *how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert process.pid in stopping.holders(lock)
        assert len(stopping.holders(lock)) == 1 + ("child" in how)
        said = stopping.stop(lock, patience=0.2)
        assert said == f"SIGTERM to process {process.pid}" + (", and then SIGKILL" if how else "")
    assert stopping.holders(lock) == []


def test_a_number_in_a_lock_that_nobody_holds_is_nobody(lock: Path) -> None:
    lock.write_text(f"{os.getppid()}\n")
    assert stopping.holders(lock) == []
    assert stopping.wait_until_free(lock, patience=0)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/gatekeeper.service\n", "gatekeeper.service"),
        ("1:name=systemd:/system.slice/gk.service\n4:memory:/system.slice/other.service\n", "gk.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_unit_of_a_process_is_read_in_its_cgroup(text: str, unit: str | None) -> None:
    assert stopping.unit_in(text) == unit
