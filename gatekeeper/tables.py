"""``gatekeeper status`` on a terminal, by rich: colours for what matters, widths for what there is room for.

Imported only where it draws: that takes as long as most commands do. What is drawn is never read as markup: names come
from outside.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, Group, OverflowMethod
from rich.table import Table as Grid
from rich.text import Text

from gatekeeper.status import Line, Section, Table, Tone, is_number

_STYLES = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.ATTENTION: "yellow", Tone.BAD: "bold red"}
_ROOMY = 100
"""Columns of a terminal from which on nothing need be left out."""
_NARROW = 60
"""Columns from which on the first of a table, which says what a row is about, is never broken."""


def console() -> Console:
    """Return standard output. NO_COLOR is rich's business."""
    return Console(file=sys.stdout, markup=False, emoji=False, highlight=False, soft_wrap=False)


def drawn(parts: Sequence[Section], width: int, *, one_line_each: bool = False) -> Group:
    """Draw sections; ``one_line_each``: a row must have one line, so what does not fit is cut off."""
    pieces: list[Text | Grid] = []
    for part in parts:
        if pieces:
            pieces.append(Text(""))
        if isinstance(part, Line):
            pieces.append(Text(part.words, _STYLES[part.tone], overflow="fold"))
        else:
            pieces.append(_grid(part, width, one_line_each=one_line_each))
    return Group(*pieces)


def _grid(table: Table, width: int, *, one_line_each: bool) -> Grid:
    kept = [place for place, name in enumerate(table.head) if width >= _ROOMY or name not in table.spare]
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    overflow: OverflowMethod = "ellipsis" if one_line_each else "fold"
    for place in kept:
        name = table.head[place]
        title = f"{name} ({len(table.rows)} of {len(table.rows) + table.more:,})" if table.more and place == 0 else name
        stays_whole = place == 0 and width >= _NARROW  # an address with its end missing is somebody else's
        column = Text(title, no_wrap=one_line_each, overflow=overflow)
        grid.add_column(column, justify="right" if is_number(name) else "left", no_wrap=stays_whole, overflow=overflow)
    for number, row in enumerate(table.rows):
        style = _STYLES[table.tones.get(number, Tone.PLAIN)]
        cells = (Text(row[place], no_wrap=one_line_each or None, overflow=overflow) for place in kept)
        grid.add_row(*cells, style=style)
    return grid
