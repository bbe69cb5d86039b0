"""``gatekeeper status`` on a terminal, by rich: colours for what matters, widths for what there is room for.

Imported only where it draws: that takes as long as most commands do. What is drawn is never read as markup: names come
from outside.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from gatekeeper.status import Line, Section, Table, Tone, is_number

_STYLES = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.ATTENTION: "yellow", Tone.BAD: "bold red"}
_ROOMY = 100
"""Columns of a terminal from which on nothing need be left out."""


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
            if part.more:
                pieces.append(Text(f"... and {part.more:,} more", "dim"))
    return Group(*pieces)


def _grid(table: Table, width: int, *, one_line_each: bool) -> Grid:
    kept = [place for place, name in enumerate(table.head) if width >= _ROOMY or name not in table.spare]
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for place in kept:
        name = table.head[place]
        grid.add_column(
            Text(name),
            justify="right" if is_number(name) else "left",
            no_wrap=one_line_each,
            overflow="ellipsis" if one_line_each else "fold",
        )
    for number, row in enumerate(table.rows):
        style = _STYLES[table.tones.get(number, Tone.PLAIN)]
        grid.add_row(*(Text(row[place]) for place in kept), style=style)
    return grid
