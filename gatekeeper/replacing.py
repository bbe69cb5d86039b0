"""Puts a new content into a file that others read, and may edit: whole or not at all, and over no change of theirs.

The file keeps its mode, its owner, and what else hangs on it (access lists, SELinux's label). A link stays a link.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from gatekeeper.errors import EditError

_AS_ROOT = "run it as root, or with sudo"
_PATIENCE = 10.0
"""Seconds to wait for another command."""
_GLANCE = 0.02


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other gatekeeper commands from editing files of a file's folder meanwhile; editors do not ask.

    Raises:
        EditError: the folder cannot be opened, or somebody else has it locked for too long.
    """
    folder = _folder_of(path)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        hint = _AS_ROOT if isinstance(error, PermissionError) else None
        raise EditError(f"cannot open {folder}: {error.strerror}", hint) from error
    try:
        _lock(fd, folder)
        yield
    finally:
        os.close(fd)


def _folder_of(path: Path) -> Path:
    try:
        return path.resolve().parent
    except (OSError, RuntimeError) as error:  # RuntimeError: its links go in a circle
        raise EditError(f"cannot find {path}: its links go in a circle") from error


def _lock(fd: int, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                hint = "another gatekeeper command hangs: `fuser` on that folder tells which"
                raise EditError(f"{folder} is locked by another process", hint) from None
            time.sleep(_GLANCE)
        else:
            return


def replace(path: Path, before: bytes | None, after: bytes, *, like: Path) -> None:
    """Write a file that said ``before`` when it was read; ``None``: it is new, and gets mode and owner of ``like``.

    Raises:
        EditError: it cannot be written, or says something else by now. Nothing was changed then.
    """
    target = _behind_links(path)
    _sweep(target)
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.new")  # hidden: `include` passes it over
    try:
        try:
            _write(temporary, after, target if before is not None else like)
            if before is None:
                os.link(temporary, target)  # unlike a rename, it fails where something is
            else:
                _require_same(path, target, before)
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(target.parent)
    except FileExistsError:
        raise EditError(f"{path} was made by somebody else meanwhile; nothing was changed", "try again") from None
    except OSError as error:
        hint = _AS_ROOT if isinstance(error, PermissionError) else None
        raise EditError(f"cannot write {path}: {error.strerror}; nothing was changed", hint) from error


def _behind_links(path: Path) -> Path:
    """Return what a path leads to; where links go in a circle, one of them: to use that is an ``OSError``."""
    return Path(os.path.realpath(path))


def _sweep(target: Path) -> None:
    """Remove what a command that was killed has left behind: it may hold keys."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 12}.new"):
        with contextlib.suppress(OSError):
            path.unlink()


def _require_same(path: Path, target: Path, before: bytes) -> None:
    if _behind_links(path) != target or target.read_bytes() != before:
        raise EditError(f"{path} was changed by somebody else meanwhile; nothing was changed", "try again")


def _write(path: Path, content: bytes, like: Path) -> None:
    its = like.stat()
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        mine = os.fstat(fd)
        if (mine.st_uid, mine.st_gid) != (its.st_uid, its.st_gid):
            os.fchown(fd, its.st_uid, its.st_gid)
        os.fchmod(fd, stat.S_IMODE(its.st_mode))
        for name in os.listxattr(like):
            with contextlib.suppress(OSError):  # some are the kernel's own
                os.setxattr(fd, name, os.getxattr(like, name))
        file.write(content)
        file.flush()
        os.fsync(fd)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
