"""Findings as text for people, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gatekeeper.doctor.finding import AS_ROOT, Finding, Level

Findings = Mapping[str, Sequence[Finding]]
"""By area."""
_WORDS = {Level.OK: "ok", Level.NOTE: "note", Level.WARNING: "WARNING", Level.WRONG: "WRONG", Level.UNKNOWN: "unknown"}
_INDENT = " " * 11


def as_text(found: Findings, *, verbose: bool) -> str:
    """Lay findings out by area; those that are ok only if asked for."""
    lines: list[str] = []
    for area, findings in found.items():
        shown = [one for one in findings if verbose or one.level is not Level.OK]
        if shown:
            lines.append(f"{area}:")
            for one in shown:
                lines.extend(_lines(one, verbose=verbose))
    if lines:
        lines.append("")
    lines.append(_sum([one for findings in found.values() for one in findings], verbose=verbose))
    return "\n".join(_escaped(line) for line in "\n".join(lines).split("\n"))


def as_json(found: Findings) -> dict[str, Any]:
    """Write findings, those that are ok too, as what json.dumps takes."""
    everything = [{"area": area, **asdict(one)} for area, findings in found.items() for one in findings]
    return {"wrong": is_wrong(found), "findings": everything}


def is_wrong(found: Findings) -> bool:
    """Whether anything is wrong."""
    return any(one.level is Level.WRONG for findings in found.values() for one in findings)


def _lines(one: Finding, *, verbose: bool) -> Iterator[str]:
    yield f"  {_WORDS[one.level]:8} {one.what}"
    if one.level is Level.UNKNOWN and one.hint == AS_ROOT and not verbose:
        return  # the sum says it once
    if one.detail:
        yield f"{_INDENT}{one.detail}"
    if one.hint:
        yield f"{_INDENT}hint: {one.hint}"


def _sum(findings: Sequence[Finding], *, verbose: bool) -> str:
    numbers = {level: sum(one.level is level for one in findings) for level in Level}
    parts = [f"{numbers[Level.WRONG]} wrong", _count(numbers[Level.WARNING], "warning")]
    if numbers[Level.UNKNOWN]:
        parts.append(f"{numbers[Level.UNKNOWN]} could not be looked at")
    parts += [_count(numbers[Level.NOTE], "note"), f"{numbers[Level.OK]} ok"]
    needs_root = f"\nhint: {AS_ROOT}" if any(one.hint == AS_ROOT for one in findings) else ""
    more = "" if verbose or not numbers[Level.OK] else " (--verbose shows them)"
    return ", ".join(parts) + more + needs_root


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s'[: number != 1]}"


def _escaped(text: str) -> str:
    """Show what a terminal would obey (a rule's comment may hold anything)."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
