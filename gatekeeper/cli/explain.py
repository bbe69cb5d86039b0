"""``gatekeeper explain``: its arguments, and how it prints answers while they come."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from pathlib import Path

from gatekeeper.cli.options import add_rules, add_state_dir
from gatekeeper.errors import UsageError


def _explain(options: argparse.Namespace) -> None:
    from gatekeeper import colours, progress
    from gatekeeper.explain import explaining, lines

    _need_scapy()
    counts: Counter[str] = Counter()
    is_seen = sys.stdout is not None and sys.stdout.isatty()
    coloured = colours.suit(sys.stdout)
    rules, state_dir = Path(options.rules), Path(options.state_dir)
    with explaining(options.capture, rules, state_dir, at=options.at) as found, contextlib.ExitStack() as stack:
        for words, hint in found.doubts:
            print(f"gatekeeper: warning: {words}\ngatekeeper: hint: {hint}", file=sys.stderr)
        # on a terminal the answers show how far it is; a bar between them would be in their way
        tell = None if is_seen else stack.enter_context(progress.shown("reading the capture"))
        for judged in found.answers:
            counts[judged.reason] += 1
            print(lines.as_json(judged) if options.json else lines.as_text(judged, coloured=coloured))
            if tell is not None:
                tell(found.progress())
        if not options.json:
            print(*lines.summary(counts), sep="\n")


def _need_scapy() -> None:
    from importlib.util import find_spec

    if find_spec("scapy") is None:
        hint = "pip install 'gatekeeper[server]', or scripts/setup; or read the capture on the server"
        raise UsageError("this is an installation for clients: it lacks scapy", hint)


def _moment(text: str) -> float:
    """Read a time: Unix seconds, or as the log writes it; without a zone, in the one of this machine."""
    from datetime import datetime

    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!a} is not a time (2026-11-28T17:06:44Z, or Unix seconds)") from None


def explain(parser: argparse.ArgumentParser) -> None:
    """Set up ``explain``."""
    parser.set_defaults(command=_explain)
    parser.description = (
        "Runs a capture (pcap or pcapng, also gzipped) through the gate, offline and without root, and says of each "
        "packet what becomes of it and why. Each is judged as of when it was captured; what knocks in the capture "
        "open is open for the packets behind them. Nothing is written, and no payload is shown. "
        "The server's key comes from the rules or the state directory."
    )
    parser.add_argument("capture", metavar="CAPTURE", help="a file; - is standard input")
    parser.add_argument("--at", metavar="TIME", type=_moment, help="judge all packets as of this time")
    parser.add_argument("--json", action="store_true", help="print JSON: one object a line")
    add_rules(parser)
    add_state_dir(parser)
