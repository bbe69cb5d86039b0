"""Locks: one gatekeeper on a state directory, and one change at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gatekeeper.errors import StoreError
from gatekeeper.store.lock import ChangeLock, RunLock, runner


def test_a_second_run_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    first = RunLock.of_state(tmp_path)
    with pytest.raises(StoreError, match=rf"another gatekeeper uses .* \(process {os.getpid()}\)"):
        RunLock.of_state(tmp_path)
    assert runner(tmp_path) == os.getpid()
    first.close()
    assert runner(tmp_path) is None
    RunLock.of_state(tmp_path).close()


def test_a_lock_ends_with_its_process_however_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from gatekeeper.store.lock import RunLock;"
        "lock = RunLock.of_state(pathlib.Path(sys.argv[1])); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert runner(tmp_path) == process.pid
        process.kill()
    assert runner(tmp_path) is None


def test_a_lock_leaves_no_file_behind_and_one_that_is_gone_is_not_a_lock(tmp_path: Path) -> None:
    first = RunLock.of_state(tmp_path)
    (tmp_path / "run.lock").unlink()  # as if its holder were just letting go
    second = RunLock.of_state(tmp_path)
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_no_directory_means_nobody_runs(tmp_path: Path) -> None:
    assert runner(tmp_path / "nowhere") is None


def test_a_lock_that_is_never_let_go_is_an_error_in_the_end(tmp_path: Path) -> None:
    holder, waiter = ChangeLock(tmp_path), ChangeLock(tmp_path, patience=0.05)
    with holder(), pytest.raises(StoreError, match="locked by another process"), waiter():
        pass
    with waiter():
        pass
    holder.close()
    waiter.close()


def test_changes_wait_for_each_other(tmp_path: Path) -> None:
    """Two holders of two handles (as two processes have) never overlap."""
    inside = 0
    overlaps = 0

    def change() -> None:
        nonlocal inside, overlaps
        lock = ChangeLock(tmp_path)
        for _ in range(50):
            with lock():
                inside += 1
                overlaps += inside > 1
                inside -= 1
        lock.close()

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == 0
