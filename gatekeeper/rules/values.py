"""Reads single values of a rules file: words, numbers, durations, ports. Pure.

Where a value is wrong, they complain and return ``None`` or the default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from gatekeeper import duration
from gatekeeper.model import Transport
from gatekeeper.rules import moment
from gatekeeper.rules.document import Document, Entry

ValueT = TypeVar("ValueT")

_PORT = re.compile(r"(tcp|udp)/(\d{1,5})", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|\d{1,10}", re.ASCII)

ReadKey = Callable[[str], bytes]
"""Fetches the content of a key file that the rules name. Raises ``OSError`` or ``ValueError``."""


def word(doc: Document, field: Entry, known: tuple[str, ...]) -> str | None:
    """Read one of several words."""
    text = doc.text(field.value, field.name)
    if text is not None and text not in known:
        doc.complain(field.value, f'{field.name} cannot be "{text}"', doc.did_you_mean(text, known))
        return None
    return text


def truth(doc: Document, field: Entry | None) -> bool:
    """Read true or false; false where nothing is said."""
    return field is not None and word(doc, field, ("true", "false")) == "true"


def number(doc: Document, field: Entry, low: int, high: int) -> int | None:
    """Read a whole number, decimal or hexadecimal."""
    text = doc.text(field.value, field.name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        doc.complain(field.value, f'{field.name} must be a number, not "{text}"')
        return None
    found = int(text, 16) if text[:2] in ("0x", "0X") else int(text)
    if not low <= found <= high:
        doc.complain(field.value, f"{field.name} {text} is out of range", f"it goes from {low} to {high}")
        return None
    return found


def seconds(doc: Document, field: Entry | None, *, default: int | None) -> int | None:
    """Read a duration; ``None`` is ``forever``."""
    if field is None:
        return default
    text = doc.text(field.value, field.name)
    if text is None:
        return default
    try:
        return duration.parse(text)
    except ValueError as error:
        is_bare = text.isascii() and text.isdecimal() and bool(text.strip("0"))
        doc.complain(field.value, f"{field.name}: {error}", f"did you mean {text}s?" if is_bare else duration.HINT)
        return default


def date(doc: Document, field: Entry | None) -> float | None:
    """Read a date: Unix seconds, its end."""
    text = None if field is None else doc.text(field.value, field.name)
    if field is None or text is None:
        return None
    try:
        return moment.parse(text)
    except ValueError as error:
        doc.complain(field.value, f"{field.name}: {error}", moment.HINT)
        return None


def port(doc: Document, field: Entry, what: str) -> tuple[Transport, int] | None:
    """Read ``tcp/22``."""
    text = doc.text(field.value, what)
    if text is None:
        return None
    match = _PORT.fullmatch(text.lower())
    if not match:
        doc.complain(field.value, f'"{text}" is not a port', _port_hint(text))
        return None
    found = int(match[2])
    if not 1 <= found <= 65535:
        doc.complain(field.value, f"port {found} is out of range", "ports go from 1 to 65535")
        return None
    return Transport(match[1]), found


def _port_hint(text: str) -> str:
    digits, _, transport = text.lower().partition("/")
    if re.fullmatch(r"[1-9]\d{0,4}", digits, re.ASCII) and int(digits) <= 65535 and transport in ("", "tcp", "udp"):
        return f"did you mean {transport or 'tcp'}/{digits}?"
    return "write tcp/22 or udp/51820"


def file_content(doc: Document, field: Entry, read_key: ReadKey) -> bytes | None:
    """Read the file that a field names."""
    name = doc.text(field.value, field.name)
    if name is None:
        return None
    try:
        return read_key(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        doc.complain(field.value, f"cannot read the key in {name}: {reason}")
        return None
