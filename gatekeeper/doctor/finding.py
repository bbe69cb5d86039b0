"""What the doctor found: one sentence, how bad it is, and what to do. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

AS_ROOT = "sudo gatekeeper doctor"
"""The hint where only root may look."""


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing needs to be done."""
    WARNING = "warning"
    """It works, but something will bite: at the next reboot, at a close, under load."""
    WRONG = "wrong"
    """A door that should be closed is open, or one that should open does not."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people; ``detail`` is what was seen, ``hint`` what to do."""

    level: Level
    what: str
    detail: str = ""
    hint: str = ""


class CannotLookError(Exception):
    """Something could not be looked at; the message says why."""

    def __init__(self, message: str, *, needs_root: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.needs_root = needs_root


def ok(what: str, detail: str = "") -> Finding:
    """Make a finding of something that is as it should be."""
    return Finding(Level.OK, what, detail)


def note(what: str, hint: str = "", *, detail: str = "") -> Finding:
    """Make a finding that is only good to know."""
    return Finding(Level.NOTE, what, detail, hint)


def warning(what: str, hint: str, *, detail: str = "") -> Finding:
    """Make a finding that will bite."""
    return Finding(Level.WARNING, what, detail, hint)


def wrong(what: str, hint: str, *, detail: str = "") -> Finding:
    """Make a finding of something that is not as it must be."""
    return Finding(Level.WRONG, what, detail, hint)


def unknown(what: str, hint: str = "", *, detail: str = "") -> Finding:
    """Make a finding of something that could not be looked at."""
    return Finding(Level.UNKNOWN, what, detail, hint)
