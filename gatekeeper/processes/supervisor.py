"""The supervisor: forks guardian, keeper and worker, and replaces what dies. It does nothing else, so that it lives.

It has one thread, so a fork takes nothing by surprise; all that children need was imported and read before. A worker
is replaced alone, and so is a guardian; with a keeper, the worker is replaced too. What fails again and again is tried
with pauses, and never given up: the ruleset is in place, closed stays closed, and open ends by the kernel's clock.
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
from dataclasses import replace
from functools import partial
from types import FrameType

from gatekeeper import observe
from gatekeeper.errors import GatekeeperError
from gatekeeper.processes.child import LINK, Child, Control, Main
from gatekeeper.processes.guarding import guard
from gatekeeper.processes.keeper import keep
from gatekeeper.processes.link import pair
from gatekeeper.processes.packets import work
from gatekeeper.processes.plan import Plan

_LOOK_EVERY = 2.0
"""Seconds. Deaths are heard of at once (SIGCHLD); this is for what hangs."""
_STOP_PATIENCE = 0.8
"""Seconds that a stop waits for knocks in hand."""
_LAST_PATIENCE = 0.5
"""Seconds after which a process that was killed is let go of: the kernel ends it when the disk answers."""
_ALL = 3
"""Children."""
_START_PATIENCE = 60.0
"""Seconds in which a child gets ready: with a hundred thousand grants, restoring takes some."""
_SILENCE = 20.0
"""Seconds after which a child that shows no life is killed. (The store waits up to 5 s for others.)"""
_LASTED = 1.0
"""Seconds that a child must have lived, for the next to follow without a pause."""
_PAUSES = (0.0, 0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds until the next try, after so many failures in a row. Under one, so that the door is never shut for long."""
_SAY_AGAIN = 60.0
"""Seconds until the same trouble is told again."""


