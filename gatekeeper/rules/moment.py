"""Dates as people write them: ``2027-01-31`` (to its end, in UTC), ``2027-01-31T18:00Z``. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SECONDS_OF_A_DAY = 86_400
HINT = "write 2027-01-31 (to the end of that day, UTC), or 2027-01-31T18:00Z"


def parse(text: str) -> float:
    """Return the end of what a date names, in Unix seconds. Raises ``ValueError`` with a message for the user."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a date') from None
    if _DAY.fullmatch(text):
        return moment.replace(tzinfo=UTC).timestamp() + _SECONDS_OF_A_DAY  # the calendar's last day has no day after it
    if moment.tzinfo is None:
        raise ValueError(f'"{text}" does not say in which time zone')
    return moment.timestamp()
