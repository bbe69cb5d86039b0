"""Writes the report: tables in Markdown, plots, and the raw numbers beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.bed import as_json
from bench.sections import SECTIONS
from bench.tables import table
from bench.targets import Target, held

_METHOD = Path(__file__).with_name("method.md")
_WORDS = {True: "met", False: "**missed**", None: "not measured"}
_KINDS = {True: "a quick run, whose numbers are few (`scripts/bench` makes better ones)", False: "a full run"}


def write(folder: Path, found: dict[str, Any]) -> Path:
    """Write ``benchmarks.md``, ``benchmarks.json`` and the folder of plots; return the first."""
    drawings = folder / "benchmarks"
    drawings.mkdir(parents=True, exist_ok=True)
    for old in drawings.glob("*.svg"):
        old.unlink()
    (folder / "benchmarks.json").write_text(as_json(found))
    path = folder / "benchmarks.md"
    path.write_text("\n".join(_lines(found, drawings)).rstrip() + "\n")
    owner = folder.stat()
    for one in (path, folder / "benchmarks.json", drawings, *drawings.iterdir()):
        os.chown(one, owner.st_uid, owner.st_gid)  # root's files in a user's checkout are a nuisance to remove
    return path


def _lines(found: dict[str, Any], drawings: Path) -> Iterator[str]:
    yield from _head(found)
    yield from _targets(held(found))
    for part, section in SECTIONS.items():
        yield from section(found.get(part) or {}, drawings)
        if left_out := found["left_out"].get(part):
            yield from ("", f"Left out, for want of time: {'; '.join(left_out)}.")
        if wrong := found["failed"].get(part):
            yield from ("", f"It ended early: {wrong}.")
    yield from ("", _METHOD.read_text())


def _head(found: dict[str, Any]) -> Iterator[str]:
    machine = found["machine"]
    hardware = f"{machine['cpus']} CPUs ({machine['cpu']}), {machine['memory']} GB"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    yield "# Benchmarks"
    yield ""
    yield "`scripts/bench` writes this page, and [the raw numbers](benchmarks.json). Do not edit it: run it again."
    yield ""
    yield f"- {machine['date']}, {_KINDS[found['quick']]}; it took {found['seconds']:.0f} s."
    yield f"- {machine['system']}, {machine['kernel']}; {hardware}; load {machine['load']:.1f} at the start; "
    yield f"  a page is on the disk after {1000 * machine['write']:.2f} ms (fdatasync, median)."
    yield f"- gatekeeper {machine['gatekeeper']} on Python {machine['python']}; {packages}."
    yield ""
    yield "Figures move from machine to machine; the ratios of one run are the point."
    if wrong := found["failed"].get("run"):
        yield from ("", f"**Not complete: {wrong}.**")


def _targets(targets: Sequence[Target]) -> Iterator[str]:
    yield from ("", "## Targets", "")
    rows = [(one.what, one.wanted, one.measured, _WORDS[one.is_met]) for one in targets]
    yield from table(("what", "target", "measured", ""), rows)
    missed = [one for one in targets if one.is_met is False]
    if missed:
        yield from ("", "What the numbers say about those that are missed:", "")
        yield from (f"- {one.what}: {one.measured}; the target is {one.wanted}. {_why(one)}" for one in missed)


def _why(target: Target) -> str:
    return f"Why: {target.why}."
