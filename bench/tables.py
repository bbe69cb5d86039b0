"""Tables in Markdown, and how numbers stand in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NONE = "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write a table."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def number(value: float | None, scale: float = 1, form: str = ".2f") -> str:
    """Write a number, or that there is none."""
    return NONE if value is None else f"{value * scale:{form}}"


def scaled(rows: Mapping[str, Any], field: str, scale: float = 1) -> dict[str, float | None]:
    """Take one field of each row, for a plot."""
    values = {name: row.get(field) for name, row in rows.items()}
    return {name: None if value is None else value * scale for name, value in values.items()}


def image(drawings: Path, name: str, title: str) -> Iterator[str]:
    """Show a plot."""
    yield from ("", f"![{title}]({drawings.name}/{name}.svg)")


def failures(rows: Mapping[str, Any]) -> Iterator[str]:
    """Say who could not be measured, and why."""
    for name, row in rows.items():
        if isinstance(row, dict) and "failed" in row:
            yield from ("", f"{name}: {row['failed']}.")
