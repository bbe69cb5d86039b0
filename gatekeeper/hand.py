"""By whose hand a command is run, for the audit trail: who logged in, also behind ``sudo`` and ``su``."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from gatekeeper.escaping import escape

_LOGIN = Path("/proc/self/loginuid")
"""The kernel's own note (audit(7)), which sudo leaves as it is; where nobody keeps it, it is the largest number."""
_NOBODY = 2**32 - 1
_LONGEST = 32


def whose() -> str:
    """Name the user; an environment says so only where the kernel does not."""
    try:
        number = int(_LOGIN.read_text())
    except (OSError, ValueError):
        number = _NOBODY
    if number != _NOBODY:
        return _name(number)
    return escape(os.environ.get("SUDO_USER", ""))[:_LONGEST] or _name(os.getuid())


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name[:_LONGEST]
    except KeyError:
        return f"user {number}"
