"""The worker as a process: it inspects packets, and can do nothing else.

Its queues it has from the supervisor; what else it needs is opened first, and then it gives up opening anything
(``confine``). It keeps a copy of the live grants, by
what the keeper says; what a knock asks for it hands to the keeper. When the keeper is gone, it ends.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType

from gatekeeper import observe
from gatekeeper.allowlist import Allowlist
from gatekeeper.answers import Answers
from gatekeeper.board import Board
from gatekeeper.errors import FirewallError, GatekeeperError, QueueError
from gatekeeper.firewall.conntrack import MarkedFlows
from gatekeeper.firewall.nfqueue import Left
from gatekeeper.garbage import unsearched
from gatekeeper.gate import Gate
from gatekeeper.inlet import Inlet
from gatekeeper.model import Admit, Floor, Grant
from gatekeeper.processes.child import GO, READY, Control
from gatekeeper.processes.confine import confine
from gatekeeper.processes.link import Link, LinkError
from gatekeeper.processes.messages import (
    Changed,
    ClockStepped,
    Counts,
    Do,
    Done,
    Floors,
    Grants,
    Message,
    Noted,
    Senders,
)
from gatekeeper.processes.plan import Plan
from gatekeeper.recording.sender import Sender
from gatekeeper.refusals import Refusals
from gatekeeper.replay import ReplayMemory
from gatekeeper.settings import Guard, Refuse, Rules, Via
from gatekeeper.worker import Job, Manners, Worker

_SWITCH_INTERVAL = 0.0005
"""Seconds after which Python lets the log's thread run: the packet loop should not wait longer for it."""
_AT_ONCE = 64
_TOGETHER = 2.0
"""Seconds that a worker waits for the others, at the most."""
_PATIENCE = 10.0
"""Seconds that the keeper may be silent before it has said what grants there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What whoever takes a worker's place finds there."""

    inlets: Sequence[Inlet]
    """The queues, in the order in which they are served."""
    left: Left
    """What becomes of packets that the worker before had in hand."""
    board: Board | None
    waits: bool
    """Whether several workers begin together, when the supervisor says so.

    What waits for them is a client's first packet and its knock, in two workers' queues perhaps. Who holds the one
    gives it up after a tenth of a second, so who has the other must not begin later than that.
    """
    answers: Answers | None
    took: Callable[[float], None]
    """Is told how many seconds a knock took until its grant was in the kernel."""
    notes: socket.socket | None
    """Takes what is recorded, where anything is."""


def work(plan: Plan, control: Control, end: socket.socket, seat: Seat) -> None:
    """Inspect packets until SIGTERM, or until the keeper at the other ``end`` is gone."""
    desk = _Desk(plan, control, Link(end), seat)
    signal.signal(signal.SIGTERM, desk.on_signal)
    signal.set_wakeup_fd(desk.worker.wake_fd, warn_on_full_buffer=False)
    desk.learn()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        confine()
    except GatekeeperError as error:
        observe.message(f"{error.message} ({error.hint or 'it can do all that it could before'})", level=logging.ERROR)
    control.say(READY)
    if seat.waits:
        select.select([control.socket], [], [], _TOGETHER)
        desk.obey()
    desk.worker.run(desk.now_and_then)
    desk.send_counts()


