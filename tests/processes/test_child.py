"""A child as its supervisor hears it: a worker that was taken over may say anything."""

from __future__ import annotations

import signal
import time

import pytest

from gatekeeper.processes.child import Child, Control


@pytest.mark.parametrize(
    "words", [b"failed nonsense", b"failed [1]", b"failed 5", b'failed ["a","b","c"]', b"failed " + b"[" * 60_000]
)
def test_what_a_child_says_never_ends_the_supervisor(words: bytes) -> None:
    """Nor does one that never stops talking have the supervisor to itself."""

    def talk(control: Control) -> None:
        control.socket.settimeout(None)
        control.socket.send(words)
        control.socket.send(b"ready\xff")
        while True:
            control.socket.send(b"alive")

    child = Child("talker", talk, log_format="text")
    try:
        deadline = time.monotonic() + 5
        while not child.is_ready and time.monotonic() < deadline:
            child.listen()
        assert child.error is not None
        assert child.note == "\\xff"
    finally:
        child.kill(signal.SIGKILL)
        while child.ended() is None:
            time.sleep(0.001)
