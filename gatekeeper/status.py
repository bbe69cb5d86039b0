"""``gatekeeper status`` as text for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gatekeeper import duration


def as_text(found: dict[str, Any], listed: Sequence[dict[str, Any]], *, which: str = "") -> str:
    """Lay out what ``admin.looking`` saw, and some grants; ``which``, if those are not all."""
    state, kernel = f"run is up (process {found['pid']})" if found["running"] else "run is not up", found["kernel"]
    if "error" in kernel:
        state += f"; the kernel could not be looked at: {kernel['error']}"
    elif not kernel["ruleset"]:
        state += "; the ruleset is not in the kernel: the ports are open to all"
    elif kernel["observes"]:
        state += "; it only observes: NOTHING IS DROPPED, and what is counted as would-... would have been"
    elif not found["running"]:
        state += ": nobody new gets in"
        if kernel["backend"] == "rules":
            state += ", and what is open stays open until run is back"
    members = kernel.get("members", {})
    services = [
        (s["name"], s["port"], s["ttl"], s["max_ttl"] or "-", s["established"], str(members.get(s["name"], "?")))
        for s in found["services"]
    ]
    grants = [
        (g["source"], g["service"], g["client"], g["expires_at"] or "until closed", _left(g["seconds_left"]))
        for g in listed
    ]
    queues = [
        (str(q["number"]), q["lane"], str(q["worker"]), str(q["waiting"]), str(q["dropped"])) for q in found["queues"]
    ]
    counters = [(name, str(count)) for name, count in found["counters"].items()]
    dropped = [(name, str(count)) for name, count in sorted(kernel.get("dropped", {}).items())]
    parts = [
        state,
        *([_in_words(found["rules_trouble"])] if found.get("rules_trouble") else []),
        _table(("SERVICE", "PORT", "TTL", "MAX TTL", "ESTABLISHED", "IN KERNEL"), services),
        *([f"{found['live']:,} live grants; {which}:"] if which else []),
        _table(("SOURCE", "SERVICE", "CLIENT", "EXPIRES", "LEFT"), grants)
        if grants
        else "none"
        if which
        else "no live grants",
        _table(("REASON", "PACKETS"), counters) if counters else "nothing counted yet",
        *([_table(("DROPPED IN THE KERNEL", "PACKETS"), dropped)] if dropped else []),
    ]
    if queues:
        parts.append(_table(("QUEUE", "LANE", "WORKER", "WAITING", "DROPPED"), queues))
    return "\n\n".join(parts)


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
    return f"{words}; the rules of {trouble['in_force_since']} are in force"


def _left(seconds: int | None) -> str:
    return "-" if seconds is None else duration.show(seconds)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
