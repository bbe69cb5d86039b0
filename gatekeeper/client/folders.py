"""Where a client keeps its things: the XDG base directories, on every system (as git and others do)."""

from __future__ import annotations

import os

from gatekeeper.errors import ClientError


def config(*names: str) -> str:
    """Return a path in the user's configuration folder (``$XDG_CONFIG_HOME``, or ~/.config).

    Raises:
        ClientError: there is no home.
    """
    return _under("XDG_CONFIG_HOME", ".config", names)


def state(*names: str) -> str:
    """Return a path in the user's state folder (``$XDG_STATE_HOME``, or ~/.local/state).

    Raises:
        ClientError: there is no home.
    """
    return _under("XDG_STATE_HOME", os.path.join(".local", "state"), names)


def make_for(path: str) -> None:
    """Make the folder of a file, 0700.

    Raises:
        ClientError: it cannot be made.
    """
    folder = os.path.dirname(path) or "."
    try:
        _make(folder)
    except OSError as error:
        raise ClientError(f"cannot make the folder {folder}: {error.strerror}") from error


def _make(folder: str) -> None:
    """Make a folder and those above it, each for us alone (os.makedirs gives its mode to the last one only)."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    if parent != folder:
        _make(parent)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise


def _under(variable: str, otherwise: str, names: tuple[str, ...]) -> str:
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # the standard says: ignore it then
        home = os.path.expanduser("~")
        if not os.path.isabs(home) or os.environ.get("HOME") == "":
            raise ClientError("there is no home folder to keep things in", f"set HOME, or {variable}")
        base = os.path.join(home, otherwise)
    return os.path.join(base, "gatekeeper", *names)
