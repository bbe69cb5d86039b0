"""``gatekeeper import``: its arguments, and how it writes what was made, and says what has no equal."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys

from gatekeeper.errors import ConversionError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gatekeeper.migrate.draft import Draft
    from gatekeeper.migrate.note import Notes

_DEFAULT = {"fwknop": "/etc/fwknop/access.conf", "knockd": "/etc/knockd.conf"}
_SERVICE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,15})=(tcp|udp)/(\d{1,5})", re.ASCII)
_SHOWN = 200
"""Notes that are printed; the rest is counted."""


def _import(options: argparse.Namespace) -> int:
    from gatekeeper.migrate import convert

    file = options.file or _DEFAULT[options.daemon]
    services = dict(options.service)
    if len(services) < len(options.service):
        raise UsageError("a service is named twice by --service", "one name is one port")
    if options.daemon == "knockd" and options.fwknopd_conf is not None:
        raise UsageError("--fwknopd-conf is for `gatekeeper import fwknop`")
    if options.output is not None and os.path.lexists(options.output):
        raise UsageError(f"{options.output} exists, and is not overwritten", "name another file with -o")
    if options.daemon == "fwknop":
        draft, notes = convert.fwknop(file, services, options.fwknopd_conf)
    else:
        draft, notes = convert.knockd(file, services)
    _tell(notes)
    if not draft.clients:
        raise ConversionError(f"nothing in {file} has an equal here", "what is above says why, and what to do")
    text = draft.text()
    if options.output is None:
        print(text, end="")
    else:
        _write(options.output, text)
    return _sum_up(draft, notes, text, options.output)


def _tell(notes: Notes) -> None:
    for note in notes.kept[:_SHOWN]:
        print(note, file=sys.stderr)
        if note.hint:
            print(f"  hint: {note.hint}", file=sys.stderr)
    if notes.count > _SHOWN:
        print(f"... and {notes.count - _SHOWN} more", file=sys.stderr)


def _write(path: str, text: str) -> None:
    """Write a new file that nobody else can read; whole, or not at all."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists, and is not overwritten", "name another file with -o") from None
    except OSError as error:
        raise ConversionError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise ConversionError(f"cannot write {path}: {error.strerror}") from error


def _sum_up(draft: Draft, notes: Notes, text: str, output: str | None) -> int:
    """Say what was made, whether it can be used as it is, and what to do next."""
    from gatekeeper.migrate import convert

    clients, services = len(draft.clients), len(draft.services)
    without = f"; {notes.count} note{'s'[: notes.count != 1]} above" if notes.count else ""
    print(
        f"gatekeeper: {clients} client{'s'[: clients != 1]}, {services} service{'s'[: services != 1]}{without}",
        file=sys.stderr,
    )
    problems = convert.problems(text, output or "rules.yaml")
    for problem in problems:
        print(problem, file=sys.stderr)
        if problem.hint:
            print(f"  hint: {problem.hint}", file=sys.stderr)
    if problems:
        print("gatekeeper: error: it cannot be used as it is: mend what is named above", file=sys.stderr)
        return 1
    if output is None:
        print("gatekeeper: hint: it has keys in it: -o FILE writes it for you alone to read", file=sys.stderr)
    ports = ", ".join(str(service.ports) for service in draft.services.values())
    print(
        f"gatekeeper: hint: gatekeeper only takes access away: your own firewall must let {ports} pass for everybody "
        "(docs/migrating.md), but not before gatekeeper guards",
        file=sys.stderr,
    )
    return 0


# -- arguments


def import_(parser: argparse.ArgumentParser) -> None:
    """Set up ``import``."""
    parser.set_defaults(command=_import)
    parser.description = (
        "Prints a rules.yaml with the same effect as the configuration of fwknopd or knockd, and says, line by line, "
        "what has no equal and what to do about it. Changes nothing. docs/migrating.md goes through it step by step."
    )
    parser.add_argument("daemon", choices=tuple(_DEFAULT), help="whose configuration it is")
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help=f"the file (default: {_DEFAULT['fwknop']}, or {_DEFAULT['knockd']})"
    )
    parser.add_argument(
        "--service",
        metavar="NAME=tcp/N",
        type=_service,
        action="append",
        default=[],
        help="call this port so; and open it for those who may ask for any port (repeatable)",
    )
    parser.add_argument(
        "--fwknopd-conf", metavar="FILE", help="fwknopd.conf (default: the one beside FILE, if there is one)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write a new file, 0600, in place of printing")


def _service(text: str) -> tuple[str, tuple[str, int]]:
    match = _SERVICE.fullmatch(text)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!a} is not a service: write ssh=tcp/22")
    return match[1], (match[2], int(match[3]))
