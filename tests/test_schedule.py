from __future__ import annotations

import math
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatekeeper import schedule
from gatekeeper.schedule import Hours, open_until, parse, show

_ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # changes its clocks at midnight
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",  # 5:45 off
    "Pacific/Kiritimati",  # 14:00 off
)
_MINUTE = 60
_DAY = 86_400


def _at(text: str) -> float:
    """Read a time and its zone."""
    local, zone = text.rsplit(" ", 1)
    return datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).timestamp()


def _until(hours: str | list[str], now: str) -> str | None:
    """Say when it ends, in the zone of ``now``; ``forever`` if it does not."""
    end = open_until([parse(text) for text in ([hours] if isinstance(hours, str) else hours)], _at(now))
    if end is None:
        return None
    if end == math.inf:
        return "forever"
    return datetime.fromtimestamp(end, ZoneInfo(now.rsplit(" ", 1)[1])).strftime("%a %d %H:%M:%S %z")


def _is_inside(hours: Hours, at: float) -> bool:
    """Look at a clock on the wall, and at a week that is written out by the minute."""
    clock = datetime.fromtimestamp(math.floor(at), hours.zone)  # or half a microsecond before an hour were that hour
    length = (hours.end - hours.begin - 1) % 1440 + 1
    shown = clock.weekday() * 1440 + clock.hour * 60 + clock.minute
    return any((shown - day * 1440 - hours.begin) % 10_080 < length for day in hours.days)


def _minute_by_minute(hours: list[Hours], now: float) -> float | None:
    minute = now // _MINUTE * _MINUTE
    if not any(_is_inside(each, minute) for each in hours):
        return None
    for _ in range(9 * 1440):
        minute += _MINUTE
        if not any(_is_inside(each, minute) for each in hours):
            return minute
    return math.inf


@pytest.mark.parametrize(
    ("text", "days", "begin", "end"),
    [
        ("Mon-Fri 08:00-18:00 UTC", {0, 1, 2, 3, 4}, 480, 1080),
        ("mon-FRI 08:00-18:00 UTC", {0, 1, 2, 3, 4}, 480, 1080),
        ("  Mon-Fri\t08:00-18:00  UTC ", {0, 1, 2, 3, 4}, 480, 1080),
        ("Sat 09:30-12:45 UTC", {5}, 570, 765),
        ("Mon,Wed,Fri 08:00-18:00 UTC", {0, 2, 4}, 480, 1080),
        ("Fri-Mon,Wed 08:00-18:00 UTC", {4, 5, 6, 0, 2}, 480, 1080),
        ("Mon-Wed,Tue-Thu,Mon 08:00-18:00 UTC", {0, 1, 2, 3}, 480, 1080),
        ("Mon-Mon 08:00-18:00 UTC", {0}, 480, 1080),
        ("Tue-Mon 08:00-18:00 UTC", {0, 1, 2, 3, 4, 5, 6}, 480, 1080),
        ("08:00-18:00 UTC", {0, 1, 2, 3, 4, 5, 6}, 480, 1080),
        ("Sat-Sun UTC", {5, 6}, 0, 1440),
        ("Sat 00:00-24:00 UTC", {5}, 0, 1440),
        ("Fri 22:00-06:00 UTC", {4}, 1320, 360),
        ("Fri 22:00-24:00 UTC", {4}, 1320, 1440),
        ("Fri 22:00-00:00 UTC", {4}, 1320, 0),
    ],
)
def test_hours_as_people_write_them(text: str, days: set[int], begin: int, end: int) -> None:
    assert parse(text) == Hours(frozenset(days), begin, end, UTC)


