"""Sizes as people write them: ``500kB``, ``10MB``, ``1GB``. Pure."""

from __future__ import annotations

_FACTORS = {"K": 10**3, "M": 10**6, "G": 10**9}
SMALLEST, LARGEST = 10**5, 10**11
HINT = "from 100kB to 100GB, such as 10MB"


def parse(text: str) -> int:
    """Bytes of a size, in thousands; the B may be left out.

    Raises:
        ValueError: it is none, or so small or large that it cannot be meant; with a message for the user.
    """
    number = text.upper().removesuffix("B")
    factor = _FACTORS.get(number[-1:], 1)
    number = number[:-1] if factor > 1 else number
    if (
        not (number.isascii() and number.isdecimal())
        or len(number) > 12
        or not SMALLEST <= int(number) * factor <= LARGEST
    ):
        raise ValueError(f"{text!a} is not a size {HINT}")
    return int(number) * factor


def show(size: int) -> str:
    """Write a size in the form that ``parse`` reads."""
    for letter, factor in reversed(_FACTORS.items()):
        if size % factor == 0:
            return f"{size // factor}{letter if letter != 'K' else 'k'}B"
    return f"{size}B"
