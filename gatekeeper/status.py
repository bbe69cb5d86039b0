"""What ``gatekeeper status`` shows, as lines and tables; and these as plain text. Pure.

``tables.py`` shows the same on a terminal. What comes from outside (names in the store, a file's words) is escaped
here, for both.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gatekeeper import duration
from gatekeeper.escaping import escape

SOON = 60
"""Seconds left, from which on a grant is about to end."""


class Tone(enum.Enum):
    """What a line or a row means for who looks."""

    PLAIN = ""
    GOOD = "good"
    ATTENTION = "attention"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence."""

    words: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; a tone for each row that has one."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    tones: Mapping[int, Tone]
    spare: frozenset[str] = frozenset()
    """Columns that can be left out where it is narrow."""
    more: int = 0
    """Rows that had no room."""


Section = Line | Table
Rates = tuple[Mapping[str, float], Mapping[str, float]]
"""Per second: what was counted, and what the kernel dropped."""
Number = TypeVar("Number", int, float)
_NUMBERS = frozenset({"IN KERNEL", "PACKETS", "PACKETS, AT LEAST", "A SECOND", "WAITING", "DROPPED", "LEFT", "AGO"})


def is_number(column: str) -> bool:
    """Whether what stands in a column is read from the right."""
    return column in _NUMBERS


def sections(
    found: dict[str, Any], listed: Sequence[dict[str, Any]], *, which: str = "", rates: Rates | None = None
) -> list[Section]:
    """Say what ``seeing.looking`` saw, and some grants; ``which``, if those are not all.

    With ``rates`` it is for a screen, which is small: what is at rest is left out, and what can be is told together.
    """
    kernel = found["kernel"]
    grants = _grants(listed)
    counted, dropped = found["counters"], kernel.get("dropped", {})
    if rates is None:
        counters = [_counted("REASON", counted), _counted("DROPPED IN THE KERNEL", dropped)]
        queues = found["queues"]
    else:
        counters = [_counted("REASON", _united(counted, dropped), _united(*rates))]
        queues = [one for one in found["queues"] if one["waiting"] or one["dropped"]]
    return [
        _state(found),
        *([Line(_in_words(found["rules_trouble"]), Tone.BAD)] if found.get("rules_trouble") else []),
        _services(found["services"], kernel.get("members", {})),
        *([Line(f"{found['live']:,} live grants; {which}:")] if which else []),
        grants if grants.rows else Line("none" if which else "no live grants"),
        *_if_any(_decisions(found.get("decisions", ()))),
        counters[0] if counters[0].rows else Line("nothing counted yet"),
        *_if_any(*counters[1:], _refused(found.get("refused", ())), _queues(queues)),
    ]


def _if_any(*tables: Table) -> list[Table]:
    return [one for one in tables if one.rows]


def as_text(found: dict[str, Any], listed: Sequence[dict[str, Any]], *, which: str = "") -> str:
    """Lay it out as plain text."""
    return plain(sections(found, listed, which=which))


def plain(parts: Sequence[Section]) -> str:
    """Lay sections out as plain text."""
    return "\n\n".join(part.words if isinstance(part, Line) else _columns(part) for part in parts)


def fitted(parts: Sequence[Section], width: int, height: int) -> list[Section]:
    """Cut tables so that all have room on a screen, with a line between them: the longest lose most."""
    tables = [part for part in parts if isinstance(part, Table)]
    taken = sum(_lines(part.words, width) if isinstance(part, Line) else 1 for part in parts)
    room = height - taken - (len(parts) - 1)
    given = dict(zip(map(id, tables), _shares([len(one.rows) for one in tables], room), strict=True))
    return [part if isinstance(part, Line) else _cut(part, given[id(part)]) for part in parts]


