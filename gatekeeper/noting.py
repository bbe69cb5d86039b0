"""Notes in the audit trail what is no change of a grant and not the keeper's to note, such as ``gatekeeper flush``."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from gatekeeper import differences, hand, inforce
from gatekeeper.errors import GatekeeperError
from gatekeeper.model import TrailEntry
from gatekeeper.settings import TrailSettings
from gatekeeper.store.sqlite import FILE, SqliteStore
from gatekeeper.store.trail import Trail

_UNTRIMMED = TrailSettings(keep=None, size=1 << 40)
"""How much is kept is for ``run`` to say, by the rules."""


def by_hand(what: str | None = None) -> str:
    """Say by whose hand something is done."""
    return f"by {hand.whose()}" + (f": {what}" if what else "")


def note(state_dir: Path, reason: str, words: str) -> str | None:
    """Add an entry; return why that could not be done.

    Whoever calls this needs no rules that can be read: whether there is a trail is what ``run`` last went by.
    """
    now = time.time()
    trail = Trail(_UNTRIMMED)
    try:
        if not (state_dir / FILE).exists() or not _has_trail(state_dir):
            return None
        with contextlib.closing(SqliteStore(state_dir, create=False, is_checked=False, trail_of=trail)) as store:
            store.add_counts({}, [TrailEntry(now, reason, note=words)], now=now)
    except GatekeeperError as error:
        return f"it is not in the audit trail: {error.message}"
    except OSError as error:
        return f"it is not in the audit trail: {state_dir} cannot be read: {error.strerror}"
    return None


def _has_trail(state_dir: Path) -> bool:
    found = inforce.read(state_dir)
    return found is None or found.said.get(differences.THE_FILE, {}).get("trail") != "none"
