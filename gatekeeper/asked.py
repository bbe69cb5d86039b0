"""Who has asked ``run`` for a reload, for the audit trail: a signal does not tell.

A small file in the state directory, which ``gatekeeper reload`` writes before it sends SIGHUP and ``run`` takes away.
Nothing rests on it but a word in the trail: where it cannot be written or read, nobody is named.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from gatekeeper import inforce
from gatekeeper.escaping import escape

_FILE = "asked.json"
_FRESH = 60.0
"""Seconds for which it is believed."""
_LONGEST = 32
_MOST = 4096
"""Bytes that are read: the folder is the service's user's, and a supervisor has no time for more."""


def note(folder: Path, who: str) -> None:
    """Say who is about to ask."""
    with contextlib.suppress(OSError):
        inforce.write_object(folder / _FILE, {"who": who, "at": time.monotonic()})


def take(folder: Path) -> str | None:
    """Return who has asked, and forget it; ``None`` where nobody has said so."""
    path = folder / _FILE
    with contextlib.suppress(OSError, *inforce.NONSENSE):
        said = inforce.read_object(path, most=_MOST)
        path.unlink()
        who = said["who"]
        if isinstance(who, str) and 0 <= time.monotonic() - said["at"] <= _FRESH:
            return escape(who)[:_LONGEST] or None
    return None
