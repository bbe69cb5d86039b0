"""The guard: a process of its own that waits, and puts the ruleset back unless it is told that it may stay.

It outlives the terminal and ``run``, has nothing open but its socket, and imports beforehand all that it needs. Its
deadline is by CLOCK_BOOTTIME, which nobody sets. A SIGTERM makes it put the ruleset back at once: what ends the guard
must not leave an unconfirmed ruleset behind. (SIGKILL does, and the plan with it: ``gatekeeper confirm --revert``.)

``run`` must be gone before the ruleset is put back, for it repairs what others change.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import syslog
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from gatekeeper import stopping
from gatekeeper.confirm import asking
from gatekeeper.confirm import plan as plans
from gatekeeper.confirm.asking import State, Word, line_of
from gatekeeper.confirm.commands import carry_out
from gatekeeper.confirm.plan import Plan
from gatekeeper.errors import GatekeeperError
from gatekeeper.firewall import snapshot
from gatekeeper.firewall.putback import Member
from gatekeeper.store.lock import holder, of_this_namespace

_TICK = 0.25
"""Seconds between looks at the clock: select(2) does not count those in which the machine sleeps."""
_MANNERS = 0.5
"""Seconds that somebody may take to say a word."""
_STOP_PATIENCE = 3.0
"""Seconds that run may take to stop; it takes less than one."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between tries to put the ruleset back; the last one again and again."""
_TRIES = 60


