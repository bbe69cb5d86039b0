"""Log lines to standard error: as text, as JSON, or for the journal. Values from outside are escaped.

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
from typing import ClassVar

from gatekeeper.escaping import escape, quote

_LOG = logging.getLogger("gatekeeper")
_QUEUED_LINES = 10_000
_LAST_LINES = 0.3
"""Seconds that an exit waits for the last lines to be read."""


class _Text(logging.Formatter):
    has_time = True

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        head = [_time(record), record.levelname.lower()] if self.has_time else []
        words = [*head, escape(record.getMessage(), " ")]
        line = " ".join([*words, *(f"{key}={quote(str(value))}" for key, value in fields.items())])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Journal(_Text):
    """For journald, which has the time already: the line begins with its level (sd-daemon(3))."""

    has_time = False
    _LEVELS: ClassVar = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}

    def format(self, record: logging.LogRecord) -> str:
        level = f"<{self._LEVELS.get(record.levelno, 5)}>"
        return "\n".join(level + line for line in super().format(record).split("\n"))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


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


class LogThread:
    """Writes the lines that are handed over to standard error, until ``stop``.

    Straight to the file, without locks or buffers that an exit would have to wait for.
    """

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], form: logging.Formatter) -> None:
        self._lines = lines
        self._form = form
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while (record := self._lines.get()) is not None:
            left = (self._form.format(record) + "\n").encode(errors="backslashreplace")
            try:
                while left:
                    left = left[os.write(sys.stderr.fileno(), left) :]
            except OSError:  # where a line cannot be written, nor can a complaint about it
                continue

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


_FORMS = {"text": _Text, "json": _Json, "journal": _Journal}


class _Direct(logging.Handler):
    """Writes lines itself, for a process that must have one thread; waits for no reader that does not read."""

    def emit(self, record: logging.LogRecord) -> None:
        line = (self.format(record) + "\n").encode(errors="backslashreplace")
        try:
            with selectors.DefaultSelector() as selector:
                try:
                    selector.register(sys.stderr.fileno(), selectors.EVENT_WRITE)
                except PermissionError:  # a file: it can always be written
                    pass
                else:
                    if not selector.select(_LAST_LINES):
                        return
            os.write(sys.stderr.fileno(), line)
        except OSError:  # where a line cannot be written, nor can a complaint about it
            return


def log_directly(style: str) -> None:
    """Send log lines to standard error as ``text`` or ``json``, without a thread for it."""
    handler = _Direct()
    handler.setFormatter(_formatter(style))
    _use(handler)


def start_logging(style: str) -> LogThread:
    """Send log lines to standard error (``text``, ``json``, ``journal``). ``stop()`` of the result writes the rest."""
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(_QUEUED_LINES)
    _use(_Patient(lines))
    return LogThread(lines, _formatter(style))


def _formatter(style: str) -> logging.Formatter:
    return _FORMS[style]()


def _use(handler: logging.Handler) -> None:
    _LOG.handlers = [handler]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
