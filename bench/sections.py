"""What the report says of each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import figures, plots
from bench.tables import NONE, failures, image, number, scaled, table

Found = dict[str, Any]
_SHAPES = ("random", "right shape", "replays", "captured tags", "spoofed", "captured tags, spoofed")
_COSTS = ("random", "captured tags")
_MET = (*_COSTS, "captured tags, spoofed")


def _knock(part: Found, drawings: Path) -> Iterator[str]:
    yield from ("", "## 1. Knock to connected", "")
    head = ("", "no sleep: median, ms", "p99, ms", "first SYNs lost", "polling: median, ms", "p99, ms", "connected")
    yield from table(head, [_knocked(name, ways) for name, ways in part.items()])
    for name, ways in part.items():
        yield from failures({f"{name}, {way}": row for way, row in ways.items()})
    for file, way in (("no-sleep", "no sleep"), ("polling", "polling")):
        rows = {name: ways.get(way, {}) for name, ways in part.items()}
        title = f"Knock to connected, {way}"
        values = scaled(rows, "median", 1000)
        plots.bars(drawings / f"{file}.svg", title, "ms, median; a scale of powers", values, is_logarithmic=True)
        yield from image(drawings, file, title)


def _knocked(name: str, ways: Found) -> list[str]:
    none, polls = ways.get("no sleep", {}), ways.get("polling", {})
    times = [[number(way.get(field), 1000) for field in ("median", "p99")] for way in (none, polls)]
    lost = f"{none.get('lost_first_syns', NONE)} of {none.get('attempts', NONE)}"
    connected = f"{polls.get('connected', NONE)} of {polls.get('attempts', NONE)}"
    return [name, *times[0], lost, *times[1], connected]


def _flood(part: Found, drawings: Path) -> Iterator[str]:
    yield from ("", "## 2. Good knocks while junk floods the knock port", "")
    yield "Each cell: how many good knocks opened within 1 s, and how many packets arrived in a second. The limit is"
    yield "what one sender manages beside the rest; then there is a sender for each CPU."
    everything = {name: {_key(row): row for row in rows} for name, rows in part.items()}
    keys = {key for rows in everything.values() for key in rows}
    levels = sorted(key[1:] for key in keys if key[0] == "random")
    yield from ("", "Random junk:", "")
    rows = [(name, *(_cell(mine.get(("random", *level))) for level in levels)) for name, mine in everything.items()]
    yield from table(("", *(_level(*level) for level in levels)), rows)
    yield from ("", "Every shape, at the limit of one sender; behind the semicolon, within 3 s with retries, as the")
    yield from ("client does them:", "")
    shapes = [shape for shape in _SHAPES if (shape, 1, True, 0.0) in keys]
    rows = [(name, *(_cell(mine.get((shape, 1, True, 0.0))) for shape in shapes)) for name, mine in everything.items()]
    yield from table(("", *shapes), rows)
    for name, mine in everything.items():
        yield from failures({f"{name}, {key[0]}, {_level(*key[1:])}": row for key, row in mine.items()})
    points = {name: [_point(row) for row in rows if _is_point(row)] for name, rows in part.items()}
    title = "Good knocks that open within 1 s, against random junk"
    plots.lines(drawings / "flood.svg", title, ("random junk, packets/s", "%"), points)
    yield from image(drawings, "flood", title)
    yield from _met(part.get("gatekeeper", []))


def _key(row: Found) -> tuple[str, int, bool, float]:
    return row["shape"], row["senders"], row["asked"] is None, float(row["asked"] or 0)


def _level(senders: int, is_limit: bool, rate: float) -> str:  # noqa: FBT001  (fields of a tuple)
    if not is_limit:
        return f"{rate:,.0f}/s" if rate else "none"
    return "the limit" if senders == 1 else f"the limit, {senders} senders"


def _cell(row: Found | None) -> str:
    if row is None:
        return NONE
    if "failed" in row:
        return "failed"
    again = row.get("within_3s_with_retries")
    more = "" if again is None else f"; {100 * again:.0f}%"
    return f"{100 * row['within_1s']:.0f}%{more} ({row['rate']:,.0f}/s)"


def _is_point(row: Found) -> bool:
    return row["shape"] == "random" and "rate" in row


def _point(row: Found) -> tuple[float, float]:
    return row["rate"], 100 * row["within_1s"]


def _met(rows: list[Found]) -> Iterator[str]:
    counted = [row for row in rows if row.get("looked_at") is not None and row.get("arrived")]
    if not counted:
        return
    yield from ("", "What of it met gatekeeper's own code (the kernel drops the rest, or the queue is full):", "")
    head = ("junk", "", "arrived, /s", "met Python, /s", "share")
    yield from table(head, [[row["shape"], _level(*_key(row)[1:]), *_share(row)] for row in counted])


def _share(row: Found) -> list[str]:
    met = row["looked_at"]
    return [f"{row['rate']:,.0f}", f"{met / row['seconds']:,.0f}", f"{100 * met / row['arrived']:.1f}%"]


def _cpu(part: Found, drawings: Path) -> Iterator[str]:
    yield from ("", "## 3. CPU", "")
    everybody: Found = part.get("contestants", {})
    met = tuple(f"{shape} that reach Python, us" for shape in _MET)
    head = ("", "good knock, ms", "random junk, us", "captured tags, us", *met)
    yield from table(head, [_cost(name, row) for name, row in everybody.items()])
    yield from failures(everybody)
    plots.bars(drawings / "cpu.svg", "CPU for a good knock", "ms", scaled(everybody, "per_knock", 1000))
    yield from image(drawings, "cpu", "CPU for a good knock")
    yield from ("", "Triage: what one worker's gate decides about, without the queue.", "")
    yield from table(("junk", "packets/s"), [(shape, f"{rate:,.0f}") for shape, rate in part.get("triage", {}).items()])


def _cost(name: str, row: Found) -> list[str]:
    junk = [row.get(shape) or {} for shape in _MET]
    met = [number(one.get("per_packet_looked_at"), 1e6) if one.get("looked_at") is not None else NONE for one in junk]
    return [
        name,
        number(row.get("per_knock"), 1000),
        *(number(one.get("per_packet"), 1e6) for one in junk[: len(_COSTS)]),
        *met,
    ]


def _scale(part: Found, drawings: Path) -> Iterator[str]:
    yield from ("", "## 4. Many clients, many grants", "", "Knock to connected, with polling: median in ms.")
    titles = {
        "clients": "clients that are known (stanzas), of which the last one knocks",
        "grants": "grants that are open already",
    }
    for kind, words in titles.items():
        everybody: Found = part.get(kind, {})
        counts = sorted({int(count) for rows in everybody.values() for count in rows})
        yield from ("", f"By the number of {words}:", "")
        rows = [(name, *(_opened(mine.get(str(count))) for count in counts)) for name, mine in everybody.items()]
        yield from table(("", *(f"{count:,}" for count in counts)), rows)
        for name, mine in everybody.items():
            yield from failures({f"{name}, {int(count):,} {kind}": row for count, row in mine.items()})
        points = {name: _curve(mine) for name, mine in everybody.items()}
        title = f"Time to open, by the number of {kind}"
        plots.lines(drawings / f"{kind}.svg", title, (f"{kind}; a scale of powers", "ms"), points, is_logarithmic=True)
        yield from image(drawings, kind, title)


def _opened(row: Found | None) -> str:
    if row is None:
        return NONE
    if "failed" in row:
        return "failed"
    missing = row["attempts"] - row["connected"]
    return number(row["median"], 1000) + (f" ({missing} of {row['attempts']} not in 5 s)" if missing else "")


def _curve(rows: Found) -> list[tuple[float, float]]:
    return [(float(count), 1000 * row["median"]) for count, row in rows.items() if row.get("median")]


def _throughput(part: Found, drawings: Path) -> Iterator[str]:
    yield from ("", "## 5. Traffic through a grant", "")
    base = part.get("no firewall", {})
    rows = []
    for name, row in part.items():
        bits, trips = (number(figures.ratio(row.get(one), base.get(one)), 1, ".3f") for one in ("bits", "trips"))
        rows.append((name, number(row.get("bits"), 1e-9), bits, number(row.get("trips"), 1, ",.0f"), trips))
    yield from table(("", "iperf3, Gbit/s", "against none", "round trips/s", "against none"), rows)
    yield from failures(part)
    plots.bars(drawings / "throughput.svg", "iperf3 through a grant", "Gbit/s", scaled(part, "bits", 1e-9))
    yield from image(drawings, "throughput", "iperf3 through a grant")


def _idle(part: Found, drawings: Path) -> Iterator[str]:
    yield from ("", "## 6. At rest", "")
    columns = {
        "memory": (1.0, ".1f"),
        "cpu": (100.0, ".3f"),
        "wakeups": (1.0, ".1f"),
        "ready": (1.0, ".2f"),
        "client": (1000.0, ".0f"),
    }
    rows = [[name, *(number(row.get(field), *how) for field, how in columns.items())] for name, row in part.items()]
    yield from table(("", "memory (PSS), MB", "idle CPU, %", "wake-ups/s", "ready, s", "client run, ms"), rows)
    yield from failures(part)
    mine = part.get("gatekeeper", {}).get("processes")
    if mine:
        yield from ("", f"gatekeeper's processes, in MB: {', '.join(f'{one:.1f}' for one in mine)}.")
    plots.bars(drawings / "memory.svg", "Memory (PSS)", "MB", scaled(part, "memory"))
    yield from image(drawings, "memory", "Memory (PSS)")


def _formats(part: Found, _: Path) -> Iterator[str]:
    yield from ("", "## 7. A packet in our worker, by the number of fwknop's keys", "")
    columns = ("sealed_size", "looks_like_one", "knock", "replay")
    rows = [[name, *(number(row.get(field), 1e6, ".1f") for field in columns)] for name, row in part.items()]
    yield from table(
        ("", "junk of a sealed knock's size, us", "looks like one of fwknop's", "a knock", "a replay"), rows
    )
    yield from failures(part)


SECTIONS: dict[str, Callable[[Found, Path], Iterator[str]]] = {
    "knock": _knock,
    "flood": _flood,
    "cpu": _cpu,
    "scale": _scale,
    "throughput": _throughput,
    "idle": _idle,
    "formats": _formats,
}
"""By the names of the parts, in the order of the report."""