def test_a_zone_is_one_of_the_machines() -> None:
    assert parse("08:00-18:00 Europe/Berlin").zone is ZoneInfo("Europe/Berlin")
    assert parse("08:00-18:00 Etc/GMT+5").zone.utcoffset(None) == timedelta(hours=-5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", '"" does not say in which time zone'),
        ("Mon-Fri 08:00-18:00", '"Mon-Fri 08:00-18:00" does not say in which time zone'),
        ("Mon-Fri", '"Mon-Fri" does not say in which time zone'),
        ("Mon-Fri 8-18", '"Mon-Fri 8-18" does not say in which time zone'),
        ("UTC", '"UTC" says neither on which days nor at which hours'),
        ("Mon, Wed 08:00-18:00 UTC", '"Mon, Wed 08:00-18:00 UTC" is more than days, hours and a time zone'),
        (
            "Mon 08:00-12:00 13:00-18:00 UTC",
            '"Mon 08:00-12:00 13:00-18:00 UTC" is more than days, hours and a time zone',
        ),
        ("08:00-18:00 Mon UTC", '"08:00-18:00 Mon" is not days and then hours'),
        ("08:00-12:00 13:00-18:00 UTC", '"08:00-12:00 13:00-18:00" is not days and then hours'),
        ("Mon Wed UTC", '"Mon Wed" is not days and then hours'),
        ("Mo-Fr 08:00-18:00 UTC", '"Mo" in "Mo-Fr" is not a day: days are Mon, Tue, Wed, Thu, Fri, Sat, Sun'),
        ("Mon-Friday UTC", '"Friday" in "Mon-Friday" is not a day'),
        ("Mon-Wed-Fri UTC", '"Wed-Fri" in "Mon-Wed-Fri" is not a day'),
        ("Mon- UTC", '"" in "Mon-" is not a day'),
        ("Mon,,Wed UTC", '"" in "Mon,,Wed" is not a day'),
        ("\u017fun UTC", '"\u017fun" in "\u017fun" is not a day'),
        ("Mon 8:00-18:00 UTC", '"8:00-18:00" is not hours'),
        ("Mon 08:00 UTC", '"08:00" is not hours'),
        ("Mon 08:00-18:00:00 UTC", '"08:00-18:00:00" is not hours'),
        ("Mon \u0660\u0668:00-18:00 UTC", '"\u0660\u0668:00-18:00" is not hours'),
        ("Mon 24:00-06:00 UTC", '"24:00-06:00" begins at no time of day'),
        ("Mon 08:60-18:00 UTC", '"08:60-18:00" begins at no time of day'),
        ("Mon 08:00-24:01 UTC", '"08:00-24:01" ends at no time of day'),
        ("Mon 08:00-17:60 UTC", '"08:00-17:60" ends at no time of day'),
        ("Mon 08:00-08:00 UTC", '"08:00-08:00" ends when it begins: a whole day is 00:00-24:00'),
        ("00:00-00:00 UTC", '"00:00-00:00" ends when it begins: a whole day is 00:00-24:00'),
        ("Mon Europe/Atlantis", 'there is no time zone "Europe/Atlantis"'),
        ("Mon Europe", 'there is no time zone "Europe"'),
        ("Mon europe/berlin", 'there is no time zone "europe/berlin": did you mean Europe/Berlin?'),
        ("Mon utc", 'there is no time zone "utc": did you mean UTC?'),
        ("Mon +02:00", '"+02:00" is not the name of a time zone'),
        ("Mon /etc/localtime", '"/etc/localtime" is not the name of a time zone'),
        ("Mon Europe/../Europe/Berlin", '"Europe/../Europe/Berlin" is not the name of a time zone'),
        ("Mon ..", '".." is not the name of a time zone'),
        ("Mon zone.tab", '"zone.tab" is not the name of a time zone'),
        ("Mon Europe/Berlin/", '"Europe/Berlin/" is not the name of a time zone'),
        ("Mon Europe//Berlin", '"Europe//Berlin" is not the name of a time zone'),
        ("Mon UTC\0", '"UTC\0" is not the name of a time zone'),
        ("Mon Z\udc80", '"Z\udc80" is not the name of a time zone'),
        ("Mon right/UTC", '"right/UTC" is not the name of a time zone'),
        ("Mon posix/UTC", '"posix/UTC" is not the name of a time zone'),
        ("Mon localtime", '"localtime" is not the name of a time zone'),
        ("Mon " + "x" * 5000, f'there is no time zone "{"x" * 5000}"'),
    ],
)
def test_what_is_not_understood_is_refused_by_the_part_that_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError) as failure:
        parse(text)
    assert str(failure.value).startswith(complaint)


_SIGNS = st.sampled_from("MonFri,-0123456789: UTCEurope/Berlin+.\0")