class Supervisor:
    """One guardian, one keeper, one worker."""

    def __init__(self, plan: Plan, *, on_ready: Callable[[str], None], on_life: Callable[[], None]) -> None:
        """Call ``on_ready`` once, when all are, with what the keeper says; ``on_life`` every two seconds or less."""
        self._plan = plan
        self._on_ready, self._on_life = on_ready, on_life
        self._guardian: Child | None = None
        self._keeper: Child | None = None
        self._worker: Child | None = None
        self._was_ready = False
        self._stopping = False
        self._failures = 0
        self._next_try = 0.0
        self._looked = time.monotonic()
        self._died: float | None = None
        self._said, self._say_again = "", 0.0
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT.

        Raises:
            GatekeeperError: a child could not begin, the first time.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            while not self._stopping:
                self._look()
                self._on_life()
                self._wait()
        finally:
            self._stop()

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for child in self._children():
                selector.register(child.control, selectors.EVENT_READ)
            pause = self._next_try - time.monotonic()
            selector.select(min(_LOOK_EVERY, pause) if pause > 0 else _LOOK_EVERY)
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        for child in self._children():
            said = child.listen()
            if child is self._guardian and self._keeper is not None:
                for words in said:
                    self._keeper.send(words)

    def _children(self) -> list[Child]:
        return [child for child in (self._guardian, self._worker, self._keeper) if child is not None]

    # -- who lives, who died

    def _look(self) -> None:
        """Replace what died, and kill what hangs."""
        if self._worker is not None and (status := self._worker.ended()) is not None:
            worker, self._worker = self._worker, None
            self._note_end(worker, status)
        if self._keeper is not None and (status := self._keeper.ended()) is not None:
            keeper, self._keeper = self._keeper, None
            self._note_end(keeper, status)
            self._end_worker()
        if self._guardian is not None and (status := self._guardian.ended()) is not None:
            guardian, self._guardian = self._guardian, None
            self._note_end(guardian, status)
        self._kill_what_hangs()
        if time.monotonic() >= self._next_try:
            self._begin_missing()
        there = self._children()
        if self._keeper is not None and len(there) == _ALL and all(child.is_ready for child in there):
            self._note_ready(self._keeper)

    def _kill_what_hangs(self) -> None:
        now = time.monotonic()
        was_stopped, self._looked = now - self._looked > _LOOK_EVERY * 2, now
        for child in self._children():
            if was_stopped:  # the whole machine, or all of us: they had no more time than we had
                child.seen = now
            patience = _SILENCE if child.is_ready else _START_PATIENCE
            if now - child.seen > patience and not child.was_killed:
                child.was_killed = True
                words = f"the {child.name} (process {child.pid}) hangs; it is killed"
                observe.message(f"{words} (as soon as the kernel can: it may wait for a disk)", level=logging.ERROR)
                child.kill()

    def _begin_missing(self) -> None:
        try:
            if self._guardian is None:  # before the keeper, and whether or not that can begin
                self._guardian = self._fork("guardian", partial(guard, self._plan))
            if self._keeper is None:
                self._keeper = self._fork("keeper", partial(keep, self._plan))
            elif self._keeper.is_ready and self._worker is None:
                self._begin_worker(self._keeper)
        except OSError as error:  # no memory
            self._fail(f"no new process can be made: {error.strerror}")

    def _begin_worker(self, keeper: Child) -> None:
        ours, its = pair()
        with ours, its:
            self._worker = self._fork("worker", lambda control: work(self._plan, control, its), not_for_it=ours)
            keeper.send(LINK, ours.fileno())

    def _fork(self, name: str, main: Main, *, not_for_it: socket.socket | None = None) -> Child:
        others = [child.control for child in self._children()]

        def begin(control: Control) -> None:
            for one in [*others, *([not_for_it] if not_for_it else [])]:
                one.close()  # or a wire would not end with the process at its other end
            main(control)

        return Child(name, begin, log_format=self._plan.log_format)

    def _note_end(self, child: Child, status: int) -> None:
        words = f"the {child.name} (process {child.pid}) "
        words += f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if child.error is not None:
            if not self._was_ready:
                raise child.error
            words = f"the {child.name} cannot go on: {child.error.message}"
        elif not self._was_ready:
            raise GatekeeperError(words, "its log lines above say why")
        self._died = self._died or time.monotonic()
        # What was killed from outside (by the kernel, for want of memory) did not fail.
        lasted = time.monotonic() - child.begun > _LASTED or (child.is_ready and status == -signal.SIGKILL)
        self._fail(words, lasted=lasted)

    def _fail(self, words: str, *, lasted: bool = False) -> None:
        self._failures = 0 if lasted else min(self._failures + 1, len(_PAUSES) - 1)
        pause = _PAUSES[self._failures]
        self._next_try = time.monotonic() + pause
        if words != self._said or time.monotonic() > self._say_again:
            self._said, self._say_again = words, time.monotonic() + _SAY_AGAIN
            observe.message(f"{words}; it is replaced", level=logging.ERROR)

    def _note_ready(self, keeper: Child) -> None:
        if not self._was_ready:
            self._was_ready = True
            self._plan = replace(self._plan, present=None)  # let in once: what is revoked later stays revoked
            self._on_ready(keeper.note)
        elif self._died is not None:
            observe.event("replaced", {"after": f"{(time.monotonic() - self._died) * 1000:.0f}ms"})
        self._died = None

    # -- the end

    def _end_worker(self) -> None:
        """End the worker of a keeper that is gone: it knows nobody who carries knocks out."""
        if self._worker is not None:
            self._worker.kill()
            self._reap(self._worker, seconds=_STOP_PATIENCE)
            self._worker = None

    def _stop(self) -> None:
        """End all: the worker before the keeper, which then carries out what it had in hand."""
        signal.set_wakeup_fd(-1)
        for child in self._children():
            child.stop()
            self._reap(child, seconds=_STOP_PATIENCE)
        self._guardian = self._worker = self._keeper = None

    @staticmethod
    def _reap(child: Child, *, seconds: float) -> None:
        """Wait for its end; kill it when it takes too long, and let go of what not even that ends."""
        deadline = time.monotonic() + seconds
        while child.ended() is None:
            if time.monotonic() > deadline + _LAST_PATIENCE:
                words = f"the {child.name} (process {child.pid}) waits for a disk, and ends with that"
                observe.message(words, level=logging.ERROR)
                return
            if time.monotonic() > deadline:
                child.kill()
            time.sleep(0.002)
