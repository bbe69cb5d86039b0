"""Hours as people write them, ``Mon-Fri 08:00-18:00 Europe/Berlin``, and whether a moment lies in them.

Pure, but that ``parse`` reads the machine's time zones. A moment lies in hours when a clock on the wall of their zone
shows a day and a time that do. Where clocks are put forward, what would begin or end in the hour that is left out does
so where it is; where they are put back, the hour that the clock shows twice is twice inside, or twice outside.
"""

from __future__ import annotations

import math
import re
import zoneinfo
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

HINT = "write Mon-Fri 08:00-18:00 Europe/Berlin"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_NUMBERS = {name.lower(): number for number, name in enumerate(_DAYS)}
_EVERY_DAY = frozenset(range(7))
_MINUTES_OF_A_DAY = 1_440
_SECONDS_OF_A_DAY = 86_400
_HORIZON = 16 * _SECONDS_OF_A_DAY
"""Hours that do not end within these seconds are taken never to end."""

_TIMES = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_ZONE = re.compile(r"(?i:(?!posix|right/|localtime$|factory$))[A-Za-z][\w+-]*(?:/[\w+-]+)*", re.ASCII)
"""Names of zones. Not what else may lie beside their files: copies, with leap seconds or without, the machine's own."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of some days of the week."""

    days: frozenset[int]
    """The days on which they begin, at least one; Monday is 0."""
    begin: int
    """Minutes from midnight, as the clocks there show it."""
    end: int
    """The same, at most 1440. It is no longer inside. If it is not after ``begin``, it is meant on the next day."""
    zone: tzinfo
    """``str`` gives its name."""


def parse(text: str) -> Hours:
    """Read hours. Raises ``ValueError`` with a message for the user."""
    words = text.split()
    if not words or words[-1][0].isdigit() or all(day in _NUMBERS for day in re.split("[,-]", words[-1].lower())):
        raise ValueError(f'"{text}" does not say in which time zone')
    *words, zone = words
    if not words:
        raise ValueError(f'"{text}" says neither on which days nor at which hours')
    if len(words) > 2:
        raise ValueError(f'"{text}" is more than days, hours and a time zone')
    has_times, has_days = words[-1][0].isdigit(), not words[0][0].isdigit()
    if len(words) == 2 and not (has_times and has_days):
        raise ValueError(f'"{" ".join(words)}" is not days and then hours')
    days = _parse_days(words[0]) if has_days else _EVERY_DAY
    begin, end = _parse_times(words[-1]) if has_times else (0, _MINUTES_OF_A_DAY)
    return Hours(days, begin, end, _parse_zone(zone))


def show(hours: Hours) -> str:
    """Write hours in the form that ``parse`` reads."""
    words = []
    is_every_day, is_whole_day = hours.days == _EVERY_DAY, (hours.begin, hours.end) == (0, _MINUTES_OF_A_DAY)
    if not is_every_day:
        words.append(_show_days(hours.days))
    if is_every_day or not is_whole_day:
        words.append(f"{_show_time(hours.begin)}-{_show_time(hours.end)}")
    return " ".join([*words, str(hours.zone)])


def open_until(hours: Sequence[Hours], now: float) -> float | None:
    """Return when the time that ``now`` lies in ends, in Unix seconds; ``None`` if it lies outside of all hours.

    Hours that touch or overlap are one stretch of time. ``math.inf`` if there are no hours at all, or if no end is in
    sight; eight days are looked at.
    """
    if not hours:
        return math.inf
    start = until = math.floor(now)  # hours begin and end, and clocks are changed, at whole seconds
    while until - start < _HORIZON:
        before = until
        for each in hours:
            until = _reach(each, until)
        if until == before:
            return None if until == start else float(until)
    return math.inf


