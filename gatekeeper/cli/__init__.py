"""The command line: reads arguments, calls one room, prints. The only room that prints errors.

Exit status: 0 fine, 1 an expected error (with a hint, where there is one), 2 wrong usage, 3 a bug.
Of the commands only the one that is called is set up, and it imports what it needs: ``knock`` must start
fast, because ssh waits for it.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from gatekeeper import __version__
from gatekeeper.errors import GatekeeperError

TYPE_CHECKING = False  # as the one of typing, which takes 5 ms
if TYPE_CHECKING:
    import argparse

    from gatekeeper.problems import RulesError

_COMMANDS = {
    "run": ("server", "guard the services of the rules, in the foreground"),
    "load": ("units", "put the closed ruleset and the live grants in place, and end (for the early unit)"),
    "install": ("units", "have systemd run gatekeeper, from before the network comes up"),
    "uninstall": ("units", "take the units away, and gatekeeper out of the kernel: the ports are open then"),
    "check": ("server", "check the rules; show every problem at once"),
    "diff": ("reload", "show what reload would change, in the rules and in the kernel"),
    "reload": ("reload", "have run go over to the rules file as it is now"),
    "client": ("clients", "add, remove or list clients in the rules file"),
    "ruleset": ("server", "print what run would load into the kernel"),
    "status": ("server", "show services, live grants and counters"),
    "grant": ("server", "let a source in by hand"),
    "revoke": ("server", "end grants, and cut what is open"),
    "doctor": ("doctor", "look for what can keep a door open, or shut, and say what to do"),
    "explain": ("explain", "say of each packet of a capture what becomes of it, and why"),
    "confirm": ("confirm", "let the ruleset stay that `run --confirm` has loaded"),
    "flush": ("server", "take all of gatekeeper out of the kernel: the ports are open then"),
    "invite": ("server", "print what a new client needs to know of this server, in one line"),
    "reset-floor": ("server", "set back the replay floor of a client that a wrong clock has pushed ahead"),
    "join": ("client", "take an invite: make a key and a profile, and print the line for rules.yaml"),
    "knock": ("client", "send a knock"),
    "connect": ("client", "knock, connect, and join the connection to standard input and output (for ssh)"),
    "import": ("migrating", "make rules.yaml of the configuration of fwknopd or knockd"),
    "keygen": ("client", "make a private key, and print its public half"),
    "pubkey": ("client", "print the public half of a private key"),
    "demo": ("server", "watch the real thing at work, in network namespaces of its own"),
}
_FUNCTIONS = {"import": "import_"}
"""What sets a command up whose name Python keeps for itself."""
_SHORT = ("knock", "connect")
"""What ssh waits for: as docs/client.md has it for ssh_config, it goes without argparse, which takes 10 ms."""
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show must not cost the rest
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _options(words)
        command: Callable[[argparse.Namespace], int | None] = options.command
        status = command(options) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except Exception as error:  # noqa: BLE001  (the last door: a bug must say so)
        status = _tell(error)
    return status


def _options(words: Sequence[str]) -> argparse.Namespace:
    """Set up the one command that is called; all of them only where help, or an error, must list them."""
    if words and words[0] in _SHORT:
        from gatekeeper.cli import knocking

        if (options := knocking.short_way(words)) is not None:
            return options
    import argparse

    if words and words[0] in _COMMANDS:
        name = words[0]
        parser = argparse.ArgumentParser(prog=f"gatekeeper {name}")
        module = importlib.import_module(f"gatekeeper.cli.{_COMMANDS[name][0]}")
        getattr(module, _FUNCTIONS.get(name) or name.replace("-", "_"))(parser)
        if name == "knock":  # steps may stand behind options
            return parser.parse_intermixed_args(words[1:])
        return parser.parse_args(words[1:])
    parser = argparse.ArgumentParser(
        prog="gatekeeper",
        description="Ports that are closed and silent to everyone, and open at a knock to whoever holds a key.",
        epilog="`gatekeeper COMMAND --help` explains a command. Start with `gatekeeper demo`.",
    )
    parser.add_argument("--version", action="version", version=f"gatekeeper {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (_, text) in _COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser.parse_args(words)


def _tell(error: Exception) -> int:
    """Say what went wrong; return the exit status."""
    if isinstance(error, GatekeeperError):
        from gatekeeper.problems import RulesError

        if isinstance(error, RulesError):
            _show_problems(error)
            return 1
        _complain(f"error: {error.message}")
        if error.hint:
            _complain(f"hint: {error.hint}")
        return 1
    if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of the output
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has seen enough
            return 0
        print(f"gatekeeper: error: the output could not be written: {error.strerror}", file=sys.stderr)
        return 1
    import traceback

    traceback.print_exception(error)
    print("gatekeeper: error: this is a bug in gatekeeper; please report what is above", file=sys.stderr)
    return 3


def _complain(words: str) -> None:
    if sys.stderr is not None:  # it may be closed; then print would take standard output
        print(f"gatekeeper: {words}", file=sys.stderr)


def _show_problems(error: RulesError) -> None:
    for problem in error.problems:
        print(problem, file=sys.stderr)
        if problem.hint:
            print(f"  hint: {problem.hint}", file=sys.stderr)
    count = f"{error.count} problem{'s'[: error.count != 1]}"
    shown = sum(not problem.is_warning for problem in error.problems)
    more = f" (the first {shown} are shown)" if shown < error.count else ""
    print(f"gatekeeper: error: {count} in the rules{more}; nothing was changed", file=sys.stderr)
