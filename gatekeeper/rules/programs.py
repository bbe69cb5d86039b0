"""Looks at a program that the rules name: is it there, and can nobody else change what it does?"""

from __future__ import annotations

import stat
from pathlib import Path

_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def look(name: str) -> tuple[str, str] | None:
    """Say what is wrong with a program, and what to do; ``None`` if nothing is.

    It is no error: the door must not stay shut for want of a program that would have told of it.
    """
    until_then = "it is run all the same, and until then each run fails"
    try:
        path = Path(name).resolve()
        mode = path.stat().st_mode
        folder = path.parent.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go in a circle
        reason = error.strerror if isinstance(error, OSError) else "its links go in a circle"
        return f"cannot be used: {reason}", f"put it there; {until_then}"
    if not stat.S_ISREG(mode):
        return "is not a program", f"name an executable file; {until_then}"
    if not mode & _EXECUTABLE:
        return "is not executable", f"chmod 755 it; {until_then}"
    if mode & stat.S_IWOTH:
        return "can be changed by every user of this machine", "chmod o-w it"
    if folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
        return (
            "is in a folder that every user of this machine can write to",
            "chmod o-w that folder, or put it elsewhere",
        )
    return None
