"""The exporter as a process: it speaks HTTP with whoever connects, and can do nothing else.

It has no figures of its own. It asks the meter, which answers with a descriptor of memory that has the text; so who
takes over the exporter, by a request, can ask for figures, and that is all. It opens its port, gives up all rights,
and then the calls with which it could open, run or reach anything (``confine``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from gatekeeper import observe
from gatekeeper.errors import GatekeeperError
from gatekeeper.metrics.counter import Counter
from gatekeeper.processes.child import LIFE_EVERY, READY, Control
from gatekeeper.processes.confine import confine, give_up_capabilities, step_back
from gatekeeper.settings import Listen

ASK = b"?"
_TRY_AGAIN = 5.0
"""Seconds until the next try where the port is taken, or the address not there yet."""
_SAY_AGAIN = 600.0
_BACKLOG = 16
_MOST = 16 * 1024 * 1024
"""Bytes of text."""
_CALLS = ("accept", "accept4", "shutdown")


def export(listen: Listen, control: Control, end: socket.socket) -> None:
    """Answer at an address until the supervisor says ``stop`` or is gone; ``end`` is of the wire to the meter."""
    control.say(READY)  # at once: the door waits for no port of ours
    step_back()
    exporter = _Exporter(control, end)
    listener = exporter.open(listen)
    if listener is not None:
        exporter.run(listener)


class _Exporter:
    def __init__(self, control: Control, end: socket.socket) -> None:
        self._control, self._end = control, end
        self._is_stopping = False
        self._selector = selectors.DefaultSelector()
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for one in (self._control.socket, self._woken):
            self._selector.register(one, selectors.EVENT_READ)

    def open(self, listen: Listen) -> socket.socket | None:
        """Open the port, however long it takes; ``None``: we are to end before that."""
        say_again = 0.0
        while not self._is_stopping:
            try:
                return _listening(listen)
            except OSError as error:
                if time.monotonic() > say_again:
                    say_again = time.monotonic() + _SAY_AGAIN
                    words = f"no metrics: {listen} cannot be listened on: {error.strerror}"
                    hint = "it is tried again every few seconds; the door works all the same"
                    observe.message(f"{words} ({hint})", level=logging.ERROR)
            until = time.monotonic() + _TRY_AGAIN
            while not self._is_stopping and (left := until - time.monotonic()) > 0:
                self._wait(min(left, LIFE_EVERY))
        return None

    def run(self, listener: socket.socket) -> None:
        """Answer."""
        counter = Counter(listener, self._selector, self._ask)
        self._selector.register(self._end, selectors.EVENT_READ)
        give_up_capabilities()
        try:
            confine(_CALLS, who="exporter")
        except GatekeeperError as error:
            hint = error.hint or "it has no capabilities all the same"
            observe.message(f"{error.message} ({hint})", level=logging.ERROR)
        while not self._is_stopping:
            patience = counter.patience()
            self._wait(LIFE_EVERY if patience is None else min(patience, LIFE_EVERY), counter)
            counter.look()

    def _wait(self, seconds: float, counter: Counter | None = None) -> None:
        for key, events in self._selector.select(seconds):
            if key.fileobj is self._control.socket:  # it says one thing only, or is gone
                self._is_stopping = True
            elif key.fileobj == self._woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            elif counter is not None and key.fileobj is self._end:
                self._hear(counter.tell)
            elif counter is not None and isinstance(key.fileobj, socket.socket):
                counter.take(key.fileobj, events)
        self._control.show_life()

    def _ask(self) -> None:
        with contextlib.suppress(OSError):  # it has been asked more often than it has looked
            self._end.send(ASK, socket.MSG_DONTWAIT)

    def _hear(self, tell: Callable[[bytes], None]) -> None:
        try:
            _, descriptors, _, _ = socket.recv_fds(self._end, 64, 1, socket.MSG_DONTWAIT)
        except OSError:
            return
        for one in descriptors:
            try:
                size = min(os.lseek(one, 0, os.SEEK_END), _MOST)
                os.lseek(one, 0, os.SEEK_SET)
                tell(os.read(one, size))
            finally:
                os.close(one)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_stopping = True


def _listening(listen: Listen) -> socket.socket:
    family = socket.AF_INET if listen.address.version == 4 else socket.AF_INET6
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(listen.address), listen.port))
        listener.listen(_BACKLOG)
        listener.settimeout(0)
        stack.pop_all()
    return listener
