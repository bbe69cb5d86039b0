"""Decisions and outcomes as log lines and counters.

One line for each knock that a key opened and for each change of the grants. Strangers' packets are
counted always and logged at a bounded rate: a flood fills no disk. Values from outside are escaped.
The lines leave by a thread of their own, so that a terminal that is stopped (Ctrl-S) stops no packets.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address

from gatekeeper.errors import Problem
from gatekeeper.model import Decision, Grant, Outcome, Reason, show_source
from gatekeeper.packet import triage

_LOG = logging.getLogger("gatekeeper")
_REFUSALS_PER_SECOND = 2.0
_REFUSALS_AT_ONCE = 20.0
_QUEUED_LINES = 10_000


class Observer:
    """Counts everything, and logs what is worth a line."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._budget = _REFUSALS_AT_ONCE
        self._refilled = time.monotonic()
        self._unshown = 0

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        self._counts[name] += number

    def take_counts(self) -> dict[str, int]:
        """Return what was counted since this was last called."""
        taken, self._counts = self._counts, Counter()
        return dict(taken)

    def refused(self, decision: Decision, raw: bytes) -> None:
        """Note a packet that was dropped."""
        self._counts[decision.reason] += 1
        if not self._may_log():
            self._unshown += 1
            return
        fields: dict[str, object] = {"reason": decision.reason.value}
        if decision.client:
            fields["client"] = decision.client
        header = triage(raw)
        if not isinstance(header, Reason):
            fields["source"] = str(ip_address(header.source))
            fields["port"] = f"{'udp' if header.protocol == 17 else 'tcp'}/{header.destination_port}"
        if self._unshown:
            fields["not_shown"] = self._unshown
            self._unshown = 0
        event("refused", fields)

    def carried_out(self, decision: Decision, outcome: Outcome, *, now: float) -> None:
        """Note what became of a knock."""
        self._counts[decision.reason] += 1
        if outcome.error is not None:
            self._counts[Reason.NOT_APPLIED] += 1
        changed(decision.reason.value, outcome, now=now)
        if not outcome.admitted and not outcome.ended and outcome.error is None:
            event(decision.reason.value, {"client": decision.client, "note": "nothing was open"})

    def _may_log(self) -> bool:
        now = time.monotonic()
        self._budget = min(_REFUSALS_AT_ONCE, self._budget + (now - self._refilled) * _REFUSALS_PER_SECOND)
        self._refilled = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True


def changed(name: str, outcome: Outcome, *, now: float) -> None:
    """Log a change of the grants: a line for each, and one for what the kernel refused."""
    for grant in (*outcome.admitted, *outcome.ended):
        event(name, grant_fields(grant, now=now))
    if outcome.cut:
        event("cut", {"connections": outcome.cut})
    if outcome.error is not None:
        event("not-applied", {"error": outcome.error}, level=logging.ERROR)


def grant_fields(grant: Grant, *, now: float) -> dict[str, object]:
    """Return what a log line says of a grant."""
    left = "until closed" if grant.expires_at is None else f"{max(0.0, grant.expires_at - now):.0f}s"
    source = show_source(grant.source)
    return {"client": grant.client, "source": source, "service": grant.service, "ttl": left}


def event(name: str, fields: Mapping[str, object], *, level: int = logging.INFO) -> None:
    """Log one event with its fields."""
    _LOG.log(level, "%s", name, extra={"fields": dict(fields)})


def message(text: str, *, level: int = logging.INFO) -> None:
    """Log a sentence."""
    _LOG.log(level, "%s", text)


def warnings(problems: Iterable[Problem]) -> None:
    """Log what is legal but unwise in the rules."""
    for problem in problems:
        message(f"{problem}" + (f" ({problem.hint})" if problem.hint else ""), level=logging.WARNING)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        words = [_time(record), record.levelname.lower(), _escape(record.getMessage(), " ")]
        line = " ".join([*words, *(f"{key}={_quote(str(value))}" for key, value in fields.items())])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escape(text: str, allowed: str = "") -> str:
    return "".join(
        char if char.isprintable() or char in allowed else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )


def _quote(text: str) -> str:
    plain = _escape(text)
    return json.dumps(plain, ensure_ascii=False) if " " in plain or '"' in plain or "=" in plain else plain


class _Patient(logging.handlers.QueueHandler):
    """Hands lines to the writing thread; when that cannot keep up, lines are lost, and packets are not."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            pass


def start_logging(style: str) -> logging.handlers.QueueListener:
    """Send log lines to standard error as ``text`` or ``json``. ``stop()`` of what is returned writes the rest."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_Json() if style == "json" else _Text())
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUED_LINES)
    listener = logging.handlers.QueueListener(lines, stream)
    _LOG.handlers = [_Patient(lines)]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    listener.start()
    return listener