class _Desk:
    """The worker, and its link to the keeper."""

    def __init__(self, plan: Plan, control: Control, link: Link, seat: Seat) -> None:
        self._control, self._link = control, link
        self._formats = plan.formats
        self._sender = None if seat.notes is None else Sender(seat.notes, plan.formats, self._count)
        record = None if self._sender is None else self._sender.send
        self._observer = observe.Observer(is_trial=plan.observes, on_refused=record)
        self._allowlist = Allowlist()
        self._replays = ReplayMemory(skew=plan.rules.skew)
        self._answers, self._took = seat.answers, seat.took
        self._grants: list[Grant] = []
        self._floors: dict[bytes, Floor] = {}
        self._knows: set[type[Message]] = set()
        gate = Gate(plan.rules, plan.formats, self._allowlist, replays=self._replays)
        mark, refuse = plan.rules.firewall.mark, _refuse(plan)
        manners = Manners(mark=mark, observes=plan.observes, refuse=refuse, board=seat.board)
        self.worker = Worker(gate, self._observer, self._submit, manners)
        self.worker.serve(seat.inlets, left=seat.left)
        self.worker.listen(link, self._listen)
        self.worker.listen(control.socket, self.obey)
        self._renew(at_once=True)

    def learn(self) -> None:
        """Wait until the keeper has said what grants there are.

        Raises:
            LinkError: it is gone, or says nothing.
        """
        deadline = time.monotonic() + _PATIENCE
        with unsearched():
            while len(self._knows) < 2:
                for message in self._link.receive(_AT_ONCE):
                    self._take(message)
                    deadline = time.monotonic() + _PATIENCE
                if time.monotonic() > deadline:
                    raise LinkError("the keeper says nothing")
                time.sleep(0.001)

    def obey(self) -> None:
        """Take what the supervisor says, if anything: to begin (which we do), or to end; or that it is gone."""
        with contextlib.suppress(BlockingIOError):
            words, _ = self._control.hear()
            if words != GO:
                self.worker.stop()

    def on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        """End soon."""
        self.worker.stop()

    def now_and_then(self) -> None:
        """Make ready what the formats need next, and show a sign of life."""
        self._renew()
        self._observer.sum_up()
        self.send_counts()
        self._control.show_life()

    def send_counts(self) -> None:
        """Tell the keeper what was counted."""
        if counts := self._observer.take_counts():
            self._send(Counts(counts))
        if noted := self._observer.take_noted():
            self._send(Noted(tuple(noted)))
        if senders := self._observer.take_senders():
            self._send(Senders(senders))

    def _count(self, name: str) -> None:
        self._observer.count(name)

    def _renew(self, *, at_once: bool = False) -> None:
        for form in self._formats:
            form.renew(now=time.time(), at_once=at_once)

    def _submit(self, serial: int, job: Job) -> None:
        decision = job.decision
        self._send(Do(serial, job.effect, decision.reason, decision.client, decision.note))

    def _send(self, message: Message) -> None:
        try:
            self._link.send(message)
        except LinkError:
            self.worker.stop()

    def _listen(self) -> None:
        try:
            self._link.flush()
            for message in self._link.receive(_AT_ONCE):
                self._take(message)
        except LinkError:
            self.worker.stop()

    def _take(self, message: Message) -> None:
        match message:
            case Done():
                job = self.worker.finish(message.serial)
                if job is not None and message.went_well and isinstance(job.effect, Admit):
                    self._took(time.monotonic() - job.begun)
                if job is not None and not message.went_well and self._sender is not None:
                    self._sender.send(replace(job.decision, note="but that was not carried out"), job.raw)
                if job is not None and message.went_well and self._answers is not None and job.decision.answer:
                    self._answers.send(job.decision.answer)
            case Changed():
                for grant in message.ended:
                    self._allowlist.end(grant)
                for grant in message.admitted:
                    self._allowlist.admit(grant)
                    self.worker.release(grant)
            case Grants() | Floors():
                self._learn(message)
            case ClockStepped():
                self._renew(at_once=True)

    def _learn(self, message: Grants | Floors) -> None:
        """Take in what there is, which may come in parts."""
        if isinstance(message, Grants):
            self._grants.extend(message.grants)
        else:
            self._floors |= message.floors
        if message.more:
            return
        if isinstance(message, Grants):
            with unsearched():
                self._allowlist.replace(self._grants)
            self._grants = []
        else:
            self._replays.replace(message.born, self._floors)
            self._floors = {}
        self._knows.add(type(message))


def answers(rules: Rules) -> Answers | None:
    """Make ready to answer, for all workers: a port is bound once.

    One that is taken is no reason not to guard: any local user can take it.
    """
    if not rules.ack or Via.UDP not in rules.via:
        return None
    try:
        return Answers(rules.knock_ports)
    except QueueError as error:
        observe.message(f"{error.message}: knocks are not answered ({error.hint})", level=logging.ERROR)
        return None


def _refuse(plan: Plan) -> Callable[[bytes], None] | None:
    """Make ready to refuse aloud. Where we may not, silence is as safe."""
    if plan.rules.refuse is Refuse.SILENT or plan.observes:
        return None
    try:
        mark = plan.rules.firewall.mark
        services = plan.rules.services.values()
        behind = [address for one in services if one.guard is Guard.FORWARD for address in one.addresses]
        return Refusals(mark=mark, is_kept=MarkedFlows(mark).has, on_behalf_of=behind, among=plan.rules.workers).send
    except FirewallError as error:
        observe.message(f"{error.message}: strangers meet silence ({error.hint})", level=logging.ERROR)
        return None
