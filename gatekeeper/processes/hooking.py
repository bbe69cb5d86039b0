"""The process that runs hooks: some at a time, each for so long at the most, and nobody waits for it.

The keeper sends it what is to be run. It has no capabilities and is not root, and so are they. What it does not take
in time is lost, and said so by the keeper. The wire is the supervisor's, so it outlives who is at its ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from types import FrameType

from gatekeeper import observe, units
from gatekeeper.budget import Budget
from gatekeeper.errors import GatekeeperError
from gatekeeper.hooks import rights
from gatekeeper.hooks.running import Running, bury_orphans
from gatekeeper.hooks.telling import Event, decode
from gatekeeper.processes.child import LIFE_EVERY, READY, Control

_TOGETHER = 4
"""Hooks that run at a time."""
_WAITING = 500
"""Those that wait here; as many or so wait on the wire."""
_LONGEST = 1 << 17
_LAST = 0.5
"""Seconds that those which run have left when all of us end."""
_LINES, _LINE = 10, 300
"""Of what a hook says: lines that are logged, and characters of each."""


def run_hooks(control: Control, end: socket.socket) -> None:
    """Run what comes from ``end`` until the supervisor says ``stop`` or is gone."""
    control.say(READY)  # at once, for the door does not wait for us either
    hooking = _Hooking(end)
    supervisor = control.socket.fileno()
    while not hooking.is_stopping:
        heard = hooking.wait(supervisor)
        if supervisor in heard:  # it says one thing only, or is gone
            break
        hooking.work()
        control.show_life()
    hooking.stop()


class _Hooking:
    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._waiting: deque[Event] = deque()
        self._running: list[Running] = []
        self._failures, self._lines = Budget(), Budget()
        self.is_stopping = False
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Handlers, for what is ignored here would be ignored by hooks as well.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._why_not = _give_up()
        rights.adopt_orphans()

    def wait(self, supervisor: int) -> list[int]:
        """Wait for something to do; return which descriptors were heard."""
        ours = [supervisor, self._woken, *(one.fileno() for one in self._running if one.talks)]
        if len(self._waiting) < _WAITING:
            ours.append(self._end.fileno())
        deadlines = [one.deadline - time.monotonic() for one in self._running if not one.is_late]
        heard, _, _ = select.select(ours, [], [], max(0.0, min([LIFE_EVERY, *deadlines])))
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        return heard

    def work(self) -> None:
        """Take what has come, begin what can begin, clear up behind what has ended."""
        self._take()
        self._tend()
        self._begin()

    def stop(self) -> None:
        """Give those that run a moment, and end them; say what was not run."""
        self._take()
        deadline = time.monotonic() + _LAST
        while self._running and time.monotonic() < deadline:
            time.sleep(0.01)
            self._tend()
        for one in self._running:
            one.kill()
            self._complain(one.event, "killed, for run is stopping", one)
        if self._waiting:
            note = "run is stopping: what waited for its turn did not run"
            observe.event("hook-lost", {"number": len(self._waiting), "note": note}, level=logging.WARNING)

    def _take(self) -> None:
        while len(self._waiting) < _WAITING:
            try:
                event = decode(self._end.recv(_LONGEST, socket.MSG_DONTWAIT))
            except OSError:  # nothing more
                return
            except ValueError:
                continue
            if self._why_not is None:
                self._waiting.append(event)
            else:
                self._complain(event, self._why_not)

    def _tend(self) -> None:
        for one in list(self._running):
            if one.talks:
                one.listen()
            if not one.look():
                continue
            self._running.remove(one)
            error = one.finish()
            if error is not None:
                self._complain(one.event, error, one)
            else:
                self._pass_on(one)
        bury_orphans(self._running)

    def _begin(self) -> None:
        """Begin those whose turn it is: of each grant one at a time, in their order."""
        busy = {one.event.whose for one in self._running}
        left: deque[Event] = deque()
        while self._waiting and len(self._running) < _TOGETHER:
            event = self._waiting.popleft()
            if event.whose in busy:
                left.append(event)
                continue
            busy.add(event.whose)
            try:
                self._running.append(Running(event))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                words = error.strerror if isinstance(error, OSError) else None
                self._complain(event, f"it cannot be started: {words or error}")
        self._waiting.extendleft(reversed(left))

    def _pass_on(self, one: Running) -> None:
        """Log what a hook says that has done well."""
        for line in one.said[:_LINES]:
            if self._lines.take():
                observe.event("hook-said", {**one.event.fields(), "said": line[:_LINE], **_unshown(self._lines)})

    def _complain(self, event: Event, error: str, one: Running | None = None) -> None:
        if not self._failures.take():
            return
        said = {"said": " / ".join(one.said)[:_LINE]} if one is not None and one.said else {}
        fields = {**event.fields(), "error": error, **said, **_unshown(self._failures)}
        observe.event("hook-failed", fields, level=logging.WARNING)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.is_stopping = True


def _give_up() -> str | None:
    """Give up what hooks must not have; return why none can be run, if that is so."""
    try:
        name = rights.give_up(units.USER)
    except GatekeeperError as error:
        observe.message(f"{error.message} ({error.hint})" if error.hint else error.message, level=logging.ERROR)
        return error.message
    if name != units.USER:
        words = f"there is no user {units.USER} here, as which hooks are run: they are run as {name}"
        observe.message(f"{words} (`gatekeeper install` makes it)", level=logging.WARNING)
    return None


def _unshown(budget: Budget) -> dict[str, object]:
    number, budget.unshown = budget.unshown, 0
    return {"not_shown": number} if number else {}
