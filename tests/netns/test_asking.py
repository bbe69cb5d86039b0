"""Who may decide about a probation, in a folder that is the service's user's."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper.confirm import asking, ending, plan
from gatekeeper.confirm.asking import State
from gatekeeper.errors import StoreError
from gatekeeper.store import lock

NOBODY = 65534


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "_LOCKS", tmp_path)
    return tmp_path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        asking.bind(one, plan.socket_file())
        one.listen()
        one.settimeout(5)
        yield one


def as_nobody(act: Callable[[], bool]) -> bool:
    """Do something as another user, in another process; return what it found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads: the child does next to nothing
        pid = os.fork()
    if pid == 0:
        done = False
        with contextlib.suppress(BaseException):
            os.setresuid(NOBODY, NOBODY, NOBODY)
            done = act()
        os._exit(0 if done else 1)
    return os.waitpid(pid, 0)[1] == 0


def let_pass(folder: Path) -> None:
    for one in (folder, *folder.parents):
        if one.stat().st_mode & 0o011 != 0o011:
            one.chmod(one.stat().st_mode | 0o011)


def answer(listener: socket.socket, line: bytes) -> None:
    one, _ = listener.accept()
    with one:
        one.recv(64)
        one.sendall(line)


@pytest.mark.parametrize(
    "line", [b"[]\n", b"7\n", b"{}\n", b"x" * 9000, b'{"state": "confirmed", "text": "", "left": []}\n']
)
def test_what_is_no_answer_is_none(listener: socket.socket, line: bytes) -> None:
    """And no traceback."""
    thread = threading.Thread(target=answer, args=(listener, line))
    thread.start()
    assert asking.status() is None
    thread.join()


def test_an_answer_of_our_own_guard_is_believed(listener: socket.socket) -> None:
    line = json.dumps({"state": "waiting", "text": "so", "left": 7}).encode() + b"\n"
    thread = threading.Thread(target=answer, args=(listener, line))
    thread.start()
    assert asking.status() == asking.Word(State.WAITING, "so", 7)
    thread.join()


def test_root_believes_no_guard_of_another_user_and_takes_everything_out_all_the_same(folder: Path) -> None:
    """``confirm`` would say that the ruleset stays, when nobody guards it."""
    folder.chmod(0o777)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        path = plan.socket_file()

        def listen() -> bool:
            asking.bind(one, path)
            one.listen()
            return True

        let_pass(folder)
        assert as_nobody(listen)
        for act in (ending.confirm, lambda: next(ending.revert()), asking.status):
            with pytest.raises(StoreError, match="is not ours"):
                act()
        assert not ending.call_off()


def test_another_user_may_listen_to_roots_guard_and_decides_nothing(listener: socket.socket) -> None:
    path = str(plan.socket_file())
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with connected:
        connected.connect(path)
        theirs, _ = listener.accept()
        with theirs:
            assert asking.may_decide(theirs)
    let_pass(Path(path).parent)

    def connect() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.connect(path)
            return asking.may_decide(one)  # it is root's

    assert as_nobody(connect)
    theirs, _ = listener.accept()
    with theirs:
        assert not asking.may_decide(theirs)


def test_the_note_of_an_end_is_written_into_no_other_file(folder: Path) -> None:
    """Its place can be another name of somebody else's file."""
    other = folder / "other"
    other.write_text("kept")
    plan.last_file().hardlink_to(other)
    plan.forget("it ended")
    assert other.read_text() == "kept"
    assert plan.last() == "it ended"
