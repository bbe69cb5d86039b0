"""Whom workers have refused most of late: the keeper's summary, and a small file of it in the state directory, 0600.

The file is for who asks (``status``). ``run`` never reads it, and nothing rests on it: it is written without waiting
for the disk, at most every other second, and where it cannot be, nothing is lost but what can be seen. Its readers
trust no more in it than in its format, for the folder is the service's user's.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, NamedTuple

from gatekeeper.heavy import PLACES, Heavy
from gatekeeper.model import Sender
from gatekeeper.networks import show_source
from gatekeeper.processes.messages import is_sender
from gatekeeper.store.owner import open_or_make

FILE = "refused.json"
GENERATION = 300.0
"""Seconds after which counting begins anew; what was counted in the time before is still shown."""
_EVERY = 2.0
_LONGEST_FILE = 64 * 1024
_MOST = 2**63 - 1
_NONSENSE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class Refused(NamedTuple):
    """A source that was refused, why, and how often at the least."""

    source: str
    reason: str
    packets: int


class Lately:
    """Whom workers refused in this time span and the one before."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._before: dict[Sender, int] = {}
        self._now: Heavy[Sender] = Heavy()
        self._begun = self._written = -GENERATION
        self._is_written = False

    def note(self, counts: Mapping[Sender, int]) -> None:
        """Add what a worker counted."""
        self._now.merge(counts)
        self._is_written = False

    def keep(self, *, now: float) -> None:
        """Write it down, if that is due; ``now`` by a clock that nobody sets."""
        if now >= self._begun + GENERATION:
            self._before = self._now.take() if now < self._begun + 2 * GENERATION else {}
            self._begun, self._is_written = now, False
        if self._is_written or now < self._written + _EVERY:
            return
        self._written, self._is_written = now, True
        with contextlib.suppress(OSError):  # a full disk has a line in the log already, of what matters there
            self._write(now)

    def _write(self, now: float) -> None:
        sums: Heavy[Sender] = Heavy()
        sums.merge(self._before)
        sums.merge(self._now.counts())
        rows = [[source.hex(), reason, min(number, _MOST)] for (source, reason), number in sums.counts().items()]
        temporary = self._path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with open(open_or_make(temporary), "w") as file:  # noqa: PTH123  (a descriptor)
            file.write(json.dumps({"now": now, "refused": rows}))
        temporary.replace(self._path)


def read(folder: Path, *, now: float) -> list[Refused]:
    """Read whom ``run`` refused most of late, the heaviest first; nothing where nobody has said so, or long ago."""
    try:
        found = _content(folder / FILE)
        if not 0 <= now - found["now"] < 2 * GENERATION:
            return []
        rows = [_row(*row) for row in found["refused"][:PLACES]]
    except _NONSENSE:
        return []
    return sorted(rows, key=lambda row: (-row.packets, row))


def _row(source: str, reason: str, packets: int) -> Refused:
    packed = bytes.fromhex(source)
    if not is_sender(packed, reason) or not 0 < packets <= _MOST:
        raise ValueError("nobody who was refused")
    network = IPv4Network(packed) if len(packed) == 4 else IPv6Network((packed + bytes(8), 64))
    return Refused(show_source(network), reason, int(packets))


def _content(path: Path) -> dict[str, Any]:
    """Read an object. Never what a link names, and a pipe must not keep us waiting."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123  (a descriptor)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("not a file")
        found = json.loads(file.read(_LONGEST_FILE))
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  (of the file's content, as any other)
    return found
