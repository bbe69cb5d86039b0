"""``gatekeeper doctor``: its arguments, and how it shows what was found."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gatekeeper.cli.options import add_rules, add_state_dir


def _doctor(options: argparse.Namespace) -> int:
    from gatekeeper.doctor import examine, report

    found = examine(Path(options.rules), Path(options.state_dir))
    if options.json:
        print(json.dumps(report.as_json(found), indent=2))
    else:
        print(report.as_text(found, verbose=options.verbose))
    return int(report.is_wrong(found))


def doctor(parser: argparse.ArgumentParser) -> None:
    """Set up ``doctor``."""
    parser.set_defaults(command=_doctor)
    parser.description = (
        "Looks for what can keep a door open, or shut: kernel, ruleset, other people's rules, queue, files, clock. "
        "Changes nothing. Exit 1 if something is wrong, otherwise 0. Without root it says what it could not look at."
    )
    add_rules(parser)
    add_state_dir(parser)
    parser.add_argument("--verbose", action="store_true", help="also show what is as it should be")
    parser.add_argument("--json", action="store_true", help="print JSON (all findings)")
