"""Answers as text for people, and as JSON for machines. Pure.

No payload is ever shown: it may be somebody's key. What comes from the capture is escaped.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from gatekeeper import duration
from gatekeeper.escaping import quote
from gatekeeper.explain.judge import Judged
from gatekeeper.model import Grant, Reason, Verdict
from gatekeeper.networks import show_source
from gatekeeper.packet import TCP, UDP, Header
from gatekeeper.reasons import WHY

_VERDICTS = {
    Verdict.DROP: "dropped",
    Verdict.REPEAT: "let in",
    Verdict.ACCEPT: "goes on",
    Verdict.HOLD: "held",
}
_DROPPED, _LET_IN, _PLAIN = "31", "32", "0"
"""Colours of a terminal (ECMA-48)."""


def as_json(judged: Judged) -> str:
    """Write one answer as a line of JSON."""
    return json.dumps({name: value for name, value in _fields(judged).items() if value is not None})


def as_text(judged: Judged, *, coloured: bool) -> str:
    """Write one answer: where from and where to; what becomes of it and why; and what is known besides."""
    said = _fields(judged)
    where = said["protocol"]
    if judged.header is not None:
        where += f" {_place(judged.header, is_source=True)} -> {_place(judged.header, is_source=False)}"
    time = "?" if judged.packet.time is None else said["time"]
    verdict = f"{_VERDICTS[judged.verdict]}, {judged.reason}"
    if coloured:
        verdict = f"\x1b[{_colour(judged)}m{verdict}\x1b[0m"
    lines = [f"#{judged.packet.number} {time} {where}, {judged.packet.length} bytes"]
    lines.append(f"   {verdict}: {WHY[judged.reason].in_short}")
    more = {name: said[name] for name in ("service", "client", "opens", "closes", "recorded", "note")}
    told = [f"{name}={quote(_words(value))}" for name, value in more.items() if value]
    return "\n".join([*lines, *([f"   {' '.join(told)}"] if told else [])])


def summary(counts: Counter[str]) -> Iterator[str]:
    """Sum up, and say what to do about it."""
    number = counts.total()
    each = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    yield f"{number} packet{'s'[: number != 1]}" + (f": {each}" if each else "")
    for reason, _ in counts.most_common():
        if WHY[reason].advice and reason != Reason.NOT_GUARDED:  # most of what flows is none of our business
            yield f"   {reason}: {WHY[reason].advice}"


def _fields(judged: Judged) -> dict[str, Any]:
    packet, header = judged.packet, judged.header
    fields: dict[str, Any] = {"number": packet.number}
    fields["time"] = None if packet.time is None else _moment(packet.time)
    fields["judged_as_of"] = _moment(judged.now)
    fields["protocol"] = "?" if header is None else _protocol(header)
    if header is not None:
        fields["source"], fields["destination"] = str(ip_address(header.source)), str(ip_address(header.destination))
    if header is not None and header.protocol in {TCP, UDP}:
        fields["source_port"], fields["destination_port"] = header.source_port, header.destination_port
    fields["bytes"] = packet.length
    fields["verdict"], fields["reason"] = judged.verdict.value, str(judged.reason)
    fields["meaning"] = WHY[judged.reason].in_short
    fields["service"], fields["client"] = judged.service, judged.client
    fields["opens"] = [_grant(one, judged.now) for one in judged.granted] or None
    fields["closes"] = [_grant(one, judged.now) for one in judged.ended] or None
    if judged.reason == Reason.CLOSED and not judged.ended:
        fields["note"] = judged.note or "nothing was open"
    else:
        fields["note"] = judged.note
    fields["recorded"] = packet.comment.decode(errors="backslashreplace") or None
    return fields


def _words(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _grant(grant: Grant, now: float) -> str:
    if grant.expires_at is None:
        left = "until closed"
    else:
        left = f"for {duration.show(max(0, math.ceil(grant.expires_at - now)))}"
    return f"{grant.service} to {show_source(grant.source)} {left}"


def _place(header: Header, *, is_source: bool) -> str:
    address = str(ip_address(header.source if is_source else header.destination))
    if header.protocol not in {TCP, UDP}:
        return address
    port = header.source_port if is_source else header.destination_port
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _protocol(header: Header) -> str:
    return {TCP: "tcp", UDP: "udp"}.get(header.protocol, "icmp")


def _colour(judged: Judged) -> str:
    if judged.verdict is Verdict.DROP and judged.reason not in {Reason.OPENED, Reason.CLOSED}:
        return _DROPPED
    return _LET_IN if judged.reason in {Reason.OPENED, Reason.GRANTED} else _PLAIN


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
