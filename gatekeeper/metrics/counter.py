"""The counter at which figures are asked for: a few visitors at a time, each for a few seconds at the most.

Whoever may connect may be anybody. One that sends slowly, or takes slowly, or says too much, is shown out; when all
places are taken, who was here longest makes room. The figures are fetched for all that wait, at most once a second.

Sockets are read and written with MSG_DONTWAIT: to make them non-blocking takes a call that a confined process has not.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gatekeeper.metrics import requests

PLACES = 16
_STAY = 5.0
"""Seconds from the connect to the end of the answer."""
_FRESH = 1.0
"""Seconds for which figures are told again."""
_WAIT = 4.0
"""Seconds that one waits for figures."""
_AT_ONCE = 16


@dataclass(slots=True, eq=False)
class _Visitor:
    stream: socket.socket
    came: float
    head: bytes = b""
    asked: float | None = None
    """When it had said that it wants the figures."""
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class Counter:
    """Speaks HTTP on ``listener``; ``ask`` has figures sent, which then come by ``tell``."""

    def __init__(self, listener: socket.socket, selector: selectors.BaseSelector, ask: Callable[[], None]) -> None:
        self._listener, self._selector, self._ask = listener, selector, ask
        self._visitors: dict[socket.socket, _Visitor] = {}
        self._text, self._told = b"", float("-inf")
        self._asked = float("-inf")
        selector.register(listener, selectors.EVENT_READ)

    def patience(self) -> float | None:
        """Return for how many seconds there is nothing to do unless something comes; ``None``: until then."""
        if not self._visitors:
            return None
        now = time.monotonic()
        ends = (
            min(one.came + _STAY, one.asked + _WAIT if one.asked else now + _STAY) for one in self._visitors.values()
        )
        return max(0.0, min(ends) - now)

    def take(self, ready: socket.socket, events: int) -> None:
        """Do what a socket of ours is ready for."""
        if ready is self._listener:
            self._greet()
        elif (visitor := self._visitors.get(ready)) is not None:
            try:
                if events & selectors.EVENT_READ:
                    self._listen(visitor)
                if events & selectors.EVENT_WRITE:
                    self._talk(visitor)
            except BlockingIOError:
                pass
            except OSError:  # it is gone
                self._show_out(visitor)

    def tell(self, text: bytes) -> None:
        """Take the figures that were asked for."""
        self._text, self._told, self._asked = text, time.monotonic(), float("-inf")
        for visitor in list(self._visitors.values()):
            if visitor.asked is not None:
                self._answer(visitor, 200)

    def look(self) -> None:
        """Show out those whose time is up."""
        now = time.monotonic()
        for visitor in list(self._visitors.values()):
            if now >= visitor.came + _STAY:
                self._show_out(visitor)
            elif visitor.asked is not None and now >= visitor.asked + _WAIT:
                self._answer(visitor, 503)

    def _greet(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                stream, _ = self._listener.accept()
            except OSError:  # nobody is there any more, or there are no descriptors left
                return
            if len(self._visitors) >= PLACES:
                self._show_out(next(iter(self._visitors.values())))
            self._visitors[stream] = _Visitor(stream, time.monotonic())
            self._selector.register(stream, selectors.EVENT_READ)

    def _listen(self, visitor: _Visitor) -> None:
        data = visitor.stream.recv(requests.LONGEST, socket.MSG_DONTWAIT)
        if not data:
            self._show_out(visitor)
            return
        if visitor.asked is not None or visitor.answer:  # what else it says is of no interest
            return
        visitor.head = (visitor.head + data)[: requests.LONGEST]
        status = requests.status_of(visitor.head)
        if status is None:
            return
        if status != 200 or time.monotonic() < self._told + _FRESH:
            self._answer(visitor, status)
            return
        visitor.asked = time.monotonic()
        if time.monotonic() > self._asked + _FRESH:  # nobody has asked, or who was asked may have died
            self._asked = time.monotonic()
            self._ask()

    def _answer(self, visitor: _Visitor, status: int) -> None:
        visitor.asked = None
        visitor.answer = memoryview(requests.answer(status, self._text))
        self._selector.modify(visitor.stream, selectors.EVENT_WRITE)

    def _talk(self, visitor: _Visitor) -> None:
        sent = visitor.stream.send(visitor.answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        visitor.answer = visitor.answer[sent:]
        if not visitor.answer:
            self._show_out(visitor)

    def _show_out(self, visitor: _Visitor) -> None:
        del self._visitors[visitor.stream]
        self._selector.unregister(visitor.stream)
        with contextlib.suppress(OSError):
            visitor.stream.shutdown(socket.SHUT_WR)
        visitor.stream.close()
