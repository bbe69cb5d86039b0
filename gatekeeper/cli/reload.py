"""The commands for rules that were edited: what they print, and the arguments that they take."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gatekeeper.cli.options import add_rules, add_state_dir


def _reload(options: argparse.Namespace) -> None:
    from gatekeeper import reload as reloading

    print(reloading.reload(Path(options.rules), Path(options.state_dir)))


def _diff(options: argparse.Namespace) -> None:
    from gatekeeper import reload as reloading

    found = reloading.diff(Path(options.rules), Path(options.state_dir))
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
        return
    for line in found.as_lines():
        print(line)


def reload(parser: argparse.ArgumentParser) -> None:
    """Set up ``reload``."""
    parser.set_defaults(command=_reload)
    parser.description = (
        "Has run go over to the rules file as it is now. Exit 0 when all of it works by the new rules; 1, with every "
        "problem, when they cannot be used: then nothing has changed. Grants and open connections live on; those that "
        "the new rules do not give end. A changed section firewall takes a restart."
    )
    add_rules(parser)
    add_state_dir(parser)


def diff(parser: argparse.ArgumentParser) -> None:
    """Set up ``diff``."""
    parser.set_defaults(command=_diff)
    parser.description = (
        "Shows what reload would change, in the rules and in the kernel, and changes nothing. Keys are not shown. Exit "
        "0 whether or not there are differences; 1 when the file cannot be used."
    )
    add_rules(parser)
    add_state_dir(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
