"""Status on a terminal: widths, colours, and names that are no markup."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gatekeeper.status import Line, Section, Table, Tone
from gatekeeper.tables import drawn

WIDEST = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"
GRANTS = Table(
    ("SOURCE", "SERVICE", "CLIENT", "EXPIRES", "LEFT"),
    (
        (WIDEST, "a-service-of-16c", "laptop", "2026-11-22T22:00:00+00:00", "59m59s"),
        ("192.0.2.7", "ssh", "[red]x[/red]:smile:", "until closed", "-"),
    ),
    {0: Tone.ATTENTION},
    frozenset({"EXPIRES"}),
)


def draw(parts: list[Section], width: int, *, one_line_each: bool = False, **options: Any) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, emoji=False, highlight=False, **options)
    console.print(drawn(parts, width, one_line_each=one_line_each))
    return stream.getvalue().rstrip("\n").split("\n")


def test_where_there_is_room_every_column_is_there() -> None:
    head, first, second = (line.rstrip() for line in draw([GRANTS], 120))
    assert head.split() == ["SOURCE", "SERVICE", "CLIENT", "EXPIRES", "LEFT"]
    assert first.split() == [WIDEST, "a-service-of-16c", "laptop", "2026-11-22T22:00:00+00:00", "59m59s"]
    assert second.split()[2] == "[red]x[/red]:smile:"


@pytest.mark.parametrize("width", [80, 99])
def test_at_80_columns_the_widest_address_is_whole_and_a_spare_column_is_left_out(width: int) -> None:
    lines = draw([GRANTS], width)
    assert all(len(line) <= width for line in lines)
    assert WIDEST in lines[1]
    assert "EXPIRES" not in lines[0]


def test_nothing_is_lost_where_it_is_narrower_still() -> None:
    for width in (20, 40, 60):
        lines = draw([Table(("SOURCE", "CLIENT"), ((WIDEST, "x" * 50),), {})], width)
        assert all(len(line) <= width for line in lines)
        text = "".join(lines)
        assert text.count("f") == WIDEST.count("f")
        assert text.count("x") == 50


def test_in_a_live_view_a_row_has_one_line_whatever_the_width() -> None:
    for width in (1, 10, 40, 80):
        assert len(draw([GRANTS], width, one_line_each=True)) == 3


def test_rows_that_had_no_room_are_told_of() -> None:
    lines = draw([Table(("A",), (("1",),), {}, more=1234)], 80)
    assert [line.rstrip() for line in lines] == ["A (1 of 1,235)", "1"]


def test_colours_are_for_what_matters_and_none_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Section] = [Line("all well", Tone.GOOD), Line("open", Tone.BAD), GRANTS]
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = draw(parts, 120, force_terminal=True, color_system="standard")
    assert coloured[0].startswith("\x1b[32mall well")
    assert coloured[2].startswith("\x1b[1;31mopen")
    assert "\x1b[33m" in coloured[5]
    assert "\x1b" not in coloured[6]
    monkeypatch.setenv("NO_COLOR", "1")
    plainly = "\n".join(draw(parts, 120, force_terminal=True, color_system="standard"))
    assert "\x1b[3" not in plainly
    assert "\x1b[1;3" not in plainly
