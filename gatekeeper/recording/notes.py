"""What is recorded of a packet that was refused: its headers, and why. Pure.

No payload, but for a sealed knock's: what somebody has typed for the wrong port, or with one letter wrong, can be a
key, and what strangers send to a service is nobody's business. A sealed knock tells nobody anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from gatekeeper.escaping import quote
from gatekeeper.model import Decision, Reason
from gatekeeper.packet import triage
from gatekeeper.protocols import KnockFormat

_UNREADABLE_WITHOUT_KEYS = frozenset({"sealed"})
"""The formats whose payload may be kept."""
_HEADERS = {4: 20, 6: 40}
_HEAD = Struct("!dIH")


class Note(NamedTuple):
    """What is recorded."""

    time: float
    """Unix seconds."""
    length: int
    """Bytes that the packet had."""
    comment: str
    data: bytes
    """The first of them."""


def note_of(decision: Decision, raw: bytes, formats: Sequence[KnockFormat], *, now: float) -> Note:
    """Note a packet that was refused."""
    words: list[str] = [decision.reason]
    if decision.client is not None:
        words.append(f"client={quote(decision.client)}")
    if decision.note is not None:
        words.append(f"note={quote(decision.note)}")
    return Note(now, len(raw), " ".join(words), kept(raw, formats, now=now))


def kept(raw: bytes, formats: Sequence[KnockFormat], *, now: float) -> bytes:
    """Return the part of a packet that may be recorded."""
    header = triage(raw)
    if isinstance(header, Reason):  # where its payload begins is not known
        return raw[: _HEADERS.get(raw[0] >> 4, 0)] if raw else raw
    payload = raw[header.start : header.end]
    for form in formats:
        if form.name in _UNREADABLE_WITHOUT_KEYS and form.glance(payload, now=now) is not False:
            return raw[: header.end]
    return raw[: header.start]


def encode(note: Note) -> bytes:
    """Write a note, as worker and recorder send it."""
    comment = note.comment.encode(errors="replace")
    return _HEAD.pack(note.time, note.length, len(comment)) + comment + note.data


def decode(message: bytes) -> Note:
    """Read a note.

    Raises:
        ValueError: it is none.
    """
    if len(message) < _HEAD.size:
        raise ValueError("too short")
    time, length, size = _HEAD.unpack_from(message)
    if not 0 <= time < 2**44:
        raise ValueError("not a time")
    comment, data = message[_HEAD.size :][:size], message[_HEAD.size + size :]
    return Note(time, max(length, len(data)), comment.decode(errors="replace"), data)
