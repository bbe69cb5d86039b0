"""Locks in the state directory (flock: they end with their process, however it dies)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gatekeeper.errors import StoreError
from gatekeeper.store.owner import open_or_make

_LOCKS = Path("/run/gatekeeper")
_GLANCE = 0.5
"""Seconds for which a lock may be held by somebody who only looks whether it is."""


class ChangeLock:
    """Held while grants change in the store and then in the kernel.

    Without it, two processes could commit in one order and reach the kernel in the other, and leave
    open there what the store calls closed.
    """

    def __init__(self, directory: Path, *, patience: float = 5.0) -> None:
        self._fd = _open(directory / "change.lock")
        self._patience = patience

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            StoreError: somebody else has held it for ``patience`` seconds.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    hint = "another gatekeeper command hangs: `fuser` on change.lock in the state directory tells which"
                    raise StoreError("the grants are locked by another process", hint) from None
                time.sleep(0.005)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class RunLock:
    """Held by ``gatekeeper run`` for as long as it lives; the file has its process number."""

    def __init__(self, path: Path, words: str) -> None:
        """Take the lock; ``words`` say what is taken, should somebody else have it.

        Raises:
            StoreError: another gatekeeper has it, or the file cannot be written.
        """
        self._path = path
        deadline = time.monotonic() + _GLANCE
        while True:
            self._fd = _open(path)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
                os.close(self._fd)
                if time.monotonic() > deadline:
                    raise StoreError(f"{words} (process {pid})", "stop it first; one can guard many services") from None
                time.sleep(0.01)  # `gatekeeper status` may just be looking
                continue
            if self._is_current():
                break
            os.close(self._fd)  # its holder took the file away while we waited
        with contextlib.suppress(OSError):  # a full disk: the number is for people, the lock is what counts
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False

    @classmethod
    def of_state(cls, directory: Path) -> RunLock:
        """Lock a state directory."""
        return cls(directory / "run.lock", f"another gatekeeper uses {directory}")

    @classmethod
    def of_namespace(cls) -> RunLock:
        """Lock this network namespace: chains and sets have the same names for all, so there can be one.

        In a folder of root's, or of the service's user: what any user could hold, any user could keep the door from
        closing with.
        """
        return cls(of_this_namespace("lock"), "another gatekeeper guards this machine or network namespace")

    def close(self) -> None:
        """Let go of the lock, and take the file away, where that is still ours to do."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._fd)


def of_this_namespace(ending: str) -> Path:
    """Name a file that stands for this network namespace, in a folder of root's."""
    number = Path("/proc/self/ns/net").stat().st_ino
    return _LOCKS / f"netns-{number}.{ending}"


def runner(directory: Path) -> int | None:
    """Return the process number of the ``gatekeeper run`` on a state directory; ``None`` if none is up."""
    return holder(directory / "run.lock")


def holder(path: Path) -> int | None:
    """Return the process number in a run's lock; 0 if it cannot be read, ``None`` if nobody holds the lock.

    Raises:
        StoreError: we may not look.
    """
    try:
        # The folder can be the service's user's: a link there is none of ours, and a pipe must not keep us waiting.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path.parent}: {error.strerror}", "run it as root, or with sudo") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 20, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)
    return None


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_or_make(path)
    except OSError as error:
        hint = "run it as root or with sudo, or name another directory with --state-dir DIR"
        raise StoreError(f"cannot write {path}: {error.strerror}", hint) from error
