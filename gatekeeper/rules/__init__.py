"""rules.yaml -> ``Rules``: every problem at once, each at its line and column.

``parse`` is pure; ``load`` reads the files.
"""

from __future__ import annotations

import stat
from pathlib import Path

from gatekeeper.errors import Problem, RulesError
from gatekeeper.model import Rules
from gatekeeper.rules.document import Document
from gatekeeper.rules.schema import MAX_KEY, Reader, ReadKey

_READABLE_BY_OTHERS = stat.S_IROTH | stat.S_IWOTH


def parse(text: bytes, *, file: str, read_key: ReadKey) -> tuple[Rules, list[Problem]]:
    """Turn the text of a rules file into ``Rules`` and warnings.

    Raises:
        RulesError: the file cannot be used; it carries every problem.
    """
    document = Document(file)
    root = document.parse(text)
    if root is None and not document.failed:
        document.complain(None, "the file is empty", "start from the example rules/rules.yaml")
    if document.failed:
        raise document.error()
    rules = Reader(document, read_key).read(root)
    if document.failed:
        raise document.error()
    return rules, document.problems


def load(path: Path) -> tuple[Rules, list[Problem]]:
    """Read a rules file and the key files that it names; return ``Rules`` and warnings.

    Raises:
        RulesError: the file, or a key file, cannot be read or used.
    """
    try:
        text = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        hint = "name another with --rules FILE" if not path.exists() else None
        raise RulesError([Problem(str(path), 1, 1, f"cannot be read: {error.strerror}", hint)]) from error
    warnings: list[Problem] = []

    def read_key(name: str) -> bytes:
        key_path = path.parent / name
        content = key_path.read_bytes()[: MAX_KEY + 3]
        if key_path.stat().st_mode & _READABLE_BY_OTHERS:
            warnings.append(_too_open(str(key_path)))
        return content.removesuffix(b"\n").removesuffix(b"\r")

    rules, problems = parse(text, file=str(path), read_key=read_key)
    if mode & _READABLE_BY_OTHERS and rules.clients:
        warnings.insert(0, _too_open(str(path)))
    return rules, [*warnings, *problems]


def _too_open(path: str) -> Problem:
    hint = f"everyone on this machine can read the keys in it: chmod 600 {path}"
    return Problem(path, 1, 1, "other users can read or write this file", hint, is_warning=True)
