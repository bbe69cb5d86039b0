"""The files of a recording: FILE, and FILE.1 with what came before it. Together they are never larger than a limit.

A packet is written at once, in one piece, behind what is there; so whoever is killed leaves a file that can be read.
Each start begins a new file: behind what another process has left, nobody writes.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from gatekeeper.errors import CaptureError
from gatekeeper.recording.pcapng import HEADER, MAGIC


@dataclass(frozen=True, slots=True)
class Recording:
    """Where packets that are refused are recorded, and how many bytes of them at most."""

    path: Path
    limit: int

    @property
    def before(self) -> Path:
        """The file with what came before."""
        return self.path.with_name(self.path.name + ".1")


class Ring:
    """It is open while a process has it; only one may."""

    def __init__(self, recording: Recording) -> None:
        """Begin a new file.

        Raises:
            CaptureError: it cannot be made.
        """
        self._its = recording
        check(recording)
        try:
            self._fd, self._size = self._begin(), len(HEADER)
        except OSError as error:
            raise _error(recording.path, error) from error

    def write(self, block: bytes) -> None:
        """Write a packet.

        Raises:
            OSError: the disk is full, or the like; what is there can still be read.
        """
        if self._size + len(block) > self._its.limit // 2 and self._size > len(HEADER):
            fd = self._begin()
            os.close(self._fd)
            self._fd, self._size = fd, len(HEADER)
        written = os.write(self._fd, block)
        if written < len(block):
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def close(self) -> None:
        """End it."""
        os.close(self._fd)

    def _begin(self) -> int:
        """Put what is there aside, unless it is empty, and make a new file."""
        path = self._its.path
        if path.exists() and path.stat().st_size > len(HEADER):
            path.replace(self._its.before)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        path.unlink(missing_ok=True)
        fd = os.open(path, flags, 0o600)
        os.write(fd, HEADER)
        return fd


def check(recording: Recording) -> None:
    """See that we may write there, and that nothing is there which is none of ours.

    Raises:
        CaptureError: it is not so.
    """
    for path in (recording.path, recording.before):
        try:
            _check(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _error(path, error) from error
    folder = recording.path.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CaptureError(f"cannot record to {recording.path}: {folder} is no folder that we may write to")


def _check(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        is_ours = stat.S_ISREG(os.fstat(fd).st_mode) and file.read(len(MAGIC)) in {MAGIC, b""}
    if not is_ours:
        raise CaptureError(f"{path} is there, and is no pcapng capture", "it is not overwritten: name another file")


def _error(path: Path, error: OSError) -> CaptureError:
    return CaptureError(f"cannot record to {path}: {error.strerror}")
