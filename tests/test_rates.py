from __future__ import annotations

from gatekeeper.rates import Rates


def test_a_rate_is_over_the_last_ten_seconds() -> None:
    rates = Rates()
    for second in range(31):  # told every other second, as workers do
        rates.note({"no-grant": second // 2 * 2 * 5, "old": min(second, 3), "never-yet": 0}, now=100.0 + second)
    assert rates.per_second() == {"no-grant": 5.0}


def test_before_there_are_two_readings_nothing_is_said() -> None:
    rates = Rates()
    assert rates.per_second() == {}
    rates.note({"a": 1_000_000}, now=0.0)
    assert rates.per_second() == {}
    rates.note({"a": 1_000_010, "new": 4}, now=2.0)
    assert rates.per_second() == {"a": 5.0, "new": 2.0}


def test_a_counter_that_begins_anew_makes_no_negative_rate() -> None:
    """The kernel's do when the ruleset is loaded, and the store's when it is a new one."""
    rates = Rates()
    rates.note({"a": 1000}, now=0.0)
    rates.note({"a": 6}, now=2.0)
    rates.note({}, now=3.0)
    assert rates.per_second() == {"a": 2.0}


def test_readings_that_are_far_apart_are_taken_as_they_are_and_not_kept() -> None:
    rates = Rates()
    for minute in range(1000):
        rates.note({"a": minute * 120}, now=minute * 60.0)
    assert rates.per_second() == {"a": 2.0}
    assert len(rates._more) <= 3


def test_two_readings_at_once_divide_by_nothing() -> None:
    rates = Rates()
    rates.note({"a": 1}, now=5.0)
    rates.note({"a": 2}, now=5.0)
    assert rates.per_second() == {}
