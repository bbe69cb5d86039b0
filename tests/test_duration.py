from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("1h", 3600), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600), ("forever", None)],
)
def test_durations_as_people_write_them(text: str, seconds: int | None) -> None:
    assert duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "0s", "0h0m", "-5m", "1.5h", "1h ", "h", "for ever", "٣h", "99999999999s", "11000d", "1y", "1H"]
)
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        duration.parse(text)


@given(st.integers(1, duration.MAX))
def test_what_is_shown_is_read_again(seconds: int) -> None:
    assert duration.parse(duration.show(seconds)) == seconds
