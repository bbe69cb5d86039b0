"""Durations as people write them: ``30s``, ``15m``, ``1h30m``, ``7d``, ``forever``. Pure."""

from __future__ import annotations

import re

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_WHOLE = re.compile(r"(?:\d{1,18}[wdhms])+", re.ASCII)
_PART = re.compile(r"(\d+)([wdhms])", re.ASCII)

FOREVER = "forever"
MAX = 10 * 365 * 86_400
"""The longest duration that is taken for meant: ten years, in seconds."""


def parse(text: str) -> int | None:
    """Seconds of a duration; ``None`` for ``forever``. Raises ``ValueError`` with a message for the user."""
    if text == FOREVER:
        return None
    if not _WHOLE.fullmatch(text):
        raise ValueError(f'"{text}" is not a duration')
    seconds = sum(int(count) * _SECONDS[unit] for count, unit in _PART.findall(text))
    if seconds == 0:
        raise ValueError(f'a duration of "{text}" means nothing: nobody would ever get in')
    if seconds > MAX:
        raise ValueError(f'"{text}" is longer than ten years')
    return seconds


def show(seconds: int | None) -> str:
    """Write a duration in the form that ``parse`` reads."""
    if seconds is None:
        return FOREVER
    parts = []
    for unit, size in _SECONDS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


HINT = "write 30s, 15m, 1h30m, 7d or forever"