class Guard:
    """Waits for a word or for the deadline, and acts."""

    def __init__(self, the_plan: Plan, listener: socket.socket) -> None:
        self._plan = the_plan
        self._listener = listener
        self._state = State.WAITING
        self._reason = ""
        self._text = "the ruleset is not confirmed yet"
        self._run_has_left = False
        self._seen: snapshot.Snapshot | None = None
        self._closed: frozenset[Member] = frozenset()
        self._listening: list[socket.socket] = []
        """Who wants to know how it ends."""

    def run(self) -> int:
        """Wait, act, and say what became of it; return the exit status."""
        while self._state is State.WAITING and (left := self._left()) > 0:
            self._serve(left)
        if self._state is State.CONFIRMED:
            self._do(self._plan.keep)
            return self._end(self._text)
        if self._state is State.WAITING:
            self._reason = f"nobody confirmed within {self._plan.seconds} s"
        self._state = State.ENDING
        self._text = f"{self._reason}: the ruleset is put back as it was"
        self._say(self._text, syslog.LOG_WARNING)
        self._stop_run()
        self._do(self._plan.undo)
        return self._put_back()

    def _is_called_off(self) -> bool:
        return self._state is State.CONFIRMED

    def revert(self, reason: str) -> None:
        """Put the ruleset back now."""
        if self._state is State.WAITING:
            self._state, self._reason = State.ENDING, reason

    # -- words

    def _left(self) -> float:
        return self._plan.deadline - snapshot.boottime()

    def _serve(self, seconds: float) -> None:
        """Hear one word, if one comes in time."""
        with contextlib.suppress(OSError):
            readable, _, _ = select.select([self._listener], [], [], min(seconds, _TICK))
            if readable:
                one, _ = self._listener.accept()
                one.settimeout(_MANNERS)
                self._hear(one, one.recv(64).decode("ascii", "replace").strip())

    def _hear(self, one: socket.socket, word: str) -> None:
        act: dict[str, Callable[[], None]] = {
            "confirm": self._confirm,
            "revert": lambda: self.revert("`gatekeeper confirm --revert` was called"),
            "leave": self._leave,
            "call off": self._call_off,
        }
        before = self._state
        if word in act and asking.may_decide(one):
            act[word]()
        self._listening.append(one)
        if self._state is State.ENDING and before is State.WAITING:
            return  # this is what is said to all next
        self._tell(one, Word(self._state, self._text, max(0, round(self._left()))))
        if word == "status" or self._state is State.CONFIRMED:
            self._listening.remove(one)
            one.close()
        if word == "watch":  # and behind the answer, for which packets wait
            self._look()

    def _confirm(self) -> None:
        if self._state is State.WAITING:
            self._state, self._text = State.CONFIRMED, "confirmed: the ruleset stays"

    def _call_off(self) -> None:
        """Put nothing back, nor try again: somebody takes everything out."""
        self._state, self._text = State.CONFIRMED, "called off by `gatekeeper flush`: nothing is put back"

    def _leave(self) -> None:
        self._run_has_left = True
        self.revert("run was stopped before it was confirmed")

    def _look(self) -> None:
        """Note what is there now that ``run`` has put its grants in place: what is closed from here on stays closed."""
        if self._seen is None and self._state is State.WAITING:
            with contextlib.suppress(GatekeeperError):
                self._seen = snapshot.take()

    def _tell(self, one: socket.socket, word: Word) -> None:
        try:
            one.sendall(line_of(word))
        except OSError:
            self._listening.remove(one)
            one.close()

    def _say(self, text: str, level: int, *, state: State | None = None) -> None:
        syslog.syslog(level, f"confirm: {text}")
        for one in list(self._listening):
            self._tell(one, Word(state or self._state, text))

    # -- deeds

    def _stop_run(self) -> None:
        """Stop ``run``, unless it waits for us; and hear it out, for it may say that it does."""
        lock = of_this_namespace("lock")
        with contextlib.suppress(GatekeeperError):
            if not self._is_still(lock):
                syslog.syslog(syslog.LOG_NOTICE, f"confirm: stopping run: {stopping.ask(lock)}")
            deadline = time.monotonic() + _STOP_PATIENCE
            while not self._is_still(lock):
                if time.monotonic() > deadline:
                    stopping.kill(lock)
                self._serve(0.02)

    def _is_still(self, lock: Path) -> bool:
        """Whether ``run`` does nothing any more: it waits for us, or is gone."""
        return self._run_has_left or holder(lock) is None

    def _do(self, commands: Iterable[Sequence[str]]) -> None:
        for words in carry_out(commands):
            self._say(words, syslog.LOG_ERR)

    def _put_back(self) -> int:
        for number in range(_TRIES):
            if self._is_called_off():
                return self._end(self._text)
            try:
                if self._seen is not None:  # but once: a second try would look at what the first one has put back
                    self._closed, self._seen = snapshot.closed_since(self._seen), None
                warnings = snapshot.put_back(self._plan.before, closed=self._closed)
            except GatekeeperError as error:
                pause = _PAUSES[min(number, len(_PAUSES) - 1)]
                words = f"the ruleset could not be put back: {error.message}; trying again in {pause:g} s"
                self._say(words, syslog.LOG_ERR)
                self._wait(pause)
                with contextlib.suppress(GatekeeperError):  # whoever promised to keep still may not have
                    stopping.kill(of_this_namespace("lock"))
                continue
            for words in warnings:
                self._say(words, syslog.LOG_WARNING)
            was = "nothing of gatekeeper is in the kernel"
            if not self._plan.before.is_empty:
                was = "the earlier one, with what is left of its grants"
            return self._end(f"the ruleset is what it was: {was}", State.RETURNED)
        self._end(f"the ruleset could not be put back in {_TRIES} tries", State.FAILED)
        return 1

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._is_called_off():
            self._serve(left)

    def _end(self, text: str, state: State = State.CONFIRMED) -> int:
        why = f"{self._reason}; " if self._reason else ""
        plans.forget(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}: {why}{text}")
        self._state = state
        self._say(text, syslog.LOG_ERR if state is State.FAILED else syslog.LOG_NOTICE)
        for one in self._listening:
            one.close()
        return 0


def main(arguments: list[str]) -> int:
    """Guard the plan of this network namespace; ``detach``: in a process that nobody waits for."""
    try:
        the_plan = plans.read()
        if the_plan is None:
            sys.stderr.write("there is no plan\n")
            return 1
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = plans.socket_file()
        path.unlink(missing_ok=True)  # of a guard that was killed: there is one plan, so there is no other guard
        asking.bind(listener, path)
        listener.listen(16)
    except (GatekeeperError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if "detach" in arguments and os.fork() != 0:
        os._exit(0)
    guard = Guard(the_plan, listener)
    signal.signal(signal.SIGTERM, lambda *_: guard.revert("the guard was told to end"))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # without memory, the others go first
        Path("/proc/self/oom_score_adj").write_text("-900", encoding="ascii")
    syslog.openlog("gatekeeper", syslog.LOG_PID, syslog.LOG_DAEMON)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        return guard.run()
    except Exception as error:  # noqa: BLE001  (nobody else would ever hear of it)
        syslog.syslog(syslog.LOG_CRIT, f"confirm: this is a bug in gatekeeper: {error!r}")
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
