"""What is said of many numbers: the median, a percentile, a share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float | None:
    """Return the median; nothing of nothing."""
    return statistics.median(values) if values else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that is not less than so many of them."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def ratio(one: float | None, other: float | None) -> float | None:
    """Divide, where both are there."""
    return one / other if one is not None and other else None
