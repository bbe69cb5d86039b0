"""Entries of the audit trail as lines, for people and for machines. Pure, but for the zone of this machine."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gatekeeper import duration
from gatekeeper.escaping import escape
from gatekeeper.model import TrailEntry

_OPENS = frozenset({"opened", "granted"})


def as_text(entry: TrailEntry) -> str:
    """Write an entry in the time of this machine's zone, in columns."""
    when = f"{datetime.fromtimestamp(entry.at):%Y-%m-%d %H:%M:%S}"  # noqa: DTZ006  (the zone of who reads it)
    words = [
        when,
        f"{entry.reason:<16}",
        f"{entry.client or '-':<12}",
        f"{entry.service or '-':<10}",
        f"{entry.source or '-':<18}",
        *([_until(entry)] if entry.reason in _OPENS else []),
        *([f"({entry.note})"] if entry.note else []),
    ]
    return escape("  ".join(words).rstrip(), " ")


def as_json(entry: TrailEntry) -> str:
    """Write an entry as one object; what is not known is left out."""
    line: dict[str, object] = {"time": _utc(entry.at), "reason": entry.reason}
    line |= {
        name: value for name in ("client", "source", "service", "note") if (value := getattr(entry, name)) is not None
    }
    if entry.reason in _OPENS and entry.service is not None:
        line["ttl"] = None if entry.ends_at is None else max(0, round(entry.ends_at - entry.at))
        line["expires_at"] = None if entry.ends_at is None else _utc(entry.ends_at)
    return json.dumps(line)


def _until(entry: TrailEntry) -> str:
    if entry.service is None:
        return ""
    return "until closed" if entry.ends_at is None else f"for {duration.show(max(0, round(entry.ends_at - entry.at)))}"


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
