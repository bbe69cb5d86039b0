"""The processes of a running gatekeeper: who is who, and how to end one as the kernel would."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from gatekeeper.demo.server import Gatekeeper
from tests.netns.site import wait_until


def children(running: Gatekeeper) -> dict[str, int]:
    """Return the process numbers of ``guardian``, ``keeper``, ``recorder``, ``hook-runner`` and (one) ``worker``."""
    return dict(_members(running))


def _members(running: Gatekeeper) -> Iterator[tuple[str, int]]:
    pid = running.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            yield Path(f"/proc/{child}/comm").read_text().strip().removeprefix("gk-"), int(child)


def workers(running: Gatekeeper) -> set[int]:
    """Return the process numbers of all workers."""
    return {pid for name, pid in _members(running) if name == "worker"}


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended may be listed for long, until its parent asks."""
    try:
        return _state(Path(f"/proc/{pid}")) != "Z"
    except FileNotFoundError:
        return False


def kill(running: Gatekeeper, name: str) -> int:
    """End one with kill -9; return its process number."""
    wait_until(lambda: name in children(running))
    pid = children(running)[name]
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return pid


def stop(pid: int) -> int:
    """Have a process stand still; return its number.

    On a busy machine one thread may go on for long after the signal was sent: until another has taken it.
    """
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(_state(thread) in "TZ" for thread in Path(f"/proc/{pid}/task").iterdir()))
    return pid


def _state(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def is_whole(running: Gatekeeper) -> bool:
    """Whether nobody is missing."""
    return set(children(running)) == {"guardian", "keeper", "worker"}
