"""rules.yaml -> ``Rules``: every problem at once, each at its line and column.

``parse`` is pure; ``load`` reads the files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from gatekeeper import progress
from gatekeeper.garbage import unsearched
from gatekeeper.problems import Problem, RulesError
from gatekeeper.rules import programs
from gatekeeper.rules.clients import MAX_KEY
from gatekeeper.rules.document import MAX_BYTES, Document, Tell
from gatekeeper.rules.hooks import Look
from gatekeeper.rules.schema import Reader
from gatekeeper.rules.sequences import MAX_FILE
from gatekeeper.rules.values import ReadKey
from gatekeeper.settings import Rules

_READABLE_BY_OTHERS = stat.S_IROTH | stat.S_IWOTH
_PARSING = 0.5
"""How much of the work it is to parse."""
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def parse(  # noqa: PLR0913  (what a file means depends on all of these)
    text: bytes,
    *,
    file: str,
    read_key: ReadKey,
    read_private: ReadKey | None = None,
    look: Look = lambda _: None,
    tell: Tell = lambda _: None,
    processors: int = 1,
) -> tuple[Rules, list[Problem]]:
    """Turn the text of a rules file into ``Rules`` and warnings.

    ``look`` looks at a program that it names. ``tell``: how much of that is done. ``processors``: how many the machine
    has.

    Raises:
        RulesError: the file cannot be used; it carries every problem.
    """
    document = Document(file)
    root = document.parse(text, lambda done: tell(done * _PARSING))
    if root is None and not document.failed:
        document.complain(None, "the file is empty", "start from the example rules/rules.yaml")
    if document.failed:
        raise document.error()
    reader = Reader(document, read_key, read_private or read_key, look, processors=processors)
    rules = reader.read(root, lambda done: tell(_PARSING + done * (1 - _PARSING)))
    if document.failed:
        raise document.error()
    return rules, document.problems


def load(path: Path, *, note: Callable[[Path], None] = lambda _: None) -> tuple[Rules, list[Problem]]:
    """Read a rules file and the key files that it names; return ``Rules`` and warnings.

    ``note`` is told of each of these files, just before it is read.

    Raises:
        RulesError: the file, or a key file, cannot be read or used.
    """
    note(path)
    try:
        text, mode = _read(path, MAX_BYTES)
    except OSError as error:
        hint = "name another with --rules FILE" if isinstance(error, FileNotFoundError) else None
        if isinstance(error, PermissionError):
            hint = f"run it as root or with sudo; if this is the service: chgrp gatekeeper {path} && chmod 640 {path}"
        raise RulesError([Problem(str(path), 1, 1, f"cannot be read: {error.strerror}", hint)]) from error
    warnings: list[Problem] = []

    def read_key(name: str) -> bytes:
        note(path.parent / name)
        content, key_mode = _read(path.parent / name, MAX_FILE)
        if key_mode & _READABLE_BY_OTHERS:
            warnings.append(_too_open(str(path.parent / name)))
        return content.removesuffix(b"\n").removesuffix(b"\r")

    def read_private(name: str) -> bytes:
        note(path.parent / name)
        content, key_mode = _read(path.parent / name, MAX_KEY)
        if key_mode & _FOR_OTHERS:
            raise ValueError("other users can read or write it (chmod 600, or better make a new one)")
        return content

    # Those of the machine, whatever part of it this process may use: `run` and the doctor must come to the same number.
    processors = os.cpu_count() or 1
    with unsearched(), progress.shown(f"reading {path.name}") as tell:
        keys = {"read_key": read_key, "read_private": read_private}
        rules, problems = parse(text, file=str(path), look=programs.look, tell=tell, processors=processors, **keys)
    if mode & _READABLE_BY_OTHERS and any(one.has_secrets for one in rules.clients.values()):
        warnings.insert(0, _too_open(str(path)))
    return rules, [*warnings, *problems]


def _read(path: Path, limit: int) -> tuple[bytes, int]:
    """Read a regular file, and one byte more than ``limit`` at the most; return its mode too."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(limit + 1), mode


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO would keep us for ever


def _too_open(path: str) -> Problem:
    hint = f"everyone on this machine can read the keys in it: chmod 600 {path}"
    return Problem(path, 1, 1, "other users can read or write this file", hint, is_warning=True)
