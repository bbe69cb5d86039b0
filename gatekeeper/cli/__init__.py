"""The command line: reads arguments, calls one room, prints. The only room that prints errors.

Exit status: 0 fine, 1 an expected error (with a hint, where there is one), 2 wrong usage, 3 a bug, 130 Ctrl-C.
Of the commands only the one that is called is set up, and it imports what it needs: ``knock`` must start
fast, because ssh waits for it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence

from gatekeeper.errors import GatekeeperError

TYPE_CHECKING = False  # as the one of typing, which takes 5 ms
if TYPE_CHECKING:
    import argparse

    from gatekeeper.problems import RulesError

_SHORT = ("knock", "connect")
"""What ssh waits for: as docs/client.md has it for ssh_config, it goes without argparse, which takes 10 ms."""
_INTERRUPTED = 130
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show must not cost the rest
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(words)
        return _flush() or status
    except SystemExit:  # argparse has shown help, or what is wrong
        if lost := _flush():
            return lost
        raise
    finally:
        _drop_unread()


def _run(words: Sequence[str]) -> int:
    try:
        options = _options(words)
        command: Callable[[argparse.Namespace], int | None] = options.command
        return command(options) or 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the last door: a bug must say so)
        return _tell(error)


def _flush() -> int:
    """Have what was printed written while an error can still be told; return the exit status of that."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _tell(error)
    return 0


def _drop_unread() -> None:
    """Leave nothing for Python's own exit, whose status would be another, of an error that nobody can read."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _options(words: Sequence[str]) -> argparse.Namespace:
    """Set up the one command that is called; all of them only where help, or an error, must list them."""
    if words and words[0] in _SHORT:
        from gatekeeper.cli import knocking

        if (options := knocking.short_way(words)) is not None:
            return options
    from gatekeeper.cli import commands

    return commands.called(words)


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
    if isinstance(error, ModuleNotFoundError) and not (error.name or "gatekeeper").startswith("gatekeeper"):
        _complain(f"error: this installation lacks {error.name}, which that command needs")
        _complain("hint: pip install 'gatekeeper[server]' has all that a server needs")
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
