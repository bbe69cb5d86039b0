"""The file that fwknop's client keeps its keys and settings in, ~/.fwknoprc: stanzas of variables and values.

As fwknop 2.6.10 reads it: what a named stanza says goes before what ``[default]`` says, and a value ends at a space, a
semicolon or a #. A file without stanzas, as ``fwknop --key-gen`` prints it, can be read too.
"""

from __future__ import annotations

import os
import stat

from gatekeeper.errors import ClientError

_DEFAULT = "default"
_MAX_BYTES = 256 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Settings:
    """The variables that count, and where they were read."""

    def __init__(self, file: str, values: dict[str, str]) -> None:
        self.file, self._values = file, values

    def get(self, name: str) -> str | None:
        """Return a value; ``None``: it is not set."""
        return self._values.get(name)

    def is_on(self, name: str) -> bool:
        """Whether it is set to Y."""
        return self._values.get(name, "").upper() in {"Y", "YES"}


def default_path() -> str:
    """Return the file that fwknop uses."""
    return os.path.join(os.path.expanduser("~"), ".fwknoprc")


def stanza(file: str, name: str) -> Settings | None:
    """Read a stanza, over what ``[default]`` says; ``None``: there is none of that name.

    Raises:
        ClientError: the file cannot be read, or is not what it is taken for.
    """
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for number, line in enumerate(_lines(file), 1):
        text = line.strip()
        if text.startswith("[") and "]" in text:
            current = found.setdefault(text[1 : text.index("]")].lower(), {})
        elif current is not None and (pair := _pair(file, number, line)) is not None:
            current.update([pair])
    if name.lower() not in found:
        return None
    return Settings(file, {**found.get(_DEFAULT, {}), **found[name.lower()]})


def keys(file: str) -> Settings:
    """Read a file without stanzas.

    Raises:
        ClientError: the file cannot be read, or is not what it is taken for.
    """
    pairs = [_pair(file, number, line) for number, line in enumerate(_lines(file), 1)]
    return Settings(file, dict(pair for pair in pairs if pair is not None))


def _pair(file: str, number: int, line: str) -> tuple[str, str] | None:
    """Take a line apart; ``None``: it is a comment."""
    if not line.strip() or line.lstrip()[0] in "#;":
        return None
    name, *rest = line.split(None, 1)
    value = rest[0] if rest else ""
    for end in " ;\t#":
        value = value.partition(end)[0]
    if not value:
        words = f"{file}:{number}: this is no variable with a value"
        raise ClientError(words, "write KEY_BASE64 and its value in a line, as `fwknop --key-gen` prints it")
    return name.rstrip(":"), value


def _lines(file: str) -> list[str]:
    try:
        fd = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a FIFO would keep us for ever
        with os.fdopen(fd, "rb") as opened:
            found = os.fstat(fd)
            content = opened.read(_MAX_BYTES + 1) if stat.S_ISREG(found.st_mode) else b"\0"
    except OSError as error:
        raise ClientError(f"cannot read {file}: {error.strerror}", "name another file") from error
    if os.name == "posix" and found.st_mode & _OTHERS:
        raise ClientError(f"{file} can be read or written by other users, and has keys in it", f"chmod 600 {file}")
    if len(content) > _MAX_BYTES or b"\0" in content:
        raise ClientError(f"{file} is no text file, or too large for one of fwknop's")
    return content.decode(errors="surrogateescape").split("\n")
