"""How full the table of tracked connections is. When it is full, the kernel drops what begins, also from the granted.

Knocks are not tracked, so they still come in, and running connections go on. Source: net/netfilter/nf_conntrack_core.c
(``nf_conntrack: table full, dropping packet``).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FOLDER = Path("/proc/sys/net/netfilter")
_NAMES = ("count", "max")


def tracked() -> tuple[int, int] | None:
    """Return how many connections are tracked here, and how many can be; ``None`` where that cannot be read."""
    try:
        count, most = (int((_FOLDER / f"nf_conntrack_{name}").read_text()) for name in _NAMES)
    except (OSError, ValueError):
        return None
    return count, most


class Pressure:
    """Tells once when the table is nearly full, and once when it is not any more."""

    def __init__(self) -> None:
        self._is_full = False
        self._files: list[int] = []

    def _tracked(self) -> tuple[int, int] | None:
        """Do as ``tracked``, by files that stay open: each second, opening them is most of the work."""
        try:
            while len(self._files) < len(_NAMES):
                path = _FOLDER / f"nf_conntrack_{_NAMES[len(self._files)]}"
                self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            count, most = (int(os.pread(fd, 32, 0)) for fd in self._files)
        except (OSError, ValueError):
            while self._files:  # next time anew
                with contextlib.suppress(OSError):
                    os.close(self._files.pop())
            return None
        return count, most

    def change(self) -> str | None:
        """Return what to say, if something changed."""
        found = self._tracked()
        if found is None:
            return None
        count, most = found
        if not self._is_full and count >= most * 0.95:
            self._is_full = True
            return (
                f"tracked connections: {count} of {most}: new ones, also of granted sources, are dropped by the kernel"
            )
        if self._is_full and count < most * 0.9:
            self._is_full = False
            return f"tracked connections: {count} of {most}: there is room again"
        return None
