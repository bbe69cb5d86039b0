"""The keeper's part in hooks: it hands events over, and never waits. What is too much is lost, counted and said."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable

from gatekeeper import observe
from gatekeeper.hooks.telling import Event, encode

LOST = "hook-lost"
_SAY_AGAIN = 10.0
"""Seconds between two lines about it."""


class Sender:
    """One end of the wire to the process that runs them."""

    def __init__(self, end: socket.socket, count: Callable[[str], None]) -> None:
        """``count`` is told of each event that was lost."""
        self._end, self._count = end, count
        self._lost = 0
        self._say_after = 0.0

    def send(self, events: Iterable[Event]) -> None:
        """Hand events over, as far as there is room."""
        for event in events:
            try:
                self._end.send(encode(event), socket.MSG_DONTWAIT)
            except OSError:  # hooks take longer than there are grants that begin and end
                self._lost += 1
                self._count(LOST)

    def say_lost(self) -> None:
        """Say how many were lost, if any were, and not too often."""
        if self._lost and time.monotonic() > self._say_after:
            self._say_after = time.monotonic() + _SAY_AGAIN
            note = "hooks take too long for so many grants: their on_open or on_close did not run"
            observe.event(LOST, {"number": self._lost, "note": note}, level=logging.WARNING)
            self._lost = 0
