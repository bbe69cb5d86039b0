"""The files that a rules file includes: found, bounded, and parsed. Pure but for ``read_folder``, which it is handed.

They have services and clients only: what holds for the whole machine stands in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import yaml

from gatekeeper.rules.document import MAX_BYTES, Document, is_empty

MAX_FILES = 1_000
SECTIONS = ("services", "clients")
FIELD = "include"
_AS_ROOT = "run it as root or with sudo; if this is the service"


class Included(NamedTuple):
    """A file of the folder."""

    file: str
    folder: str
    """Where its relative paths count from, seen from the folder of rules.yaml."""
    text: bytes | OSError


class Folder(NamedTuple):
    """What is in the folder."""

    files: Iterable[Included]
    """Each is read when it is asked for."""
    misnamed: tuple[str, ...] = ()
    """Those that their author may think are read."""


ReadFolder = Callable[[str], Folder]
"""Looks into the folder that the rules name. Raises ``OSError``."""


def no_folder(name: str) -> Folder:
    """Stand for ``ReadFolder`` where there are no files."""
    raise FileNotFoundError(2, "there are no files here", name)


def read(document: Document, root: yaml.Node | None, read_folder: ReadFolder, *, size: int = 0) -> list[yaml.Node]:
    """Parse what ``include`` names; complain where that cannot be. ``size``: bytes of the file itself.

    If it complained, the rest of the rules is not worth a look: what is not there would be missed everywhere.
    """
    named = root.value if isinstance(root, yaml.MappingNode) else ()
    where = next((value for key, value in named if isinstance(key, yaml.ScalarNode) and key.value == FIELD), None)
    name = None if where is None else document.text(where, FIELD)
    if where is None or name is None:
        return []
    roots: list[yaml.Node] = []
    count = 0
    try:
        folder = read_folder(name)
        for file in folder.files:
            count += 1
            if count > MAX_FILES:
                document.complain(
                    where, f"there are more than {MAX_FILES} files in {name}", "put some of them together"
                )
                break
            size += _one(document, file, roots)
            if size > MAX_BYTES:
                words = f"the files in {name} are larger than {MAX_BYTES // 1024 // 1024} MiB together"
                document.complain(where, words)
                break
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it has a character that no name has"
        hint = "make the folder, or take the line out: it is not passed over, for that would shut its clients out"
        if isinstance(error, PermissionError):
            hint = f"{_AS_ROOT}: chgrp gatekeeper {name} && chmod 750 {name}"
        document.complain(where, f"cannot include {name}: {reason}", hint)
        return roots
    for one in folder.misnamed:
        document.warn(where, f"{one} is not read", "call it *.yaml, or move it out of there")
    if count == 0:
        document.warn(where, f"there is no file *.yaml in {name}", "right if there is nothing to include yet")
    return roots


def _one(document: Document, file: Included, roots: list[yaml.Node]) -> int:
    """Parse a file; return its size."""
    if isinstance(file.text, OSError):
        may_not = isinstance(file.text, PermissionError)
        hint = f"{_AS_ROOT}: chgrp gatekeeper {file.file} && chmod 640 {file.file}" if may_not else None
        document.complain_of_file(file.file, f"cannot be read: {file.text.strerror}", hint)
        return 0
    root = document.include(file.file, file.folder, file.text)
    if root is not None and not is_empty(root):
        roots.append(root)
    return len(file.text)
