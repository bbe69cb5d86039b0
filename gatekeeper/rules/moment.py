"""Dates as people write them: ``2027-01-31`` (to its end, in UTC), ``2027-01-31T18:00Z``. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SECONDS_OF_A_DAY = 86_400
_LATEST = 253_370_678_400.0
"""The last day of the year 9998 begins: what is later cannot be shown in every time zone, and is not meant."""
HINT = "write 2027-01-31 (to the end of that day, UTC), or 2027-01-31T18:00Z"


def parse(text: str) -> float:
    """Return the end of what a date names, in Unix seconds. Raises ``ValueError`` with a message for the user."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a date') from None
    if _DAY.fullmatch(text):
        return min(moment.replace(tzinfo=UTC).timestamp() + _SECONDS_OF_A_DAY, _LATEST)
    if moment.tzinfo is None:
        raise ValueError(f'"{text}" does not say in which time zone')
    return min(moment.timestamp(), _LATEST)
