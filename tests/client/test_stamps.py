"""The time that a knock bears: never the same twice for one key, whatever clocks, processes and disks do."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatekeeper.client import stamps
from gatekeeper.errors import ClientError

KEY = bytes(range(32))
SECOND = 10**9


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where stamps are kept in this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "gatekeeper" / "sent"


def set_clock(monkeypatch: pytest.MonkeyPatch, nanoseconds: int) -> None:
    monkeypatch.setattr("time.time_ns", lambda: nanoseconds)


def test_a_stamp_is_the_time_of_this_clock(folder: Path) -> None:
    before = time.time_ns()
    stamp, warning = stamps.take(KEY)
    assert before <= stamp <= time.time_ns()
    assert warning is None
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_stamps_of_one_key_only_grow_also_while_the_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    set_clock(monkeypatch, now)
    assert [stamps.take(KEY) for _ in range(100)] == [(now + n, None) for n in range(100)]
    assert stamps.take(bytes(32)) == (now, None)  # another key has its own


def test_a_clock_that_was_set_back_a_little_goes_on_from_the_last_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    set_clock(monkeypatch, now)
    assert stamps.take(KEY) == (now, None)
    for seconds in (1, 60, 119):
        set_clock(monkeypatch, now - seconds * SECOND)
        stamp, warning = stamps.take(KEY)
        assert now < stamp < now + 10
        assert warning is None
    set_clock(monkeypatch, now + SECOND)
    assert stamps.take(KEY) == (now + SECOND, None)


def test_a_clock_that_was_set_back_far_is_believed_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stamp further ahead than any server takes would be refused for certain."""
    right = time.time_ns()
    set_clock(monkeypatch, right + 3600 * SECOND)
    stamps.take(KEY)
    set_clock(monkeypatch, right)
    stamp, warning = stamps.take(KEY)
    assert stamp == right
    assert warning == "the last knock from here was sent 3600s ahead of what this machine's clock says now"
    set_clock(monkeypatch, right + 3600 * SECOND + 1)
    assert stamps.take(KEY) == (right + 3600 * SECOND + 1, None)


@pytest.mark.parametrize("seconds", [0, 86_400, 1_767_225_599])
def test_a_clock_that_was_never_set_is_an_error_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, folder: Path, seconds: int
) -> None:
    set_clock(monkeypatch, seconds * SECOND)
    with pytest.raises(ClientError, match=r"this machine's clock says (1970-01-0|2025-12-31)") as failure:
        stamps.take(KEY)
    assert failure.value.hint is not None
    assert "set it" in failure.value.hint
    assert not folder.exists()


def test_several_processes_at_once_never_take_the_same(folder: Path) -> None:
    """From a clock that was set back: then every stamp is the last one and one more, and all want the same."""
    ahead = time.time_ns() + 60 * SECOND
    folder.mkdir(parents=True)
    (folder / KEY[:8].hex()).write_text(str(ahead).zfill(20))
    code = (
        "from gatekeeper.client import stamps\n"
        "taken = [stamps.take(bytes(range(32))) for _ in range(1000)]\n"
        "print(*(stamp for stamp, warning in taken if warning is None))"
    )
    argv = [sys.executable, "-c", code]
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    taken = [int(word) for process in processes for word in process.communicate(timeout=30)[0].split()]
    assert sorted(taken) == [ahead + 1 + n for n in range(4000)]


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-5", b"\xff" * 20, b"12345", b"0" * 100, "٣".encode()])
def test_a_file_that_says_nothing_of_use_does_not_stand_in_the_way(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / KEY[:8].hex()).write_bytes(content)
    first, warning = stamps.take(KEY)
    assert warning is None
    assert stamps.take(KEY)[0] > first
    assert abs(first - time.time_ns()) < SECOND


@pytest.mark.parametrize("place", ["", "gatekeeper", "gatekeeper/sent"])
def test_without_a_folder_to_write_to_it_works_and_warns(tmp_path: Path, place: str) -> None:
    """Here a file is in its place, which stops root too."""
    blocked = tmp_path / "state" / place
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("")
    before = time.time_ns()
    stamp, warning = stamps.take(KEY)
    assert before <= stamp <= time.time_ns()
    assert warning is not None
    assert warning.startswith("the time of this knock cannot be kept: ")


def test_without_a_file_to_write_to_it_works_and_warns(folder: Path) -> None:
    (folder / KEY[:8].hex()).mkdir(parents=True)
    assert stamps.take(KEY)[1] == "the time of this knock cannot be kept: Is a directory"


def test_a_full_disk_does_not_stop_a_knock() -> None:
    """Here: a process that may write files of no length only."""
    code = (
        "from gatekeeper.client import stamps\n"
        "stamp, warning = stamps.take(bytes(32))\n"
        "print(stamp, warning)"
    )  # fmt: skip

    def with_no_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    before = time.time_ns()
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
        preexec_fn=with_no_bytes,
    )
    assert done.returncode == 0, done.stderr
    stamp, _, warning = done.stdout.strip().partition(" ")
    assert before < int(stamp) < time.time_ns()
    assert warning.startswith("the time of this knock cannot be kept: ")
