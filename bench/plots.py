"""The plots of the report, as SVG. The one file that knows pygal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pygal
from pygal.style import CleanStyle

Values = Mapping[str, float | None]
Points = Mapping[str, list[tuple[float, float]]]


def _settings(title: str) -> dict[str, Any]:
    # no script: a page in a repository shows the plot as an image
    size = {"width": 900, "height": 420, "legend_at_bottom": True, "legend_at_bottom_columns": 4}
    return {"title": title, "js": [], "style": CleanStyle, "no_prefix": True, "pretty_print": True, **size}


def lines(path: Path, title: str, axes: tuple[str, str], points: Points, *, is_logarithmic: bool = False) -> None:
    """Draw a line for each contestant; ``is_logarithmic``: both scales are of powers."""
    chart = pygal.XY(**_settings(title), x_title=axes[0], y_title=axes[1], logarithmic=is_logarithmic)
    if is_logarithmic:  # pygal has powers for the upright scale only
        largest = max((x for line in points.values() for x, _ in line), default=1)
        chart.x_labels = [{"value": power, "label": f"{10**power:,}"} for power in range(int(math.log10(largest)) + 1)]
    for name, line in points.items():
        chart.add(name, sorted((math.log10(x) if is_logarithmic else x, y) for x, y in line))
    chart.render_to_file(str(path))


def bars(path: Path, title: str, unit: str, values: Values, *, is_logarithmic: bool = False) -> None:
    """Draw a bar for each contestant, on a scale of powers where they are far apart."""
    known = {name: value for name, value in values.items() if value is not None}
    chart = pygal.HorizontalBar(**_settings(title), x_title=unit, logarithmic=is_logarithmic, print_values=True)
    chart.value_formatter = lambda value: f"{value:,.4g}"
    for name, value in known.items():
        chart.add(name, value)
    chart.render_to_file(str(path))
