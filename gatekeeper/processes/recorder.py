"""The recorder as a process: it writes what workers hand over to the files of the recording.

A disk can be slow, and neither a verdict nor a grant may wait for that. So nobody waits for this process: what it
does not take in time is lost, and counted. The wire is the supervisor's, so it outlives who is at its ends.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from types import FrameType

from gatekeeper import observe
from gatekeeper.processes.child import LIFE_EVERY, READY, Control
from gatekeeper.recording import pcapng
from gatekeeper.recording.notes import decode
from gatekeeper.recording.ring import Recording, Ring

_AT_ONCE = 4096
"""More than ever waits on the wire."""
_LONGEST = 1 << 17
_SAY_AGAIN = 60.0
"""Seconds until it is told again that nothing can be written."""


def record(recording: Recording, control: Control, end: socket.socket) -> None:
    """Write what comes from ``end`` until the supervisor says ``stop`` or is gone, and then what is left.

    Raises:
        CaptureError: the files cannot be made.
    """
    recorder = _Recorder(recording, end)
    control.say(READY)
    supervisor = control.socket.fileno()
    while not recorder.is_stopping:
        heard, _, _ = select.select([supervisor, end.fileno(), recorder.woken], [], [], LIFE_EVERY)
        if supervisor in heard:  # it says one thing only, or is gone
            break
        recorder.write()
        control.show_life()
    recorder.write()


class _Recorder:
    def __init__(self, recording: Recording, end: socket.socket) -> None:
        self._ring = Ring(recording)
        self._path, self._end = recording.path, end
        self._say_again = 0.0
        self.is_stopping = False
        self.woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def write(self) -> None:
        """Write what has come."""
        for _ in range(_AT_ONCE):
            try:
                message = self._end.recv(_LONGEST, socket.MSG_DONTWAIT)
            except OSError:  # nothing more
                return
            try:
                note = decode(message)
            except ValueError:  # a worker that was taken over may say anything
                continue
            block = pcapng.packet(note.data, length=note.length, time=note.time, comment=note.comment)
            try:
                self._ring.write(block)
            except OSError as error:
                self._complain(error)

    def _complain(self, error: OSError) -> None:
        if time.monotonic() > self._say_again:
            self._say_again = time.monotonic() + _SAY_AGAIN
            observe.message(f"cannot record to {self._path}: {error.strerror}", level=logging.ERROR)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.is_stopping = True
