"""What the guard must know, in a file that outlives whoever wrote it: what was there, and until when it waits."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from gatekeeper.errors import StoreError
from gatekeeper.firewall.snapshot import Snapshot
from gatekeeper.store.lock import of_this_namespace

_CAREFULLY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""The folder can be the service's user's: no link there is ours, and a pipe must not keep us waiting."""
_READ = os.O_RDONLY | _CAREFULLY


@dataclass(frozen=True, slots=True)
class Plan:
    """What to put back, and when."""

    seconds: int
    """How long the guard waits, as it was asked for."""
    deadline: float
    """Until when it waits, by CLOCK_BOOTTIME."""
    before: Snapshot
    undo: tuple[tuple[str, ...], ...] = ()
    """Commands to run before the ruleset is put back, as argument lists."""
    keep: tuple[tuple[str, ...], ...] = ()
    """Commands to run when it is confirmed."""


def plan_file() -> Path:
    """Name the plan of this network namespace."""
    return of_this_namespace("confirm.json")


def socket_file() -> Path:
    """Name the socket of this network namespace's guard."""
    return of_this_namespace("confirm.sock")


def last_file() -> Path:
    """Name the file that says how the last probation in this network namespace ended."""
    return of_this_namespace("confirm.last")


def write(plan: Plan) -> Path:
    """Write a plan, whole or not at all; return its file.

    Raises:
        FileExistsError: there is one already.
        StoreError: it cannot be written.
    """
    path = plan_file()
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(asdict(plan), file)
        try:
            os.link(draft, path)  # fails where there is one, which a rename does not
        finally:
            draft.unlink()
    except FileExistsError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", "run it as root, or with sudo") from error
    return path


def read() -> Plan | None:
    """Read the plan of this network namespace; ``None`` if there is none.

    Raises:
        StoreError: it cannot be read, or somebody else may have written it: it says what root is to run.
    """
    path = plan_file()
    try:
        with os.fdopen(os.open(path, _READ), encoding="utf-8") as file:
            there = os.fstat(file.fileno())
            if there.st_uid not in {0, os.geteuid()} or there.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise StoreError(f"{path} is not ours", "somebody else has written it: look at it, and remove it")
            found = json.load(file)
        return Plan(
            seconds=int(found["seconds"]),
            deadline=float(found["deadline"]),
            before=Snapshot(**found["before"]),
            undo=tuple(tuple(argv) for argv in found["undo"]),
            keep=tuple(tuple(argv) for argv in found["keep"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", "run it as root, or with sudo") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged: {error}", "`gatekeeper flush --stop` opens the ports") from error


def forget(words: str) -> None:
    """Remove the plan, and note how it ended."""
    path = last_file()
    try:
        path.unlink(missing_ok=True)  # what is there may be another name of somebody else's file
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(words + "\n")
    except OSError:
        pass  # a note for people, no more
    plan_file().unlink(missing_ok=True)
    socket_file().unlink(missing_ok=True)


def last() -> str | None:
    """Say how the last probation ended; ``None`` if nothing is known of one."""
    try:
        with os.fdopen(os.open(last_file(), _READ), encoding="utf-8", errors="replace") as file:
            text = file.read(1000).strip()
        return "".join(char if char.isprintable() else "?" for char in text) or None
    except OSError:
        return None
