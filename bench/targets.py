"""The targets, held against what was measured. What is said of a miss comes from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench import figures

OURS = "gatekeeper"
FWKNOPD = ("fwknopd pcap", "fwknopd UDP")
Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One target, and what became of it."""

    what: str
    wanted: str
    measured: str
    is_met: bool | None
    """Nothing: it was not measured."""
    why: str = ""
    """Where it is missed: what the numbers say about it."""


def held(parts: Found) -> list[Target]:
    """Hold all targets against the results of all parts; a part that is not there was not measured."""
    return [*_knock(parts), *_flood(parts), *_cpu(parts), *_throughput(parts), *_idle(parts)]


def _at(found: Any, *path: str) -> Any:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _hold(names: tuple[str, str], value: float | None, test: Callable[[float], bool], shown: str, why: str) -> Target:
    """Hold a value against its target; ``names`` are what it is, and what is wanted."""
    if value is None:
        return Target(*names, "not measured", None)
    return Target(*names, shown, test(value), why)


def _knock(parts: Found) -> Iterator[Target]:
    mine = _at(parts, "knock", OURS, "no sleep")
    lost, count = _at(mine, "lost_first_syns"), _at(mine, "attempts")
    why = f"{count} connects were made right behind their knocks, and {lost} had to send a second SYN, or failed"
    yield _hold(("first SYNs lost", "none"), lost, lambda it: it == 0, f"{lost} of {count}", why)
    middle, polled = _at(mine, "median"), _at(parts, "knock", OURS, "polling", "median")
    written = _ms(_at(parts, "machine", "write"))
    why = f"p99 is {_ms(_at(mine, 'p99'))}; with polling the median is {_ms(polled)}"
    why += f"; each knock is on the disk before it opens, and a write to this disk takes {written}{_noise(parts)}"
    names = ("knock to connected, no sleep: median", "under 2 ms")
    yield _hold(names, middle, lambda it: it < 0.002, _ms(middle), why)
    theirs = min((one for name in FWKNOPD if (one := _at(parts, "knock", name, "no sleep", "median"))), default=None)
    times = figures.ratio(theirs, middle)
    why = f"fwknopd takes {_ms(theirs)}, which is TCP's second SYN, so this asks for {_ms((theirs or 0) / 500)} here"
    names = ("the same, against the faster fwknopd as shipped", "500 times")
    yield _hold(names, times, lambda it: it >= 500, f"{times or 0:.0f} times", why)


def _heaviest(rows: Any, shape: str) -> Found | None:
    fitting = [one for one in rows or [] if one.get("shape") == shape and one.get("asked") is None and "rate" in one]
    return max(fitting, key=lambda one: float(one["rate"]), default=None)


def _flood(parts: Found) -> Iterator[Target]:
    mine = _heaviest(_at(parts, "flood", OURS), "random")
    share = _at(mine, "within_1s")
    names = ("good knocks within 1 s, heaviest random junk", "100%")
    yield _hold(names, share, lambda it: it == 1, f"{_percent(share)} at {_rate(mine)}", _lost(mine))
    for name in FWKNOPD:
        row = _heaviest(_at(parts, "flood", name), "random")
        theirs = _at(row, "within_1s")
        why = f"at {_rate(row)} it still finds {_percent(theirs)} of the good knocks; gatekeeper had {_rate(mine)}"
        shown = f"{_percent(theirs)} at {_rate(row)}"
        yield _hold((f"the same: {name}", "under 20%"), theirs, lambda it: it < 0.2, shown, why)
    tags = _heaviest(_at(parts, "flood", OURS), "captured tags")
    again = _at(tags, "within_3s_with_retries")
    names = ("good knocks within 3 s with retries, captured tags", "95%")
    yield _hold(names, again, lambda it: it >= 0.95, f"{_percent(again)} at {_rate(tags)}", _lost(tags))


def _lost(row: Found | None) -> str:
    looked_at, arrived = _at(row, "looked_at"), _at(row, "arrived")
    if not arrived or looked_at is None:
        return "what met the worker was not counted"
    return (
        f"of {arrived:,} packets that arrived {looked_at:,} met the worker, which is what it could look at; good "
        "knocks are lost among the others"
    )


