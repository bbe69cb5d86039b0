"""Reads ``metrics:``: whether, and where, Prometheus finds the figures. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address

from gatekeeper.rules.document import Document, Entry
from gatekeeper.settings import Listen

LOOPBACK = ip_address("127.0.0.1")
PORT = 16220
_FIRST_FREE = 1024
"""Ports below are for those who have more rights than the service."""
_LAST = 65535
_WORD = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+):|\[([0-9A-Fa-f:.]+)\]:)?(\d{1,5})", re.ASCII)
_HINT = f"write true ({LOOPBACK}:{PORT}), a port, 127.0.0.1:{PORT} or '[::1]:{PORT}'"


def listen(doc: Document, field: Entry | None) -> Listen | None:
    """Read ``true``, ``false``, a port of the loopback, or an address with a port."""
    text = None if field is None else doc.text(field.value, field.name)
    if field is None or text is None or text == "false":
        return None
    if text == "true":
        return Listen(LOOPBACK, PORT)
    match = _WORD.fullmatch(text)
    try:
        address = ip_address(match[1] or match[2]) if match and (match[1] or match[2]) else LOOPBACK
    except ValueError:
        match = None
    if match is None:
        doc.complain(field.value, f'metrics cannot be "{text}"', _HINT)
        return None
    port = int(match[3])
    if not _FIRST_FREE <= port <= _LAST:
        doc.complain(field.value, f"metrics: port {port} is out of range", f"it goes from {_FIRST_FREE} to {_LAST}")
        return None
    if not address.is_loopback:
        hint = "let only Prometheus reach it, by your firewall, or as a service of gatekeeper's with `always:`"
        doc.warn(field.value, f"metrics at {address} can be read by whoever reaches that address", hint)
    return Listen(address, port)
