"""Reads single values of a rules file: words, numbers, durations, ports, networks, hours. Pure.

Where a value is wrong, they complain and return ``None`` or the default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import yaml

from gatekeeper import duration, schedule
from gatekeeper.networks import Address, Source, host, unmapped
from gatekeeper.rules import moment
from gatekeeper.rules.document import Document, Entry
from gatekeeper.schedule import Hours
from gatekeeper.settings import Ports, Transport

_PORTS = re.compile(r"(tcp|udp)/(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|\d{1,10}", re.ASCII)
_GUESSABLE = 16
"""A shared key shorter than this (bytes) is warned about, and so are the well-known ones."""
_WELL_KNOWN = frozenset({b"open_sesame", b"close_sesame", b"opensesame", b"open sesame", b"password", b"changeme"})

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


def is_word(field: Entry, known: str) -> bool:
    """Tell whether a value is exactly this word, which stands for a number."""
    return isinstance(field.value, yaml.ScalarNode) and field.value.value == known


def number(doc: Document, field: Entry, low: int, high: int, *, or_word: str = "") -> int | None:
    """Read a whole number, decimal or hexadecimal; ``or_word`` is what could stand there as well."""
    also = f"{or_word} or " if or_word else ""
    text = doc.text(field.value, field.name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        doc.complain(field.value, f'{field.name} must be {also}a number, not "{text}"')
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


def ports(doc: Document, node: yaml.Node, what: str) -> Ports | None:
    """Read ``tcp/22`` or ``tcp/6000-6010``."""
    text = doc.text(node, what)
    if text is None:
        return None
    match = _PORTS.fullmatch(text.lower())
    if not match:
        doc.complain(node, f'"{text}" is not a port', _port_hint(text))
        return None
    first, last = int(match[2]), int(match[3] or match[2])
    for number in (first, last):
        if not 1 <= number <= 65535:
            doc.complain(node, f"port {number} is out of range", "ports go from 1 to 65535")
            return None
    if last < first:
        doc.complain(node, f"{text} runs backwards", f"did you mean {match[1]}/{last}-{first}?")
        return None
    return Ports(Transport(match[1]), first, last)


def _port_hint(text: str) -> str:
    digits, _, transport = text.lower().partition("/")
    if re.fullmatch(r"[1-9]\d{0,4}", digits, re.ASCII) and int(digits) <= 65535 and transport in ("", "tcp", "udp"):
        return f"did you mean {transport or 'tcp'}/{digits}?"
    return "write tcp/22, udp/51820 or tcp/6000-6010"


def one_or_more(doc: Document, field: Entry, if_empty: str) -> list[yaml.Node]:
    """Read a value, or a list of values; ``if_empty`` is the hint where the list has none."""
    if not isinstance(field.value, yaml.SequenceNode):
        return [field.value]
    if not field.value.value:
        doc.complain(field.value, f"{field.name} is empty", if_empty)
    return list(field.value.value)


def address(doc: Document, node: yaml.Node) -> Address | None:
    """Read an address."""
    text = doc.text(node, "an address")
    if text is None:
        return None
    try:
        return unmapped(host(ip_address(_without_zone(text)))).network_address
    except ValueError:
        doc.complain(node, f'"{text}" is not an address', "such as 192.0.2.1 or 2001:db8::1")
        return None


def networks(doc: Document, field: Entry | None) -> tuple[Source, ...]:
    """Read a list of networks."""
    found: list[Source] = []
    for node in (doc.items(field.value, field.name) or ()) if field is not None else ():
        text = doc.text(node, "a network")
        if text is None:
            continue
        try:
            found.append(unmapped(ip_network(_without_zone(text), strict=False)))
        except ValueError:
            hint = "such as 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or 2001:db8::/64"
            doc.complain(node, f'"{text}" is neither an address nor a network', hint)
    return tuple(found)


def _without_zone(text: str) -> str:
    """Refuse a zone (fe80::1%eth0), which means something on one machine only; and may have any text in it."""
    if "%" in text:
        raise ValueError(text)
    return text


def always(doc: Document, field: Entry | None) -> tuple[Source, ...]:
    """Read a list of networks that need no knock."""
    found = networks(doc, field)
    if field is not None and any(network.prefixlen == 0 for network in found):
        doc.complain(field.value, "that is everybody: the port would be open", "take the service out of the rules")
    return found


def hours(doc: Document, field: Entry | None) -> tuple[Hours, ...]:
    """Read when something may be opened: hours, or a list of them."""
    found: list[Hours] = []
    for node in one_or_more(doc, field, "take the line out: then it is at any time") if field is not None else ():
        text = doc.text(node, "when")
        if text is None:
            continue
        try:
            found.append(schedule.parse(text))
        except ValueError as error:
            doc.complain(node, f"when: {error}", schedule.HINT)
    return tuple(found)


def file_content(doc: Document, field: Entry, read_key: ReadKey, *, what: str = "the key in ") -> bytes | None:
    """Read the file that a field names."""
    name = doc.text(field.value, field.name)
    if name is None:
        return None
    try:
        return read_key(doc.path(field.value, name))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        doc.complain(field.value, f"cannot read {what}{name}: {reason}")
        return None


def is_guessable(key: bytes) -> bool:
    """Whether anyone could guess a key."""
    return len(key) < _GUESSABLE or key.lower() in _WELL_KNOWN or len(set(key)) < 6
