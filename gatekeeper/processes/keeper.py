"""The keeper as a process: it alone changes the store and the kernel's ruleset.

The supervisor sends it, for each new worker, one end of a wire. It ends when the supervisor says so or is gone; what
the workers had handed over is carried out first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType

from gatekeeper import observe, terms
from gatekeeper.budget import Budget
from gatekeeper.clock import Clock
from gatekeeper.commits import Commits, Task
from gatekeeper.enforce import Enforcer, Memory
from gatekeeper.errors import StoreError
from gatekeeper.hooks.sender import Sender
from gatekeeper.hooks.telling import Teller
from gatekeeper.lately import Lately
from gatekeeper.load import restore
from gatekeeper.model import Admit, Decision, Effect, Outcome, TrailEntry, Verdict
from gatekeeper.processes.child import NOTED, READY, REPAIRED, Control
from gatekeeper.processes.link import Link, LinkError
from gatekeeper.processes.messages import (
    ClockStepped,
    Counts,
    Do,
    Done,
    Floors,
    Message,
    Noted,
    Senders,
    all_floors,
    gathered,
)
from gatekeeper.processes.plan import Plan
from gatekeeper.processes.shared import SharedAllowlist, SharedReplays
from gatekeeper.settings import Rules
from gatekeeper.store.lock import ChangeLock
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.store.trail import Trail

_AT_ONCE = 256
_LAST_WORDS = 0.4
"""Seconds, at the end, in which workers may hand over what they have."""


def keep(plan: Plan, control: Control, *, hooks: socket.socket | None = None) -> None:
    """Keep store and kernel until ``control`` (from the supervisor) says ``stop`` or is closed.

    ``hooks``: our end of the wire to who runs them.

    Raises:
        GatekeeperError: the store or the kernel cannot be used.
    """
    keeper = Keeper(plan, control, hooks)
    keeper.start()
    control.say(READY + b"live grants: %d" % keeper.live)
    keeper.run()


class Keeper:
    """Waits for what workers, supervisor and time bring, and has it done."""

    def __init__(self, plan: Plan, control: Control, hooks: socket.socket | None = None) -> None:
        self._control = control
        self._present = plan.present
        self._rules = plan.rules
        self._links: list[Link] = []
        self._tasks: list[Task] = []
        self._untold: list[Message] = []
        self._observer = observe.Observer(is_trial=plan.observes)
        self._teller = Teller(plan.rules)
        self._hooks = Sender(hooks, self._observer.count) if hooks is not None and plan.rules.has_hooks else None
        if self._hooks is not None:
            self._observer.on_change = self._tell_hooks
        self._budget = Budget()
        self._lately = Lately(plan.state_dir)
        self._unconfirmed = plan.unconfirmed
        self._store = SqliteStore(plan.state_dir, skew=plan.rules.skew, trail_of=Trail(plan.rules.trail))
        self._allowlist = SharedAllowlist(self._tell)
        memory = Memory(self._allowlist, SharedReplays(self._tell, skew=plan.rules.skew))
        lock = ChangeLock(plan.state_dir)
        self._enforcer = Enforcer(plan.rules, self._store, plan.backend.again(), lock=lock, memory=memory)
        self._commits = Commits(self._enforcer, self._store, self._observer, Clock())
        self._commits.on_clock_step = lambda: self._tell(ClockStepped())
        self._selector = selectors.DefaultSelector()
        self._selector.register(control.socket, selectors.EVENT_READ)
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._stopping = False

    def start(self) -> None:
        """Make the kernel what the store says."""
        restore(self._enforcer, self._observer)
        if self._present is not None:
            self._present.let_in(self._enforcer, self._observer.on_change)
        self._unconfirmed.watch()
        self._reserve()

    def _reserve(self) -> None:
        """Take room on the disk, so that knocks open when that is full: somebody must get in to make room."""
        try:
            trouble = None if self._store.reserve() else "the disk has little left"
        except StoreError as error:
            trouble = error.message
        if trouble is not None:
            words = f"no room could be taken for the store ahead of time ({trouble}): when the disk is full, nobody new"
            observe.message(f"{words} is let in", level=logging.WARNING)

    @property
    def live(self) -> int:
        """How many grants there are."""
        return len(self._allowlist)

    def run(self) -> None:
        """Work until the supervisor, or SIGTERM, says to stop."""
        while not self._stopping:
            self._wait(self._commits.patience())
            self._work()
            self._control.show_life()
        deadline = time.monotonic() + _LAST_WORDS
        while self._links and (left := deadline - time.monotonic()) > 0:
            self._wait(left)
            self._work()
        self._hear_rest()
        self._work()
        self._commits.finish()
        self._store.close()

    def _wait(self, seconds: float) -> None:
        for key, events in self._selector.select(seconds):
            if isinstance(key.fileobj, Link):
                self._listen(key.fileobj, events)
            elif key.fileobj is self._control.socket:
                self._obey()
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)

    def _work(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._commits.work(tasks)
        self._tell_all()
        if self._hooks is not None:
            self._hooks.say_lost()
        self._lately.keep(now=time.monotonic())

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    # -- the supervisor

    def _obey(self) -> None:
        """Take what the supervisor sends: a wire to a new worker; or the end."""
        try:
            words, descriptors = self._control.hear()
        except BlockingIOError:
            return
        if words.startswith(REPAIRED):
            self._note_repair(words.removeprefix(REPAIRED).decode(errors="replace").split(" "))
            return
        if words.startswith(NOTED):
            self._note_deed(words)
            return
        if not descriptors:
            self._stopping = True
            if words == b"":  # the supervisor is gone
                self._selector.unregister(self._control.socket)
            return
        self._greet(Link(socket.socket(fileno=descriptors[0])))

    def _hear_rest(self) -> None:
        """Take what was to be noted before we were to end; SIGTERM comes ahead of it."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                words, descriptors = self._control.hear()
                for one in descriptors:
                    os.close(one)
                if words.startswith(NOTED):
                    self._note_deed(words)

    def _note_deed(self, words: bytes) -> None:
        at, reason, note = words.removeprefix(NOTED).decode(errors="ignore").split(" ", 2)
        self._observer.note([TrailEntry(float(at), reason, note=note)])

    def _note_repair(self, words: Sequence[str]) -> None:
        """Count what the guardian has done, and put back what it could not."""
        if words[0] == "refill":
            self._commits.refill()
        for name in words[1:]:
            self._observer.count(name)

    def _tell_hooks(self, reason: str, outcome: Outcome, now: float) -> None:
        if self._hooks is not None:
            self._hooks.send(self._teller.note(reason, outcome, now=now))

    # -- the workers

    def _greet(self, link: Link) -> None:
        """Tell a new worker what there is."""
        self._tell_all()  # or it would hear that again, after what is newer
        self._links.append(link)
        self._selector.register(link, selectors.EVENT_READ)
        try:
            floors = list(all_floors(self._store.born, self._store.floors()))
        except StoreError:  # it refuses what is spent when it is back
            floors = [Floors(0, {})]
        for message in (*self._allowlist.all(), *floors):
            self._send(link, message)

    def _tell(self, message: Message) -> None:
        """Tell the workers, when the kernel knows: what they give back to it must not come too early."""
        self._untold.append(message)

    def _tell_all(self) -> None:
        untold, self._untold = self._untold, []
        for message in gathered(untold):
            for link in list(self._links):
                self._send(link, message)

    def _send(self, link: Link, message: Message) -> None:
        try:
            link.send(message)
        except LinkError:
            self._drop(link)
            return
        self._watch(link)

    def _watch(self, link: Link) -> None:
        if link in self._links:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.backlog else 0)
            if self._selector.get_key(link).events != events:
                self._selector.modify(link, events)

    def _drop(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)
            self._selector.unregister(link)
            link.close()

    def _listen(self, link: Link, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                link.flush()
                self._watch(link)
            if events & selectors.EVENT_READ:
                for message in link.receive(_AT_ONCE):
                    self._take(link, message)
        except LinkError:
            self._drop(link)

    def _take(self, link: Link, message: Message) -> None:
        match message:
            case Do():
                if not _could_ask(self._rules, message.effect):
                    raise LinkError("a worker asks for what no knock can")
                decision = Decision(Verdict.DROP, message.reason, message.effect, message.client, message.note)
                self._tasks.append(Task(message.effect, decision, self._reply(link, message.serial)))
            case Counts():
                for name, number in message.counts.items():
                    self._observer.count(name, number)
            case Noted():
                for one in message.entries:
                    if one.client not in self._rules.clients:
                        raise LinkError("a worker notes what no client of ours has done")
                    if self._budget.take():  # who has taken over a worker must not fill the trail
                        self._observer.note([one._replace(at=time.time())])
            case Senders():
                self._lately.note(message.counts)
            case _:
                raise LinkError(f"a worker does not say {type(message).__name__}")

    def _reply(self, link: Link, serial: int) -> Callable[[bool], None]:
        def done(went_well: bool) -> None:  # noqa: FBT001  (a callback of one fact)
            self._tell_all()
            if link in self._links:
                self._send(link, Done(serial, went_well))

        return done


def _could_ask(rules: Rules, effect: Effect) -> bool:
    """Whether a knock of some client could have this effect: never what only a hand may give or take."""
    if not isinstance(effect, Admit):
        return effect.client in rules.clients
    return all(
        (client := rules.clients.get(one.client)) is not None
        and one.service in client.services
        and terms.can_have(client, one.source)
        for one in effect.grants
    )