@given(st.one_of(st.text(max_size=30), st.text(_SIGNS, max_size=30)), st.sampled_from(["", "Mon ", "08:00-18:00 "]))
def test_no_text_makes_it_raise_anything_else(text: str, before: str) -> None:
    try:
        hours = parse(before + text)
    except ValueError as error:
        assert str(error)
    else:
        assert parse(show(hours)) == hours


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a machine without time zones: the directory in which they would be."""
    before = zoneinfo.TZPATH
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath([str(tmp_path)])
    yield tmp_path
    zoneinfo.reset_tzpath(before)


@pytest.mark.usefixtures("machine")
def test_utc_needs_no_time_zones_on_the_machine() -> None:
    assert parse("Mon 08:00-18:00 UTC") == Hours(frozenset({0}), 480, 1080, UTC)
    with pytest.raises(ValueError, match=r"did you mean UTC\?"):
        parse("Mon 08:00-18:00 utc")


def test_a_machine_without_time_zones_is_told_where_they_are(machine: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match=r"nor any other but UTC: apt-get install tzdata$"):
            parse("Mon 08:00-18:00 Europe/Nowhere")
        (machine / "UTC").write_bytes(b"TZif")


@pytest.mark.parametrize("content", [b"TZif", b"TZif2" + b"\xff" * 39, b"TZif2" + b"\0" * 15 + b"\x7f" * 99])
def test_a_time_zone_whose_file_is_broken_is_refused(content: bytes, machine: Path) -> None:
    (machine / "Broken").write_bytes(content)
    with pytest.raises(ValueError, match='"Broken" of this machine is broken: apt-get install --reinstall tzdata'):
        parse("Mon Broken")


def test_a_file_that_is_no_time_zone_is_none(machine: Path) -> None:
    (machine / "README").write_text("no zone")
    (machine / "Folder").mkdir()
    (machine / "Loop").symlink_to("Loop")
    (machine / "Asia").write_bytes(b"TZif")
    for name in ("README", "Folder", "Loop", "Asia/Tokio"):
        with pytest.raises(ValueError, match=f'there is no time zone "{name}"$'):
            parse(f"Mon {name}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fri-mon,tue 08:00-18:00 Europe/Berlin", "Fri-Tue 08:00-18:00 Europe/Berlin"),
        ("Wed,Sat,Sun,Mon 22:00-06:00 UTC", "Wed,Sat-Mon 22:00-06:00 UTC"),
        ("Mon-Sun 08:00-18:00 UTC", "08:00-18:00 UTC"),
        ("Sat 00:00-24:00 UTC", "Sat UTC"),
        ("Mon-Sun UTC", "00:00-24:00 UTC"),
    ],
)
def test_hours_are_shown_in_the_shortest_form(text: str, shown: str) -> None:
    assert show(parse(text)) == shown


def test_the_hint_shows_hours_as_they_are_shown() -> None:
    example = schedule.HINT.removeprefix("write ")
    assert show(parse(example)) == example


_HOURS = st.builds(
    lambda days, begin, end, zone: Hours(days, begin, end, parse(f"Mon {zone}").zone),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.sampled_from(_ZONES),
).filter(lambda hours: hours.begin != hours.end)


@given(_HOURS)
def test_what_is_shown_is_read_again(hours: Hours) -> None:
    assert parse(show(hours)) == hours


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        # 2026-01-05 is a Monday
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-01-05 07:59:59.999 Europe/Berlin", None),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-01-05 08:00 Europe/Berlin", "Mon 05 18:00:00 +0100"),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-01-05 17:59:59.999 Europe/Berlin", "Mon 05 18:00:00 +0100"),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-01-05 18:00 Europe/Berlin", None),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-01-10 12:00 Europe/Berlin", None),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-01-05 08:00 UTC", "Mon 05 17:00:00 +0000"),
        ("Mon-Fri 08:00-18:00 America/New_York", "2026-01-06 00:30 Europe/Berlin", None),
        # into the next day, the next week, the next year
        ("Mon 22:00-06:00 UTC", "2026-01-05 05:00 UTC", None),
        ("Mon 22:00-06:00 UTC", "2026-01-05 22:00 UTC", "Tue 06 06:00:00 +0000"),
        ("Mon 22:00-06:00 UTC", "2026-01-06 05:59 UTC", "Tue 06 06:00:00 +0000"),
        ("Mon 22:00-06:00 UTC", "2026-01-06 06:00 UTC", None),
        ("Mon 22:00-00:00 UTC", "2026-01-05 23:00 UTC", "Tue 06 00:00:00 +0000"),
        ("Mon 22:00-00:00 UTC", "2026-01-06 00:00 UTC", None),
        ("Sun 22:00-06:00 UTC", "2026-01-05 03:00 UTC", "Mon 05 06:00:00 +0000"),
        ("Fri-Mon UTC", "2026-01-09 12:00 UTC", "Tue 13 00:00:00 +0000"),
        ("Wed 20:00-04:00 America/New_York", "2025-12-31 23:00 America/New_York", "Thu 01 04:00:00 -0500"),
        ("Wed 20:00-04:00 America/New_York", "2026-01-01 08:59 UTC", "Thu 01 09:00:00 +0000"),
        # one stretch
        ("Mon-Tue 00:00-24:00 UTC", "2026-01-05 12:00 UTC", "Wed 07 00:00:00 +0000"),
        ("Mon-Fri 08:00-07:59 UTC", "2026-01-06 07:58 UTC", "Tue 06 07:59:00 +0000"),
        (["Mon 08:00-12:00 UTC", "Mon 12:00-18:00 UTC"], "2026-01-05 09:00 UTC", "Mon 05 18:00:00 +0000"),
        (["Mon 12:00-18:00 UTC", "Mon 08:00-12:00 UTC"], "2026-01-05 09:00 UTC", "Mon 05 18:00:00 +0000"),
        (["Mon 08:00-12:00 UTC", "Mon 12:01-18:00 UTC"], "2026-01-05 09:00 UTC", "Mon 05 12:00:00 +0000"),
        (["Mon 08:00-18:00 UTC", "Mon 09:00-10:00 UTC"], "2026-01-05 09:00 UTC", "Mon 05 18:00:00 +0000"),
        (["Sun 22:00-06:00 UTC", "Mon 06:00-08:00 UTC"], "2026-01-04 23:00 UTC", "Mon 05 08:00:00 +0000"),
        (
            ["Mon 08:00-18:00 Asia/Tokyo", "Mon 04:00-18:00 America/Lima"],
            "2026-01-05 07:00 UTC",
            "Mon 05 23:00:00 +0000",
        ),
        (["Mon 08:00-18:00 UTC", "Tue 08:00-18:00 UTC"], "2026-01-06 09:00 UTC", "Tue 06 18:00:00 +0000"),
        # for ever
        ([], "2026-01-05 12:00 UTC", "forever"),
        ("00:00-24:00 Europe/Berlin", "2026-03-28 12:00 UTC", "forever"),
        (["08:00-20:00 Europe/Berlin", "20:00-08:00 Europe/Berlin"], "2026-10-24 12:00 UTC", "forever"),
        (["Mon-Sat UTC", "Sun 00:00-23:59 UTC"], "2026-01-05 00:00 UTC", "Sun 11 23:59:00 +0000"),
    ],
)
def test_it_is_open_to_the_end_of_the_stretch_that_now_lies_in(
    hours: str | list[str], now: str, end: str | None
) -> None:
    assert _until(hours, now) == end


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        # Berlin, Sunday 2026-03-29: 01:59:59 +0100, then 03:00:00 +0200, which is 01:00 UTC
        ("Sat 22:00-06:00 Europe/Berlin", "2026-03-28 22:00 Europe/Berlin", "Sun 29 06:00:00 +0200"),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-03-29 01:30 Europe/Berlin", "Sun 29 03:00:00 +0200"),
        ("Sun 01:00-02:00 Europe/Berlin", "2026-03-29 01:30 Europe/Berlin", "Sun 29 03:00:00 +0200"),
        ("Sun 01:00-03:00 Europe/Berlin", "2026-03-29 01:30 Europe/Berlin", "Sun 29 03:00:00 +0200"),
        ("Sun 01:00-03:15 Europe/Berlin", "2026-03-29 01:30 Europe/Berlin", "Sun 29 03:15:00 +0200"),
        ("Sun 02:30-03:15 Europe/Berlin", "2026-03-29 00:59:59 UTC", None),
        ("Sun 02:30-03:15 Europe/Berlin", "2026-03-29 01:00 UTC", "Sun 29 01:15:00 +0000"),
        ("Sun 02:15-02:45 Europe/Berlin", "2026-03-29 01:00 UTC", None),
        ("Sun 02:15-02:45 Europe/Berlin", "2026-03-29 00:30 UTC", None),
        (
            ["Sun 00:00-02:00 Europe/Berlin", "Sun 03:00-05:00 Europe/Paris"],
            "2026-03-29 00:00 UTC",
            "Sun 29 03:00:00 +0000",
        ),
        ("Sat-Sun Europe/Berlin", "2026-03-28 12:00 Europe/Berlin", "Mon 30 00:00:00 +0200"),
        # Berlin, Sunday 2026-10-25: 02:59:59 +0200, then 02:00:00 +0100, which is 01:00 UTC
        ("Sat 22:00-06:00 Europe/Berlin", "2026-10-24 22:00 Europe/Berlin", "Sun 25 06:00:00 +0100"),
        ("Sun 01:00-02:00 Europe/Berlin", "2026-10-24 23:30 UTC", "Sun 25 00:00:00 +0000"),
        ("Sun 01:00-02:00 Europe/Berlin", "2026-10-25 01:00 UTC", None),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-10-24 23:30 UTC", "Sun 25 00:30:00 +0000"),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-10-25 00:45 UTC", None),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-10-25 01:15 UTC", "Sun 25 01:30:00 +0000"),
        ("Sun 01:00-03:00 Europe/Berlin", "2026-10-24 23:30 UTC", "Sun 25 02:00:00 +0000"),
        ("Sun 02:30-05:00 Europe/Berlin", "2026-10-25 00:30 UTC", "Sun 25 01:00:00 +0000"),
        ("Sun 02:30-05:00 Europe/Berlin", "2026-10-25 01:00 UTC", None),
        ("Sun 02:30-05:00 Europe/Berlin", "2026-10-25 01:30 UTC", "Sun 25 04:00:00 +0000"),
        ("Sun 02:15-02:45 Europe/Berlin", "2026-10-25 00:20 UTC", "Sun 25 00:45:00 +0000"),
        ("Sun 03:00-05:00 Europe/Berlin", "2026-10-25 01:00 UTC", None),
        ("Sat-Sun Europe/Berlin", "2026-10-24 12:00 Europe/Berlin", "Mon 26 00:00:00 +0100"),
        # Santiago puts its clocks back at the end of Saturday 2026-04-04, and forward at that of 2026-09-05
        ("Sat America/Santiago", "2026-04-04 12:00 America/Santiago", "Sun 05 00:00:00 -0400"),
        ("Sun America/Santiago", "2026-04-05 03:30 UTC", None),
        ("Sat America/Santiago", "2026-09-05 12:00 America/Santiago", "Sun 06 01:00:00 -0300"),
        ("Sun America/Santiago", "2026-09-06 04:00 UTC", "Mon 07 03:00:00 +0000"),
        # Apia had no Friday 2011-12-30
        ("Thu America/Adak", "2011-12-29 12:00 America/Adak", "Fri 30 00:00:00 -1000"),
        ("Thu Pacific/Apia", "2011-12-29 12:00 Pacific/Apia", "Sat 31 00:00:00 +1400"),
        ("Thu-Sat Pacific/Apia", "2011-12-29 12:00 Pacific/Apia", "Sun 01 00:00:00 +1400"),
    ],
)
def test_where_clocks_are_changed_the_clock_on_the_wall_is_right(
    hours: str | list[str], now: str, end: str | None
) -> None:
    assert _until(hours, now) == end


@given(
    st.lists(_HOURS, min_size=1, max_size=3),
    st.floats(0, 1.5 * _DAY),
    st.sampled_from(["2026-01-15", "2026-03-28", "2026-04-04", "2026-09-05", "2026-10-03", "2026-10-24", "2026-12-31"]),
)
def test_it_ends_when_the_clocks_on_the_wall_first_show_a_minute_outside(
    hours: list[Hours], later: float, day: str
) -> None:
    now = _at(f"{day} 00:00 UTC") + later
    expected = _minute_by_minute(hours, now)
    if expected is not None and expected - math.floor(now) >= 8 * _DAY:
        expected = math.inf
    assert open_until(hours, now) == expected


@given(_HOURS, st.floats(_at("2020-01-01 00:00 UTC"), _at("2040-01-01 00:00 UTC")))
@example(parse("00:00-00:01 UTC"), math.nextafter(_at("2040-01-01 00:00 UTC"), 0))
def test_an_end_is_a_whole_minute_later_than_now_and_outside(hours: Hours, now: float) -> None:
    end = open_until([hours], now)
    assert (end is not None) == _is_inside(hours, now)
    if end is not None and end != math.inf:
        assert end > now
        assert end % _MINUTE == 0
        assert open_until([hours], end) is None
        assert open_until([hours], math.nextafter(end, 0)) == end
