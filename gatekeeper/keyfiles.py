"""Private keys in files: one line, as ``wg genkey`` writes it, mode 0600. Light to import: clients need it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from gatekeeper.errors import KeyFileError
from gatekeeper.sealed import keys
from gatekeeper.store.owner import give_to_owner

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LONGEST = 4096
SERVER_KEY = "server.key"


def read(path: str) -> bytes:
    """Read a private key.

    Raises:
        KeyFileError: it cannot be read, others can read it too, or it is no key.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a FIFO would keep us for ever
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            text = file.read(_LONGEST)
    except OSError as error:
        hint = "`gatekeeper keygen FILE` makes one" if isinstance(error, FileNotFoundError) else None
        raise KeyFileError(f"cannot read the key {path}: {error.strerror}", hint) from error
    if os.name == "posix" and found.st_mode & _OTHERS:
        hint = f"it may be known to others: chmod 600 {path}, or better make a new one"
        raise KeyFileError(f"the key {path} can be read or written by other users", hint)
    try:
        return keys.parse(text.decode("ascii", "replace"))
    except ValueError as error:
        hint = "a private key is what `gatekeeper keygen` or `wg genkey` writes"
        raise KeyFileError(f"{path} is not a private key: {error}", hint) from error


def write(path: str, private: bytes, *, for_folders_owner: bool = False) -> None:
    """Write a private key to a new file, 0600, whole or not at all.

    ``for_folders_owner``: whoever the folder belongs to must be able to read it, also if root writes it.

    Raises:
        KeyFileError: the file exists (it is never overwritten), or cannot be written.
    """
    temporary = f"{path}.{os.urandom(8).hex()}.new"
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(keys.show(private).encode() + b"\n")
                if for_folders_owner:
                    give_to_owner(fd, os.path.dirname(path))
                file.flush()
                os.fsync(fd)
            _place(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_folder(os.path.dirname(path) or ".")
    except FileExistsError:
        hint = "name another file, or move that one away: whoever is known by it would have to be told"
        raise KeyFileError(f"{path} exists, and is not overwritten", hint) from None
    except OSError as error:
        raise KeyFileError(f"cannot write the key {path}: {error.strerror}") from error


def _place(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, it fails where something is
    except FileExistsError:
        raise
    except (OSError, AttributeError):  # a file system without links (FAT)
        if os.path.lexists(path):
            raise FileExistsError from None
        os.rename(temporary, path)


def read_or_make(path: str, *, for_folders_owner: bool = False) -> tuple[bytes, bool]:
    """Read a private key, or make one where there is none (as ``write``); return it, and whether it was made."""
    if os.path.lexists(path):
        return read(path), False
    private = keys.generate()
    write(path, private, for_folders_owner=for_folders_owner)
    return private, True


def _sync_folder(folder: str) -> None:
    with contextlib.suppress(OSError):  # not every system can
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
