"""Files and folders: who may read them, whether they are whole, whether there is room."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from gatekeeper import keyfiles, units
from gatekeeper.doctor.finding import CannotLookError, Finding, note, ok, warning, wrong
from gatekeeper.doctor.scene import Scene
from gatekeeper.store.sqlite import FILE

_ROOM = 16 << 20
"""Bytes that should be free where the store is."""
_INODES = 100
_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def rules(scene: Scene) -> Iterator[Finding]:
    """Look at the rules file: whether it can be used, and who else may write it."""
    path = scene.rules_file
    if scene.rules_error is not None and isinstance(scene.rules_error.__cause__, PermissionError):
        raise CannotLookError(scene.rules_error.message, needs_root=True)
    for problem in scene.problems:
        make = warning if problem.is_warning else wrong
        yield make(
            f"{problem.file}:{problem.line}:{problem.column}: {problem.message}",
            problem.hint or "docs/rules.md explains what can stand there",
        )
    if scene.rules is not None:
        yield ok(f"{path} can be used; services: {len(scene.rules.services)}, clients: {len(scene.rules.clients)}")
    real = [Path(os.path.realpath(one)) for one in scene.rules_paths]
    for one in dict.fromkeys((*scene.rules_paths, *real, *(one.parent for one in real))):
        with contextlib.suppress(FileNotFoundError):
            found = _stat_behind_links(one)
            if found.st_mode & _WRITE and not found.st_mode & stat.S_ISVTX:
                words = f"{one} can be written by other users: they decide who gets in"
                yield wrong(words, f"chmod go-w {one}")
            if found.st_uid not in (0, os.geteuid()):
                words = f"{one} belongs to user {found.st_uid}, who decides who gets in"
                yield warning(words, f"chown root: {one}")


def state(scene: Scene) -> Iterator[Finding]:
    """Look at the state directory, the store, and the server's key."""
    directory = scene.state_dir
    try:
        found = _stat(directory)
    except FileNotFoundError:
        yield note(f"there is no state directory yet ({directory})", "`gatekeeper run` makes it at its first start")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield wrong(f"{directory} is not a directory", "name another with --state-dir DIR")
        return
    if found.st_mode & _OTHERS:
        words = f"others can look into {directory} (mode {stat.S_IMODE(found.st_mode):04o})"
        yield (wrong if found.st_mode & _WRITE else warning)(words, f"chmod 700 {directory}")
    elif found.st_uid not in (0, os.geteuid()) and (name := _name_of(found.st_uid)) != units.USER:
        yield note(f"{directory} belongs to user {name}", "right if that is the user that `run` is")
    else:
        yield ok(f"{directory} is for its owner only")
    yield from _room(directory)
    yield from _key(scene)
    yield from _store(directory / FILE)


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _room(directory: Path) -> Iterator[Finding]:
    space = os.statvfs(directory)
    if space.f_flag & os.ST_RDONLY:
        hint = "mount it to be written: what cannot be stored is not opened; closing works"
        yield wrong(f"{directory} is on a file system that cannot be written", hint)
        return
    free = space.f_bavail * space.f_frsize
    if free < _ROOM or (space.f_files and space.f_favail < _INODES):
        what = f"{free >> 20} MiB" if free < _ROOM else f"{space.f_favail} inodes"
        hint = "make room: what cannot be stored is not opened; closing works"
        yield warning(f"the file system of {directory} is nearly full: {what} left", hint)
    else:
        yield ok(f"the file system of {directory} has room: {free >> 20} MiB")


def _key(scene: Scene) -> Iterator[Finding]:
    if scene.rules is None or any(key.until is None for key in scene.rules.server_keys):
        return  # the rules name one; reading them has looked at it
    path = scene.state_dir / keyfiles.SERVER_KEY
    try:
        found = _stat(path)
    except FileNotFoundError:
        if any(client.keys for client in scene.rules.clients.values()):
            yield note("the server has no key yet", "`gatekeeper run` makes it at its first start")
        return
    if found.st_mode & _OTHERS:
        hint = f"chmod 600 {path}; others may know it: better make a new one (move it away, restart, invite again)"
        yield wrong(f"other users can read or write the server's key {path}: `run` refuses it", hint)
    else:
        yield ok("the server's key is there, and for its owner only")


def _store(path: Path) -> Iterator[Finding]:
    try:
        found = _stat(path)
    except FileNotFoundError:
        yield note("there is no store yet", "`gatekeeper run` makes it at its first start")
        return
    if found.st_mode & _OTHERS:
        yield warning(f"other users can read or write {path}", f"chmod 600 {path}")
    try:
        with contextlib.closing(open_store(path)) as db:
            verdict = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        raise CannotLookError(f"{path}: {error}", needs_root=True) from error
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        hint = "stop `run` and move it away: all grants and spent stamps are gone then (docs/threat-model.md)"
        yield wrong(f"the store {path} is damaged: {verdict[:200]}", hint)
    else:
        yield ok("the store is whole")


def open_store(path: Path) -> sqlite3.Connection:
    """Open the store to read. Without a log of its own it is read as it lies, so that nothing is made beside it."""
    wal = path.with_name(f"{path.name}-wal")
    how = "mode=ro" if wal.exists() else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)


def _stat_behind_links(path: Path) -> os.stat_result:
    """Do as ``_stat`` does; links that go in a circle lead to no file, and who has read it has said so."""
    try:
        return _stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError from error
        raise


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except NotADirectoryError as error:
        raise FileNotFoundError from error
    except PermissionError as error:
        raise CannotLookError(f"{path}: {error.strerror}", needs_root=True) from error
