"""Dates in rules.yaml: what they mean, and what is no date."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.rules import moment


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2027-01-31", datetime(2027, 2, 1, tzinfo=UTC)),  # to its end
        ("2024-02-29", datetime(2024, 3, 1, tzinfo=UTC)),
        ("2027-12-31", datetime(2028, 1, 1, tzinfo=UTC)),
        ("2027-01-31T18:00Z", datetime(2027, 1, 31, 18, tzinfo=UTC)),
        ("2027-01-31 18:00Z", datetime(2027, 1, 31, 18, tzinfo=UTC)),
        ("2027-01-31T18:00:30+01:00", datetime(2027, 1, 31, 17, 0, 30, tzinfo=UTC)),
        ("2027-01-31T18:00-05:30", datetime(2027, 1, 31, 23, 30, tzinfo=UTC)),
        ("1969-12-31", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_date_is_the_end_of_what_it_names(text: str, meant: datetime) -> None:
    assert moment.parse(text) == meant.timestamp()


def test_the_last_day_of_the_calendar_has_an_end_too() -> None:
    for text in ("9999-12-31", "9999-12-31T23:59-12:00", "9998-12-31"):
        assert datetime.fromtimestamp(moment.parse(text), UTC).year == 9998


@pytest.mark.parametrize("text", ["2027-01-31T18:00", "2027-01-31 18:00:00", "20270131", "2027-W04-7", "2027-01-31T18"])
def test_a_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not say in which time zone"):
        moment.parse(text)


@pytest.mark.parametrize(
    "text", ["", "soon", "2027", "2027-1-31", "2027-02-29", "2027-13-01", "31.1.2027", "2027-01-31Z", "२०२७-०१-३१"]
)
def test_what_is_no_date_is_refused_by_its_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date") as failure:
        moment.parse(text)
    assert text in str(failure.value)


@given(st.dates())
def test_every_day_of_the_calendar_has_its_end_a_day_after_its_begin(day: date) -> None:
    begin = datetime.combine(day, time(), tzinfo=UTC).timestamp()
    assert moment.parse(day.isoformat()) == begin + 86_400


@given(st.datetimes(), st.integers(-1439, 1439))
def test_every_time_with_a_zone_is_read_as_it_is_meant(when: datetime, minutes: int) -> None:
    aware = when.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert moment.parse(aware.isoformat()) == aware.timestamp()


_SIGNS = st.sampled_from("0123456789-:TZ+W. ")


@given(st.one_of(st.text(max_size=30), st.text(_SIGNS, max_size=30)))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    try:
        moment.parse(text)
    except ValueError as error:
        assert str(error).startswith(f'"{text}" ')
