"""Reads the files of fwknopd or knockd, and makes a draft of rules.yaml: the one room of these that does I/O."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

from gatekeeper import rules
from gatekeeper.errors import ConversionError
from gatekeeper.migrate import doors, fwknopd, lines
from gatekeeper.migrate import fwknop as stanzas
from gatekeeper.migrate import knockd as knockd_conf
from gatekeeper.migrate.access import AccessReader
from gatekeeper.migrate.draft import Draft
from gatekeeper.migrate.note import Notes
from gatekeeper.problems import Problem, RulesError
from gatekeeper.settings import Ports, Transport

_SERVER = "fwknopd.conf"
_MOST_IN_A_FOLDER = 10_000
Wanted = dict[str, tuple[str, int]]
"""Services that the user names: transport and port."""


def fwknop(file: str, wanted: Wanted, server: str | None) -> tuple[Draft, Notes]:
    """Convert access.conf and what it includes, and fwknopd.conf (``server``: where it is, if not beside it).

    Raises:
        ConversionError: a file cannot be read, or is no text.
    """
    draft, notes = _begin(file, wanted), Notes()
    beside = Path(file).parent / _SERVER
    draft.knock = {"port": f"udp/{fwknopd.DEFAULT_PORT}", "skew": f"{fwknopd.MAX_AGE}s"}
    if server is not None or os.path.lexists(beside):
        path = server or str(beside)
        fwknopd.read(path, _read_or_say(path), draft, notes)
    draft.general = list(notes.kept)
    try:
        found = AccessReader(_read, _list, notes).read(file)
    except OSError as error:
        raise _unreadable(file, error) from error
    if not found:
        raise ConversionError(f"{file} has no stanza (SOURCE)", "is it an access.conf?")
    draft.general = list(notes.kept)
    stanzas.Converter(draft, notes, _local_time).convert(found)
    return draft, notes


def knockd(file: str, wanted: Wanted) -> tuple[Draft, Notes]:
    """Convert knockd.conf.

    Raises:
        ConversionError: it cannot be read, or is no text.
    """
    draft, notes = _begin(file, wanted), Notes()
    found = knockd_conf.doors(file, _read_or_say(file), notes)
    if not found:
        raise ConversionError(f"{file} has no doors ([name])", "is it a knockd.conf?")
    draft.general = list(notes.kept)
    doors.Converter(draft, notes).convert(found)
    return draft, notes


def problems(text: str, file: str) -> list[Problem]:
    """Tell what is wrong with rules, by the reader that ``run`` has; warnings are left to ``check``."""
    folder = Path(file).parent
    try:
        rules.parse(text.encode(), file=file, read_key=lambda name: _read(str(folder / name)))
    except RulesError as error:
        return [problem for problem in error.problems if not problem.is_warning]
    return []


def _begin(file: str, wanted: Wanted) -> Draft:
    return Draft(file, {name: Ports(Transport(transport), port) for name, (transport, port) in wanted.items()})


def _read_or_say(path: str) -> bytes:
    try:
        return _read(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> ConversionError:
    hint = {errno.ENOENT: "name the file", errno.EACCES: "run it as root (sudo)"}.get(error.errno or 0)
    return ConversionError(f"cannot read {path}: {error.strerror or error}", hint)


def _read(path: str) -> bytes:
    """Read a regular file, and one byte more than is allowed at the most."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a FIFO would keep us for ever
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(lines.MAX_BYTES + 1)


def _list(folder: str) -> list[str]:
    names = [path.name for path in Path(folder).iterdir()]
    if len(names) > _MOST_IN_A_FOLDER:
        raise OSError(errno.E2BIG, f"there are more than {_MOST_IN_A_FOLDER} files in it")
    return names


def _local_time(year: int, month: int, day: int) -> float:
    return time.mktime((year, month, day, 0, 0, 0, 0, 0, 0))  # as fwknopd: standard time, in summer too
