"""The commands that have to do with booting: what they print, and the arguments that they take."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from pathlib import Path

from gatekeeper.cli.options import add_confirm, add_grant_me, add_log_format, add_rules, add_state_dir
from gatekeeper.errors import UsageError


def _load(options: argparse.Namespace) -> None:
    from gatekeeper import load as loading
    from gatekeeper import logs

    listener = logs.start_logging(options.log_format)
    try:
        loading.load(Path(options.rules), Path(options.state_dir))
    finally:
        listener.stop()


def _install(options: argparse.Namespace) -> None:
    from gatekeeper import installing

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the session that this is typed in may be one that is closed
    if options.confirm is not None and (options.no_start or options.root):
        raise UsageError("what is not started cannot be confirmed", "leave out --confirm")
    order = installing.Order(
        Path(options.rules),
        Path(options.state_dir),
        _root(options.root),
        starts=not options.no_start,
        grants_me=options.grant_me,
        confirm_within=options.confirm,
    )
    installing.install(order, _say)


def _uninstall(options: argparse.Namespace) -> None:
    from gatekeeper import installing

    installing.uninstall(_root(options.root), _say)


def _root(folder: str | None) -> Path | None:
    return None if folder is None else Path(folder)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more: that must not leave the work half done
        print(line, file=sys.stderr if line.startswith("warning:") else sys.stdout, flush=True)


# -- arguments


def load(parser: argparse.ArgumentParser) -> None:
    """Set up ``load``."""
    parser.set_defaults(command=_load)
    parser.description = (
        "Closes the ports, lets in whoever has a grant, and ends: what must be done before the network comes "
        "up. If the grants cannot be read, the ports are closed all the same, and the exit status is 1. "
        "Refuses while run is up, which keeps both. Needs root (CAP_NET_ADMIN)."
    )
    add_rules(parser)
    add_state_dir(parser)
    add_log_format(parser)


def install(parser: argparse.ArgumentParser) -> None:
    """Set up ``install``."""
    parser.set_defaults(command=_install)
    parser.description = (
        "Checks the rules; writes gatekeeper.service and gatekeeper-early.service; enables and starts them; says each "
        "step. May be done again, after an upgrade or when the rules name another variant of iptables. Needs root and "
        "systemd. It closes ports; the ssh session in which it is typed gets a grant for an hour."
    )
    add_rules(parser)
    add_state_dir(parser)
    parser.add_argument("--no-start", action="store_true", help="start nothing now: both start with the next boot")
    add_confirm(parser, "it is stopped")
    add_grant_me(parser)
    _add_root(parser)


def uninstall(parser: argparse.ArgumentParser) -> None:
    """Set up ``uninstall``."""
    parser.set_defaults(command=_uninstall)
    parser.description = (
        "Stops and removes the units and takes gatekeeper out of the kernel: THE PORTS ARE OPEN THEN. The rules and "
        "the state directory (grants, the server's key) stay."
    )
    _add_root(parser)


def _add_root(parser: argparse.ArgumentParser) -> None:
    text = "only write (or remove) the units below this folder: for packages"
    parser.add_argument("--root", metavar="DIR", help=text)