def _reach(hours: Hours, second: int) -> int:
    """Return a later second, up to which all lies in the hours; the same second if it does not lie in them itself."""
    local = datetime.fromtimestamp(second, hours.zone)
    left = _left(hours, local)
    if left == 0:
        return second
    offset = local.utcoffset()
    if datetime.fromtimestamp(second + left, hours.zone).utcoffset() == offset:
        return second + left

    def is_changed(at: int) -> bool:
        return datetime.fromtimestamp(at, hours.zone).utcoffset() != offset

    return second + bisect_left(range(second, second + left), True, key=is_changed)  # noqa: FBT003  (what is looked for)


def _left(hours: Hours, local: datetime) -> int:
    """Seconds until a clock that shows ``local`` will show the end of the hours; 0 if it is not in them."""
    passed = (local.hour * 60 + local.minute) * 60 + local.second
    begin, end = hours.begin * 60, hours.end * 60
    if end > begin:
        is_inside = begin <= passed < end and local.weekday() in hours.days
        return end - passed if is_inside else 0
    if passed >= begin:
        return end + _SECONDS_OF_A_DAY - passed if local.weekday() in hours.days else 0
    is_inside = passed < end and (local.weekday() - 1) % 7 in hours.days
    return end - passed if is_inside else 0


def _parse_days(word: str) -> frozenset[int]:
    days: set[int] = set()
    for part in word.split(","):
        first, dash, last = part.partition("-")
        for name in (first, last) if dash else (first,):
            if name.lower() not in _NUMBERS:
                raise ValueError(f'"{name}" in "{word}" is not a day: days are {", ".join(_DAYS)}')
        begin = _NUMBERS[first.lower()]
        length = (_NUMBERS[last.lower()] - begin) % 7 if dash else 0
        days.update((begin + more) % 7 for more in range(length + 1))
    return frozenset(days)


def _show_days(days: frozenset[int]) -> str:
    parts = []
    for first in sorted(day for day in days if (day - 1) % 7 not in days):
        last = first
        while (last + 1) % 7 in days:
            last = (last + 1) % 7
        parts.append(_DAYS[first] if last == first else f"{_DAYS[first]}-{_DAYS[last]}")
    return ",".join(parts)


def _parse_times(word: str) -> tuple[int, int]:
    match = _TIMES.fullmatch(word)
    if match is None:
        raise ValueError(f'"{word}" is not hours as in 08:00-18:00')
    hour, minute, last_hour, last_minute = map(int, match.groups())
    begin, end = hour * 60 + minute, last_hour * 60 + last_minute
    if minute > 59 or begin >= _MINUTES_OF_A_DAY:
        raise ValueError(f'"{word}" begins at no time of day')
    if last_minute > 59 or end > _MINUTES_OF_A_DAY:
        raise ValueError(f'"{word}" ends at no time of day')
    if begin == end:
        raise ValueError(f'"{word}" ends when it begins: a whole day is 00:00-24:00')
    return begin, end


def _show_time(minutes: int) -> str:
    return "{:02}:{:02}".format(*divmod(minutes, 60))


def _parse_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where there are no files of time zones
    if not _ZONE.fullmatch(name):
        raise ValueError(f'"{name}" is not the name of a time zone')
    try:
        return zoneinfo.ZoneInfo(name)
    except Exception:  # noqa: BLE001  (a file that is broken, or none at all, shows in a dozen ways)
        raise ValueError(_why_no_zone(name)) from None


def _why_no_zone(name: str) -> str:
    known = zoneinfo.available_timezones() | {"UTC"}
    if name in known:
        return f'the time zone "{name}" of this machine is broken: apt-get install --reinstall tzdata'
    alike = [each for each in known if each.lower() == name.lower()]
    if alike:
        return f'there is no time zone "{name}": did you mean {min(alike)}?'
    if known <= {"UTC", "Etc/UTC"}:
        return f'the time zone "{name}" is not known, nor any other but UTC: apt-get install tzdata'
    return f'there is no time zone "{name}"'
