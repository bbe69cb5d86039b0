"""The meter as a process: it gathers the figures when the exporter asks for them, and nobody waits for it.

It can look where the exporter must not: into the store and the kernel. What it hears is one byte that means one thing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from types import FrameType

from gatekeeper.firewall.backends import KernelBackend
from gatekeeper.metrics.gather import Gatherer, Subject
from gatekeeper.processes.child import LIFE_EVERY, READY, Control
from gatekeeper.processes.confine import step_back


def measure(subject: Subject, backend: KernelBackend, control: Control, end: socket.socket) -> None:
    """Answer at ``end`` until the supervisor says ``stop`` or is gone."""
    control.say(READY)  # at once: the door does not wait for us
    step_back()
    meter = _Meter(end)
    gatherer = Gatherer(subject, backend.again())
    from gatekeeper.metrics import render  # noqa: PLC0415  (50 ms and some megabytes: here, and nowhere else)

    supervisor = control.socket.fileno()
    while not meter.is_stopping:
        heard, _, _ = select.select([supervisor, end.fileno(), meter.woken], [], [], LIFE_EVERY)
        if supervisor in heard:  # it says one thing only, or is gone
            break
        if meter.was_asked():
            meter.answer(render.text(gatherer.figures()))
        control.show_life()


class _Meter:
    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.is_stopping = False
        self.woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def was_asked(self) -> bool:
        """Take what has been asked; many times are once."""
        was_asked = False
        with contextlib.suppress(OSError):
            while self._end.recv(64, socket.MSG_DONTWAIT):
                was_asked = True
        return was_asked

    def answer(self, text: bytes) -> None:
        """Hand the text over; if nobody takes it, that is not for us to mind."""
        with open(os.memfd_create("metrics"), "w+b") as memory:  # noqa: PTH123  (a descriptor)
            memory.write(text)
            memory.flush()
            with contextlib.suppress(OSError):
                socket.send_fds(self._end, [b"!"], [memory.fileno()], socket.MSG_DONTWAIT)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.is_stopping = True
