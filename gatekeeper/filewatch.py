"""Whether files are what they were when they were read: told by inode, time and size, so that a rename counts too.

For whoever looks around every other second anyway: inotify would need a descriptor for each folder, and lose editors
that write a new file and rename it, or links that are pointed elsewhere, unless it were told of each.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from gatekeeper import included

_EVERY = 1.0
"""Seconds between two looks, at the least."""

Identity = tuple[int, ...] | tuple[str, ...] | None
"""``None``: there is no such file, or we may not look. Of a folder: which files in it the rules include."""


class FileWatch:
    """What was read, and whether it is still there."""

    def __init__(self) -> None:
        self._read: dict[Path, Identity] = {}
        self._last: dict[Path, Identity] = {}
        self._looked = 0.0

    def begin(self) -> None:
        """Forget all files: they are about to be read, and noted, again."""
        self._read = {}

    def note(self, path: Path) -> None:
        """Note a file just before it is read: what happens to it from now on is a change."""
        self._read[path] = self._last[path] = _identity(path)

    def has_changed(self) -> bool:
        """Whether a file is another than what was read, and the same as at the last look: nobody is writing it."""
        now = time.monotonic()
        if now - self._looked < _EVERY:
            return False
        self._looked = now
        found = {path: _identity(path) for path in self._read}
        is_stable, self._last = found == self._last, found
        return is_stable and found != self._read


def _identity(path: Path) -> Identity:
    try:
        found = os.stat(path)  # noqa: PTH116  (of what a link leads to)
        if stat.S_ISDIR(found.st_mode):  # not its time: editors keep files of their own beside those that they edit
            return tuple(file.name for file in included.files(path))
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