def _lines(words: str, width: int) -> int:
    """How many lines of a terminal a sentence takes: broken between words, where it is longer than one."""
    lines = -(-len(words) // max(1, width))
    return lines if lines <= 1 else lines + 1


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """Share room out: nobody gets more than is wanted, and who wants least is served first.

    Of those who want the same, the first gets what is left over.
    """
    shares = [0] * len(wanted)
    left = max(0, room)
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda place: (wanted[place], -place))):
        shares[place] = min(wanted[place], left // (len(wanted) - done))
        left -= shares[place]
    return shares


def _cut(table: Table, room: int) -> Table:
    if len(table.rows) <= room:
        return table
    return replace(table, rows=table.rows[:room], more=len(table.rows) - room)


def _state(found: dict[str, Any]) -> Line:
    kernel, is_up = found["kernel"], found["running"]
    state, tone = (f"run is up (process {found['pid']})", Tone.GOOD) if is_up else ("run is not up", Tone.ATTENTION)
    if "error" in kernel:
        return Line(f"{state}; the kernel could not be looked at: {escape(kernel['error'])}", Tone.ATTENTION)
    if not kernel["ruleset"]:
        return Line(f"{state}; the ruleset is not in the kernel: the ports are open to all", Tone.BAD)
    if kernel["observes"]:
        words = "it only observes: NOTHING IS DROPPED, and what is counted as would-... would have been"
        return Line(f"{state}; {words}", Tone.ATTENTION)
    if not is_up:
        stays = ", and what is open stays open until run is back" if kernel["backend"] == "rules" else ""
        return Line(f"{state}: nobody new gets in{stays}", Tone.BAD)
    return Line(state, tone)


def _services(services: Sequence[dict[str, Any]], members: Mapping[str, int]) -> Table:
    head = ("SERVICE", "PORT", "TTL", "MAX TTL", "ESTABLISHED", "IN KERNEL")
    rows = [
        (s["name"], s["port"], s["ttl"], s["max_ttl"] or "-", s["established"], str(members.get(s["name"], "?")))
        for s in services
    ]
    return _table(head, rows, spare=("ESTABLISHED", "MAX TTL"))


def _grants(listed: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (g["source"], g["service"], g["client"], g["expires_at"] or "until closed", _left(g["seconds_left"]))
        for g in listed
    ]
    soon = {
        row: Tone.ATTENTION
        for row, g in enumerate(listed)
        if g["seconds_left"] is not None and g["seconds_left"] < SOON
    }
    return _table(("SOURCE", "SERVICE", "CLIENT", "EXPIRES", "LEFT"), rows, soon, spare=("EXPIRES",))


def _decisions(decisions: Sequence[dict[str, Any]]) -> Table:
    head = ("LAST DECISIONS", "AGO", "CLIENT", "SOURCE", "SERVICE", "NOTE")
    names = ("client", "source", "service", "note")
    rows = [(d["reason"], _ago(d["seconds_ago"]), *(d[name] or "-" for name in names)) for d in decisions]
    return _table(head, rows, spare=("NOTE",))


def _ago(seconds: int) -> str:
    """Write how long ago something was, in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def _refused(refused: Sequence[dict[str, Any]]) -> Table:
    rows = [(one["source"], one["reason"], str(one["packets"])) for one in refused]
    return _table(("REFUSED OF LATE", "REASON", "PACKETS, AT LEAST"), rows)


def _queues(queues: Sequence[dict[str, Any]]) -> Table:
    rows = [(str(q["number"]), q["lane"], str(q["worker"]), str(q["waiting"]), str(q["dropped"])) for q in queues]
    full = {row: Tone.ATTENTION for row, q in enumerate(queues) if q["dropped"]}
    return _table(("QUEUE", "LANE", "WORKER", "WAITING", "DROPPED"), rows, full)


def _united(counted: Mapping[str, Number], in_kernel: Mapping[str, Number]) -> dict[str, Number]:
    return {**counted, **{f"{name} (kernel)": number for name, number in in_kernel.items()}}


def _counted(name: str, counts: Mapping[str, int], rates: Mapping[str, float] | None = None) -> Table:
    if rates is None:
        return _table((name, "PACKETS"), [(one, str(number)) for one, number in sorted(counts.items())])
    busiest = sorted(counts.items(), key=lambda one: (-rates.get(one[0], 0.0), one[0]))
    return _table((name, "A SECOND", "PACKETS"), [(one, _rate(rates.get(one)), str(n)) for one, n in busiest])


def _rate(rate: float | None) -> str:
    return "-" if not rate else f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _in_words(trouble: dict[str, Any]) -> str:
    """Say why the rules in force are not those of the file."""
    lines = trouble["error"]
    more = f" (and {len(lines) - 1} more: `gatekeeper check`)" if len(lines) > 1 else ""
    what = f"{trouble['file']} was changed at {trouble['changed_at']}, and cannot be used"
    if trouble["failed_at"]:
        what = f"the reload of {trouble['failed_at']} failed"
    elif not trouble["changed_at"]:
        what = f"{trouble['file']} cannot be used"
    words = f"{what}: {lines[0] if lines else '?'}{more}"
    return escape(f"{words}; the rules of {trouble['in_force_since']} are in force")


def _left(seconds: int | None) -> str:
    return "-" if seconds is None else duration.show(seconds)


def _table(
    head: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    tones: Mapping[int, Tone] | None = None,
    *,
    spare: Sequence[str] = (),
) -> Table:
    return Table(head, tuple(tuple(map(escape, row)) for row in rows), tones or {}, frozenset(spare))


def _columns(table: Table) -> str:
    lines = [table.head, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