def _cpu(parts: Found) -> Iterator[Target]:
    mine = _at(parts, "cpu", "contestants", OURS)
    shapes = ("random", "captured tags", "captured tags, spoofed")
    costs = {shape: _at(mine, shape, "per_packet_looked_at") for shape in shapes}
    known = {shape: one for shape, one in costs.items() if one is not None}
    worst = max(known, key=lambda shape: known[shape], default="any")
    value = known.get(worst)
    alone = figures.ratio(1, _at(parts, "cpu", "triage", worst))
    why = f"the gate alone takes {_us(alone)} of it; the rest is the queue and the verdict{_noise(parts)}"
    names = (f"CPU for each packet of junk that reaches Python ({worst})", "under 10 us")
    yield _hold(names, value, lambda it: it < 10e-6, _us(value), why)
    triage = _at(parts, "cpu", "triage") or {"any": None}
    for shape, rate in triage.items():
        why = f"each takes {_us(figures.ratio(1, rate))}{_noise(parts)}"
        names = (f"triage by one worker: {shape}", "100,000/s")
        yield _hold(names, rate, lambda it: it >= 100_000, f"{rate or 0:,.0f}/s", why)


def _throughput(parts: Found) -> Iterator[Target]:
    for field, what in (("bits", "iperf3"), ("trips", "small round trips")):
        base, mine = _at(parts, "throughput", "no firewall", field), _at(parts, "throughput", OURS, field)
        share = figures.ratio(mine, base)
        spread = _at(parts, "throughput", "no firewall", f"all_{field}") or [1]
        steady = min(spread) / max(spread)
        why = f"of {len(spread)} rounds with no firewall, the slowest was {steady:.3f} of the fastest{_noise(parts)}"
        names = (f"granted traffic against no firewall: {what}", "0.98")
        yield _hold(names, share, lambda it: it >= 0.98, f"{share or 0:.3f}", why)


def _idle(parts: Found) -> Iterator[Target]:
    mine = _at(parts, "idle", OURS)
    wakeups, cpu, memory, ready = (_at(mine, name) for name in ("wakeups", "cpu", "first_and_worker", "ready"))
    count = len(_at(mine, "processes") or [])
    why = f"there are {count} processes, each with a clock of its own"
    yield _hold(("idle: wake-ups a second", "under 5"), wakeups, lambda it: it < 5, f"{wakeups or 0:.1f}", why)
    why = f"each of {wakeups or 0:.1f} wake-ups a second takes {_us(figures.ratio(cpu, wakeups))}{_noise(parts)}"
    yield _hold(("idle: CPU", "under 0.1%"), cpu, lambda it: it < 0.001, f"{100 * (cpu or 0):.3f}%", why)
    why = f"all {count} processes together have {_at(mine, 'memory') or 0:.0f} MB"
    names = ("memory (PSS): supervisor and one worker", "under 80 MB")
    yield _hold(names, memory, lambda it: it < 80, f"{memory or 0:.0f} MB", why)
    why = f"a run of the client, which is mostly Python's own start, took {_ms(_at(mine, 'client'))}{_noise(parts)}"
    yield _hold(("ready", "under 1.5 s"), ready, lambda it: it < 1.5, f"{ready or 0:.2f} s", why)


def _noise(parts: Found) -> str:
    load, cpus = _at(parts, "machine", "load"), _at(parts, "machine", "cpus")
    if not load or not cpus or load < cpus / 2:
        return ""
    return f"; others kept the machine busy (load {load:.1f} on {cpus} CPUs at the start)"


def _ms(seconds: float | None) -> str:
    return "nothing" if seconds is None else f"{1000 * seconds:.2f} ms"


def _us(seconds: float | None) -> str:
    return "nothing" if seconds is None else f"{1e6 * seconds:.1f} us"


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.0f}%"


def _rate(row: Found | None) -> str:
    return f"{_at(row, 'rate') or 0:,.0f} packets/s"
