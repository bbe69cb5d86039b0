"""How commands and ``run`` speak to the guard: a word to its socket, and lines of JSON back.

The socket lies in a folder that can be the service's user's: so the guard believes a decision from root (and from the
user that it is itself) only, and root believes no other guard. That user may listen.

Words: ``status``; ``confirm``: the ruleset may stay; ``revert``: put it back now; ``leave``: the same, from a run that
has ended its work and waits; ``watch``: tell me how it ends; ``call off``: put nothing back, also if that has begun.

The socket's folder can be the service's user's, so what comes from there is looked at before root's terminal shows it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gatekeeper.confirm.plan import socket_file
from gatekeeper.errors import StoreError


class State(StrEnum):
    """Where a probation stands."""

    WAITING = "waiting"
    ENDING = "ending"
    """Being put back; there is more to come."""
    CONFIRMED = "confirmed"
    RETURNED = "returned"
    """The ruleset is what it was."""
    FAILED = "failed"
    """It could not be put back, and the guard has given up."""


LAST = frozenset({State.CONFIRMED, State.RETURNED, State.FAILED})
"""After these nothing more comes."""
_LONGEST_LINE = 4096
_PEER = struct.Struct("3i")
"""struct ucred (unix(7)): process, user, group."""
_UMASK = 0o111
"""The folder is its owner's alone, and may_decide() looks who it is."""


@dataclass(frozen=True, slots=True)
class Word:
    """What the guard says."""

    state: State
    text: str
    left: int = 0
    """Seconds that are left."""


def ask(word: str, *, patience: float) -> Iterator[Word] | None:
    """Say a word to the guard; return what it answers, line by line. ``None``: there is no guard.

    Each line may take so many seconds; if it takes longer, or the guard dies, the lines end.

    Raises:
        StoreError: we may not speak to it, or it is not root's nor ours.
    """
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.settimeout(patience)
        one.connect(str(socket_file()))
        is_ours = may_decide(one)
        if is_ours:
            one.sendall(f"{word}\n".encode())
    except (FileNotFoundError, ConnectionRefusedError):
        one.close()
        return None
    except OSError as error:
        one.close()
        raise StoreError(f"cannot speak to the guard of --confirm: {error}", "run it as root, or with sudo") from error
    if not is_ours:
        one.close()
        raise StoreError(f"{socket_file()} is not ours", "somebody else answers there: look at it, and remove it")
    return _answers(one)


def _answers(one: socket.socket) -> Iterator[Word]:
    with one, one.makefile("rb") as lines:
        try:
            while line := lines.readline(_LONGEST_LINE):
                found = json.loads(line)
                text = "".join(char if char.isprintable() else "?" for char in str(found["text"]))
                yield Word(State(found["state"]), text, int(found["left"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):  # it is no guard
            return


def bind(listener: socket.socket, path: Path) -> None:
    """Make the guard's socket; its folder keeps out who may not even listen.

    The mode comes with it: to change that of a path afterwards would be to change whatever the folder's owner has put
    there meanwhile.

    Raises:
        OSError: it cannot be made.
    """
    before = os.umask(_UMASK)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)


def may_decide(one: socket.socket) -> bool:
    """Whether who is at the other end is root, or the user that we are."""
    _, user, _ = _PEER.unpack(one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return user in {0, os.geteuid()}


def line_of(word: Word) -> bytes:
    """Write a word as the guard sends it."""
    return json.dumps({"state": word.state, "text": word.text, "left": word.left}).encode() + b"\n"


def status(*, patience: float = 5.0) -> Word | None:
    """Ask how things stand; ``None`` if there is no guard."""
    answers = ask("status", patience=patience)
    return None if answers is None else next(answers, None)
