"""Arguments that several commands take, and the types of arguments."""

from __future__ import annotations

import argparse
import os
import sys

from gatekeeper import older, sizes

RULES = "/etc/gatekeeper/rules.yaml"
STATE_DIR = "/var/lib/gatekeeper"


class Older(argparse.Action):
    """An option by an older name: it does what the newer one does, and says what that is."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, _values: object, name: str | None = None
    ) -> None:
        """Set it."""
        if sys.stderr is not None:  # it may be closed; then print would take standard output
            print(f"gatekeeper: warning: {older.words(name or '')}", file=sys.stderr)
        setattr(namespace, self.dest, True)


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Add ``--rules``."""
    default = os.environ.get("GATEKEEPER_RULES") or RULES
    text = f"rules file (default: {RULES}, or $GATEKEEPER_RULES)"
    parser.add_argument("--rules", metavar="FILE", default=default, help=text)


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--state-dir``."""
    default = os.environ.get("GATEKEEPER_STATE_DIR") or STATE_DIR
    text = f"where grants are kept (default: {STATE_DIR}, or $GATEKEEPER_STATE_DIR)"
    parser.add_argument("--state-dir", metavar="DIR", default=default, help=text)


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-format``."""
    text = "log lines (default: auto, which is journal where they go to systemd's journal, and text anywhere else)"
    parser.add_argument("--log-format", choices=("auto", "text", "json", "journal"), default="auto", help=text)


def port(text: str) -> int:
    """Read a port number."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!a} is not a port (1 to 65535)")
    return int(text)


def seconds_to_confirm(text: str) -> int:
    """Read for how long ``--confirm`` waits: time to open a new session, and not so long that it is forgotten."""
    if not text.isdecimal() or not 5 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text!a} is not a number of seconds from 5 to 3600")
    return int(text)


def seconds_between(text: str) -> float:
    """Read how often ``--watch`` looks: not so often that nothing else is done."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!a} is not a number of seconds from 0.2 to 3600")
    return seconds


def size(text: str) -> int:
    """Read how many bytes a recording may have: so many that there is something in it, and not all of a disk."""
    try:
        return sizes.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_confirm(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--confirm``; ``what`` happens besides when nobody does."""
    text = f"unless `gatekeeper confirm` comes in time (5 to 3600 s), {what}, and the ruleset is put back as it was"
    parser.add_argument("--confirm", metavar="SECONDS", type=seconds_to_confirm, help=text)


def add_grant_me(parser: argparse.ArgumentParser) -> None:
    """Add ``--no-grant-me``."""
    text = "give the address of the ssh session that this is typed in no grant (default: one for an hour)"
    parser.add_argument("--no-grant-me", dest="grant_me", action="store_false", help=text)
