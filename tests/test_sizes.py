"""Sizes are read as people write them, and written so that they can be read."""

from __future__ import annotations

import pytest

from gatekeeper import sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [("100kB", 100_000), ("16MB", 16_000_000), ("1g", 10**9), ("10M", 10**7), ("250000", 250_000), ("100GB", 10**11)],
)
def test_a_size_is_read_and_written(text: str, size: int) -> None:
    assert sizes.parse(text) == size
    assert sizes.parse(sizes.show(size)) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "99999", "99kB", "101GB", "1.5MB", "-5MB", "16 MB", "\uff11\uff16MB", "9" * 400]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size from 100kB to 100GB"):
        sizes.parse(text)
