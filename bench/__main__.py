"""Runs the benchmark: `scripts/bench [--quick] [--only PART]... [--output FOLDER]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench import cpu, flood, formats, idle, knock, machine, scale, throughput
from bench.bed import ROOT, BenchError
from bench.clock import Clock
from bench.report import write
from bench.runs import FULL, QUICK, Sizes
from bench.targets import held
from gatekeeper.demo.interrupts import Interrupts
from gatekeeper.errors import GatekeeperError

_PARTS = {
    "knock": knock.measure,
    "flood": flood.measure,
    "cpu": cpu.measure,
    "throughput": throughput.measure,
    "idle": idle.measure,
    "formats": formats.measure,
    "scale": scale.measure,  # last, for it can fill any time
}
_LIMITS = {False: 880.0, True: 168.0}
"""Seconds for all parts, by whether it is quick."""
_CLOSING = 5.0
"""Seconds in which the last part may end what it has begun."""


_WORDS = {True: "met", False: "MISSED", None: "not measured"}


def main() -> int:
    """Measure, and write the report; also of what was measured before a Ctrl-C."""
    options = _options()
    if os.geteuid() != 0:
        print("bench: error: making network namespaces needs root: sudo scripts/bench", file=sys.stderr)
        return 1
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found: dict[str, Any] = {"quick": options.quick, "machine": machine.describe(), "left_out": {}, "failed": {}}
    whole = Clock(_LIMITS[options.quick])
    status = 0
    with Interrupts() as interrupts:
        try:
            with interrupts.allowed():
                _measure(QUICK if options.quick else FULL, options.only or list(_PARTS), whole, found)
        except KeyboardInterrupt:
            found["failed"]["run"] = "it was interrupted"
            status = 130
        found["seconds"] = whole.spent()
        path = write(options.output, found)
    for one in held(found):
        print(f"{_WORDS[one.is_met]:12}  {one.what}: {one.measured}")
    print(f"{path}, after {whole.spent():.0f} s")
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=(
            "Runs gatekeeper, fwknopd and knockd on the same work, in network namespaces of their own, and writes "
            "docs/benchmarks.md, with plots and the raw numbers. In 15 minutes at the most."
        ),
    )
    parser.add_argument("--quick", action="store_true", help="in 3 minutes at the most, with fewer of everything")
    parser.add_argument("--only", action="append", choices=_PARTS, help="this part only; more than once: these")
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=ROOT / "docs", help="default: docs")
    return parser.parse_args()


def _measure(sizes: Sizes, parts: list[str], whole: Clock, found: dict[str, Any]) -> None:
    budgets = dict(sizes.budgets)
    for name, measure in _PARTS.items():
        if name not in parts:
            continue
        clock = Clock(min(budgets[name], whole.left() - _CLOSING))
        print(f"{name}: up to {clock.seconds:.0f} s", flush=True)
        try:
            measure(sizes, clock, found.setdefault(name, {}))
        except (BenchError, GatekeeperError, OSError) as error:
            found["failed"][name] = " ".join(str(error).split())
            print(f"{name}: {error}", file=sys.stderr)
        found["left_out"][name] = clock.left_out
        print(f"{name}: {time.monotonic() - clock.begin:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
