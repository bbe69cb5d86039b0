"""Where a client keeps its things: the XDG base directories, on every system (as git and others do)."""

from __future__ import annotations

import os

from gatekeeper.errors import ClientError


def config(*names: str) -> str:
    """Return a path in the user's configuration folder (``$XDG_CONFIG_HOME``, or ~/.config)."""
    return _under("XDG_CONFIG_HOME", ".config", names)


def state(*names: str) -> str:
    """Return a path in the user's state folder (``$XDG_STATE_HOME``, or ~/.local/state)."""
    return _under("XDG_STATE_HOME", os.path.join(".local", "state"), names)


def make_for(path: str) -> None:
    """Make the folder of a file, 0700.

    Raises:
        ClientError: it cannot be made.
    """
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise ClientError(f"cannot make the folder {folder}: {error.strerror}") from error


def _under(variable: str, otherwise: str, names: tuple[str, ...]) -> str:
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # the standard says: ignore it then
        base = os.path.join(os.path.expanduser("~"), otherwise)
    return os.path.join(base, "gatekeeper", *names)
