"""``gatekeeper confirm``: lets the ruleset stay that ``run --confirm`` has loaded, or puts the earlier one back."""

from __future__ import annotations

import argparse
import sys


def _confirm(options: argparse.Namespace) -> int:
    from gatekeeper.confirm import ending

    if options.revert:
        for words in ending.revert():
            print(words, flush=True)  # for who reads along, be it a pipe
        return 0
    words, caution = ending.confirm()
    print(words)
    if caution is not None:
        print(f"gatekeeper: warning: {caution}", file=sys.stderr)
    return 0


def confirm(parser: argparse.ArgumentParser) -> None:
    """Set up ``confirm``."""
    parser.set_defaults(command=_confirm)
    parser.description = (
        "Type it in a new session, opened the way you mean to come in from now on: then it shows that you can. Without "
        "it, `run --confirm` stops when its time is up, and the ruleset is what it was before. Needs root."
    )
    parser.add_argument("--revert", action="store_true", help="do not wait: put the earlier ruleset back now")
