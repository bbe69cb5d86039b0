"""The plots of the report, as SVG. The one file that knows pygal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pygal
from pygal.style import Style

Values = Mapping[str, float | None]
Points = Mapping[str, list[tuple[float, float]]]
_COLOURS = ("#d1242f", "#0969da", "#54aeff", "#1a7f37", "#4ac26b", "#9a6700", "#d4a72c", "#57606a")
"""gatekeeper's first; each peer as it is shipped, and lighter when it is tuned."""


def _settings(title: str, height: int) -> dict[str, Any]:
    style = Style(
        background="#ffffff",
        plot_background="#ffffff",
        colors=_COLOURS,
        font_family="sans-serif",
        title_font_size=18,
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=13,
        value_font_size=12,
        opacity=".9",
    )
    size = {"width": 900, "height": height, "truncate_legend": -1, "truncate_label": -1}
    # no script from elsewhere: a page in a repository shows the plot as an image
    return {"title": title, "js": [], "style": style, "no_prefix": True, "pretty_print": True, **size}


def lines(path: Path, title: str, axes: tuple[str, str], points: Points, *, is_logarithmic: bool = False) -> None:
    """Draw a line for each contestant; ``is_logarithmic``: both scales are of powers."""
    chart = pygal.XY(**_settings(title, 420), x_title=axes[0], y_title=axes[1], logarithmic=is_logarithmic)
    chart.x_value_formatter = chart.value_formatter = _shown
    places = [place for line in points.values() for place in line]
    if is_logarithmic and places:
        chart.x_labels, chart.y_labels = _powers([x for x, _ in places]), _powers([y for _, y in places])
    for name, line in points.items():
        chart.add(name, sorted(line))
    chart.render_to_file(str(path))


def bars(path: Path, title: str, unit: str, values: Values, *, is_logarithmic: bool = False) -> None:
    """Draw a bar for each contestant, the first on top, on a scale of powers where they are far apart."""
    known = [(name, value) for name, value in values.items() if value is not None][::-1]
    chart = pygal.HorizontalBar(
        **_settings(title, 120 + 36 * len(known)),
        x_title=unit,
        logarithmic=is_logarithmic,
        show_legend=False,
        print_values=True,
        print_values_position="top",
    )
    if is_logarithmic and known:
        chart.y_labels = _powers([value for _, value in known])
        chart.zero = chart.y_labels[0]
    chart.value_formatter = _shown
    chart.x_labels = [name for name, _ in known]
    colours = dict(zip(values, _COLOURS, strict=False))
    chart.add("", [{"value": value, "color": colours[name]} for name, value in known])
    chart.render_to_file(str(path))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _powers(values: list[float]) -> list[float]:
    """List the powers of ten around some values."""
    exponents = [math.log10(value) for value in values if value > 0] or [0]
    return [10.0**power for power in range(math.floor(min(exponents)), math.ceil(max(exponents)) + 1)]
