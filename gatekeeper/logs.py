"""Log lines: to standard error, as text or JSON, or to the journal with their fields. Values from outside are escaped.

The lines leave by a thread of their own, so that a terminal that is stopped (Ctrl-S) stops no packets; or directly,
for a process that must have one thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import queue
import selectors
import sys
import threading
from datetime import UTC, datetime

from gatekeeper import journald
from gatekeeper.escaping import escape, quote
from gatekeeper.journald import Journal

_LOG = logging.getLogger("gatekeeper")
_QUEUED_LINES = 10_000
_LAST_LINES = 0.3
"""Seconds that an exit waits for the last lines to be read."""
_NAME, _OURS = "gatekeeper", "GATEKEEPER_"
"""What the lines, and our own fields, are called in the journal."""


class _Text(logging.Formatter):
    has_time = True

    def format(self, record: logging.LogRecord) -> str:
        head = [_time(record), record.levelname.lower()] if self.has_time else []
        words = [*head, escape(record.getMessage(), " ")]
        line = " ".join([*words, *(f"{key}={quote(str(value))}" for key, value in _fields(record).items())])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Plain(_Text):
    has_time = False


class _Leveled(_Plain):
    """For journald, which has the time already: each line begins with its level (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{_priority(record)}>{line}" for line in super().format(record).split("\n"))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= _named(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


_PRIORITIES = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
"""Of syslog(3), for our levels."""


def _priority(record: logging.LogRecord) -> int:
    return _PRIORITIES.get(record.levelno, 5)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = getattr(record, "fields", {})
    return found


def _named(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields, with the reason under its own name also where it is the event: machines look for one name."""
    fields = _fields(record)
    return {"reason": record.getMessage(), **fields} if fields else fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Patient(logging.handlers.QueueHandler):
    """Hands lines to the writing thread; when that cannot keep up, lines are lost, and packets are not."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            pass


class _Stderr:
    """Writes lines to standard error: straight to the file, without locks or buffers that an exit would wait for."""

    def __init__(self, form: logging.Formatter) -> None:
        self._form = form

    def write(self, record: logging.LogRecord) -> None:
        left = (self._form.format(record) + "\n").encode(errors="backslashreplace")
        try:
            while left:
                left = left[os.write(sys.stderr.fileno(), left) :]
        except OSError:  # where a line cannot be written, nor can a complaint about it
            return

    def close(self) -> None:
        """Leave standard error as it is: others write there too."""


class _Journald:
    """Writes lines with their fields to the journal; or, if it does not take one, as text to standard error."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._form = _Plain()
        self._instead = _Stderr(_Leveled())

    def write(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": self._form.format(record),
            "PRIORITY": str(_priority(record)),
            "SYSLOG_IDENTIFIER": _NAME,
        }
        own = {"event": record.getMessage(), **_named(record)} if _fields(record) else {}
        fields |= {f"{_OURS}{key.upper()}": escape(str(value)) for key, value in own.items()}
        try:
            self._journal.send(fields)
        except OSError:
            self._instead.write(record)

    def close(self) -> None:
        self._journal.close()


_Sink = _Stderr | _Journald


class LogThread:
    """Writes the lines that are handed over, until ``stop``."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], sink: _Sink) -> None:
        self._lines = lines
        self._sink = sink
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while (record := self._lines.get()) is not None:
            self._sink.write(record)

    def stop(self) -> None:
        """Write the rest and end; but do not wait for a reader that does not read."""
        while True:
            try:
                self._lines.put_nowait(None)
                break
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._lines.get_nowait()
        self._thread.join(_LAST_LINES)
        if not self._thread.is_alive():
            self._sink.close()


class _Direct(logging.Handler):
    """Writes lines itself, for a process that must have one thread; waits for no reader that does not read."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__()
        self._sink = sink

    def close(self) -> None:
        self._sink.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(self._sink, _Journald) or _can_be_written(sys.stderr.fileno()):
            self._sink.write(record)


def _can_be_written(descriptor: int) -> bool:
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_WRITE)
            return bool(selector.select(_LAST_LINES))
    except PermissionError:  # a file: it can always be written
        return True
    except OSError:
        return False


def log_directly(style: str) -> None:
    """Send log lines where ``start_logging`` does, without a thread for it."""
    _use(_Direct(_sink(style)))


def start_logging(style: str) -> LogThread:
    """Send log lines away: ``text``, ``json``, ``journal``; or ``auto``, to the journal if there is where they go.

    ``stop()`` of the result writes the rest.
    """
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(_QUEUED_LINES)
    _use(_Patient(lines))
    return LogThread(lines, _sink(style))


def _sink(style: str) -> _Sink:
    goes_there = style in {"auto", "journal"} and _goes_to_the_journal()
    if goes_there:
        with contextlib.suppress(OSError):  # no such socket in this sandbox, or container
            return _Journald(Journal())
    forms: dict[str, logging.Formatter] = {"json": _Json(), "journal": _Leveled()}
    return _Stderr(_Leveled() if goes_there else forms.get(style, _Text()))


def _goes_to_the_journal() -> bool:
    try:
        return journald.reads(sys.stderr.fileno())
    except (AttributeError, OSError):  # there is no standard error, or it is no file
        return False


def _use(handler: logging.Handler) -> None:
    _LOG.handlers = [handler]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
