"""rules.yaml -> ``Rules``: every problem at once, each at its line and column.

``parse`` is pure; ``load`` reads the files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from gatekeeper import included, progress
from gatekeeper.escaping import escape
from gatekeeper.garbage import unsearched
from gatekeeper.problems import Problem, RulesError
from gatekeeper.rules import include, programs
from gatekeeper.rules.clients import MAX_KEY
from gatekeeper.rules.document import MAX_BYTES, Document, Place, Tell
from gatekeeper.rules.hooks import Look
from gatekeeper.rules.include import Folder, Included, ReadFolder
from gatekeeper.rules.schema import Reader
from gatekeeper.rules.sequences import MAX_FILE
from gatekeeper.rules.values import ReadKey
from gatekeeper.settings import Rules

_READABLE_BY_OTHERS = stat.S_IROTH | stat.S_IWOTH
_PARSING = 0.5
"""How much of the work it is to parse."""
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Read(NamedTuple):
    """What was read."""

    rules: Rules
    problems: list[Problem]
    """Warnings: what is legal, but unwise."""
    places: Mapping[str, Place]
    """Where each client stands."""
    files: tuple[Path, ...]
    """The rules file, and those that it includes; not those of keys."""
    folder: Path | None
    """That of the included files."""


class _Hands(NamedTuple):
    """What fetches what a rules file names."""

    read_key: ReadKey
    read_private: ReadKey
    read_folder: ReadFolder
    look: Look


def parse(  # noqa: PLR0913  (what a file means depends on all of these)
    text: bytes,
    *,
    file: str,
    read_key: ReadKey,
    look: Look = lambda _: None,
    read_folder: ReadFolder = include.no_folder,
    tell: Tell = lambda _: None,
    processors: int = 1,
) -> tuple[Rules, list[Problem]]:
    """Turn the text of a rules file into ``Rules`` and warnings.

    ``look`` looks at a program that it names. ``tell``: how much of that is done. ``processors``: how many the machine
    has.

    Raises:
        RulesError: the file cannot be used; it carries every problem.
    """
    rules, problems, _ = _parse(
        text, file, _Hands(read_key, read_key, read_folder, look), processors=processors, tell=tell
    )
    return rules, problems


def _parse(
    text: bytes, file: str, hands: _Hands, *, processors: int, tell: Tell = lambda _: None
) -> tuple[Rules, list[Problem], Mapping[str, Place]]:
    """Return the rules, warnings, and where each client stands. ``tell``: how much of that is done."""
    document = Document(file)
    root = document.parse(text, lambda done: tell(done * _PARSING))
    if root is None and not document.failed:
        document.complain(None, "the file is empty", "start from the example rules/rules.yaml")
    more = [] if document.failed else include.read(document, root, hands.read_folder, size=len(text))
    if document.failed:
        raise document.error()
    reader = Reader(document, hands.read_key, hands.read_private, hands.look, processors=processors)
    rules = reader.read(root, more, lambda done: tell(_PARSING + done * (1 - _PARSING)))
    if document.failed:
        raise document.error()
    return rules, document.problems, reader.places


def load(path: Path, *, note: Callable[[Path], None] = lambda _: None) -> tuple[Rules, list[Problem]]:
    """Read as ``read`` does; return ``Rules`` and warnings."""
    found = read(path, note=note)
    return found.rules, found.problems


def read(
    path: Path, *, note: Callable[[Path], None] = lambda _: None, instead: Mapping[Path, bytes] | None = None
) -> Read:
    """Read a rules file, those that it includes, and the key files that they name.

    ``note`` is told of each of these files (and of the folder), just before it is read. ``instead``: what some of them
    would say.

    Raises:
        RulesError: the file, or a key file, cannot be read or used.
    """
    others = instead or {}
    modes: dict[str, int] = {}

    def read_rules(file: Path) -> bytes:
        note(file)
        text, modes[str(file)] = (others[file], _mode(file)) if file in others else _read(file, MAX_BYTES)
        return text

    try:
        text = read_rules(path)
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

    folders: list[Path] = []

    def read_folder(name: str) -> Folder:
        folder = path.parent / name
        note(folder)
        folders.append(folder)
        files = {*included.files(folder), *(file for file in others if file.parent == folder)}
        return Folder(_each(sorted(files), name, read_rules), tuple(map(str, included.misnamed(folder))))

    # Those of the machine, whatever part of it this process may use: `run` and the doctor must come to the same number.
    processors = os.cpu_count() or 1
    with unsearched(), progress.shown(f"reading {path.name}") as tell:
        hands = _Hands(read_key, read_private, read_folder, programs.look)
        rules, problems, places = _parse(text, str(path), hands, processors=processors, tell=tell)
    secret = {places[one.name].file for one in rules.clients.values() if one.has_secrets}
    too_open = [_too_open(file) for file, mode in modes.items() if mode & _READABLE_BY_OTHERS and file in secret]
    files = tuple(map(Path, modes))
    return Read(rules, [*too_open, *warnings, *problems], places, files, folders[0] if folders else None)


def _each(files: list[Path], folder: str, read_rules: Callable[[Path], bytes]) -> Iterator[Included]:
    for file in files:
        try:
            text: bytes | OSError = read_rules(file)
        except OSError as error:
            text = error
        yield Included(str(file), folder, text)


def json_schema() -> str:
    """Return the JSON Schema of rules.yaml: what editors can complete and check."""
    return resources.files(__name__).joinpath("rules.schema.json").read_text(encoding="utf-8")


def _read(path: Path, limit: int) -> tuple[bytes, int]:
    """Read a regular file, and one byte more than ``limit`` at the most; return its mode too."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(limit + 1), mode


def _mode(path: Path) -> int:
    """Return the mode of a file that may not be there yet."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO would keep us for ever


def _too_open(path: str) -> Problem:
    shown = escape(path)
    hint = f"everyone on this machine can read the keys in it: chmod 600 {shown}"
    return Problem(shown, 1, 1, "other users can read or write this file", hint, is_warning=True)
