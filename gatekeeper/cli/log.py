"""``gatekeeper log``: what the audit trail has, for people and for machines."""

from __future__ import annotations

import argparse
import contextlib
import time
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from gatekeeper.cli.options import add_rules, add_state_dir

if TYPE_CHECKING:
    from gatekeeper.model import Wanted

_LAST = 50
_LOOK_EVERY = 0.5


def _log(options: argparse.Namespace) -> None:
    from gatekeeper import admin, rules, trails
    from gatekeeper.problems import RulesError
    from gatekeeper.store.sqlite import SqliteStore

    show = trails.as_json if options.json else trails.as_text
    limit = options.lines
    if limit is None and options.since is None and options.until is None:
        limit = _LAST
    wanted = _wanted(options, None if options.source is None else admin.parse_source(options.source))
    with contextlib.closing(SqliteStore(Path(options.state_dir), create=False, is_checked=False)) as store:
        rows = store.trail(wanted, limit=-1 if limit is None else limit)[::-1]
        found = sorted(rows, key=attrgetter("at"))  # some are noted a moment late
        for entry in found:
            print(show(entry), flush=options.follow)
        if not found and not options.json and not options.follow:
            with contextlib.suppress(RulesError):  # it is the trail that is asked for
                the_rules, _ = rules.load(Path(options.rules))
                if the_rules.trail is None:
                    print("the rules have no audit trail (trail: none)")
                    return
            print("nothing")
        last = rows[-1].number if rows else 0
        while options.follow:
            time.sleep(_LOOK_EVERY)
            for entry in reversed(store.trail(wanted, after=last)):
                print(show(entry), flush=True)
                last = entry.number


def _wanted(options: argparse.Namespace, source: object) -> Wanted:
    from gatekeeper.model import Wanted

    return Wanted(
        since=options.since,
        until=options.until,
        client=options.client,
        source=source,  # type: ignore[arg-type]
        service=options.service,
        reason=options.reason,
    )


def _moment(text: str) -> float:
    """Read a time: as long ago as a duration says; or a date and time, in the zone of this machine if it has none."""
    from datetime import datetime

    from gatekeeper import duration

    try:
        seconds = duration.parse(text)
    except ValueError:
        seconds = None
    if seconds is not None:
        return time.time() - seconds
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        words = f"{text!a} is neither a duration (1h, 7d) nor a time (2026-11-28T17:06, 2026-11-28T17:06:44Z)"
        raise argparse.ArgumentTypeError(words) from None


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!a} is not a number of lines")
    return int(text)


def log(parser: argparse.ArgumentParser) -> None:
    """Set up ``log``."""
    parser.set_defaults(command=_log)
    parser.description = (
        "Prints the audit trail, the oldest first: each grant that began or ended, by whom and why; each refusal of a "
        "client that the rules know; each reload and each flush. Strangers are counted (`gatekeeper status`), and are "
        "not in it. The rules say how long it is kept (trail: {keep: 90d, size: 16MB})."
    )
    parser.add_argument("--since", metavar="TIME", type=_moment, help="from then on: 1h (ago), 7d, or a date and time")
    parser.add_argument("--until", metavar="TIME", type=_moment, help="until then")
    parser.add_argument("--client", metavar="NAME", help="of this client; (admin) is what was done by hand")
    parser.add_argument("--source", metavar="ADDRESS", help="of this address, or network")
    parser.add_argument("--service", metavar="NAME", help="of this service")
    parser.add_argument("--reason", metavar="REASON", help="for this reason (opened, closed, expired, clock-skew, ...)")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=_number, help=f"the last N (default: {_LAST}, or all --since)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="then wait for more; Ctrl-C ends it")
    parser.add_argument("--json", action="store_true", help="print JSON: one object a line")
    add_rules(parser)
    add_state_dir(parser)
