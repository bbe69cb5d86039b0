"""A worker takes packets from its queues, asks the gate, and gives verdicts. It decides nothing.

The loop never waits for the disk: a knock is kept while its effect is carried out elsewhere (``submit``),
and gets its verdict when ``finish`` says so. Every packet gets a verdict, whatever happens: one without
would hold its place in the kernel's queue for ever. (What a worker has in hand when it ends, the next one settles.)

There are several workers, perhaps, and nothing rests on which of them meets a packet: a first packet is held until its
grant lands, by whose knock ever.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import selectors
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from itertools import islice
from typing import Protocol

from netfilterqueue import Packet

from gatekeeper import observe
from gatekeeper.board import MOST, Board
from gatekeeper.firewall.nfqueue import Left
from gatekeeper.gate import Gate
from gatekeeper.holds import GIVE_BACK_AFTER, GIVE_BACK_BEFORE_REFUSING, Holds
from gatekeeper.inlet import Inlet
from gatekeeper.model import Admit, Decision, Effect, Grant, Reason, Verdict
from gatekeeper.networks import Address, Source, covers
from gatekeeper.packet import triage
from gatekeeper.shadows import Shadows

_PIPE_BYTES = 65_536
_TURN_EVERY = 2.0
"""Seconds between two looks at what can wait: the tags of the next epoch, counters, a sign of life."""
_BATCH = 64
"""Packets that are taken from a queue at once, so that a flood starves neither the other queues nor finished jobs."""
_TURN = 0.002
"""Seconds after which no further one is taken: some packets cost a look at a thousand keys, and others wait."""
MAX_JOBS = 256
"""Knocks being carried out at once, for each worker; more are dropped (their senders have keys)."""
_FEW_JOBS = 16
"""So few can be looked through for each packet that is refused."""
_MAX_LATE = 64
_SHARE = MAX_JOBS // 2
"""How many of these may be one client's, so that one that floods leaves room for the others."""
_NOTHING_TO_SAY = frozenset({Reason.ECHO, Reason.STEP})
_LOOK_AT_LATE = 0.02
"""Seconds between two looks at what waits for another worker's knock. (If its grant lands, that is heard at once.)"""


@dataclass(slots=True)
class Job:
    """A knock whose effect is being carried out."""

    effect: Effect
    decision: Decision
    packet: Packet
    raw: bytes = b""
    begun: float = 0.0
    """When we took the packet; by the monotonic clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What becomes of packets besides their verdict."""

    mark: int
    """The bit that a packet bears when it was looked at as a knock, and given back."""
    observes: bool = False
    """Whether everything goes on, and only the log says what would not have."""
    refuse: Callable[[bytes], None] | None = None
    """Tells the sender of a packet that it was dropped, where that is said."""
    board: Board | None = None
    """What other workers are doing, where there are any."""


class HasFileno(Protocol):
    """Something to wait for."""

    def fileno(self) -> int:
        """Return its descriptor."""


class Worker:
    """Serves its queues. Not restartable: serve, run, gone."""

    def __init__(
        self,
        gate: Gate,
        observer: observe.Observer,
        submit: Callable[[int, Job], None],
        manners: Manners,
    ) -> None:
        self._gate = gate
        self._observer = observer
        self._submit = submit
        self._manners = manners
        schedule = GIVE_BACK_AFTER if manners.refuse is None else GIVE_BACK_BEFORE_REFUSING
        self._holds: Holds[tuple[Packet, bytes]] = Holds(schedule)
        self._shadows = Shadows()
        self._jobs: dict[int, Job] = {}
        self._jobs_of: Counter[str | None] = Counter()
        self._late: list[tuple[Packet, bytes]] = []
        """First packets that have had their time, and wait for a job that is under way."""
        self._late_looked = 0.0
        self._serials = itertools.count()
        self._woken, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """A byte that is written to ``wake_fd`` makes ``run`` look around (``signal.set_wakeup_fd`` wants a pipe)."""
        self._selector = selectors.DefaultSelector()
        self._stopping = False

        self.listen(self._woken, self._wake_up)

    def serve(self, inlets: Sequence[Inlet], *, left: Left) -> None:
        """Take packets from these queues, in turns, from the first of them first.

        What a worker before us had in hand meets ``left``.
        """
        for place, inlet in enumerate(inlets, 1):
            self.listen(inlet.socket, partial(self._receive, inlet), place=place)
            inlet.serve(self._on_packet, left=left)

    def listen(self, to: int | HasFileno, on_readable: Callable[[], None], *, place: int = 0) -> None:
        """Call ``on_readable`` when there is something to read; in each turn, in the order of the places."""
        self._selector.register(to, selectors.EVENT_READ, (place, on_readable))

    def stop(self) -> None:
        """End ``run`` soon; from a signal handler, or while it runs."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):  # it is full of wake-ups already
            os.write(self.wake_fd, b"\0")

    def run(self, now_and_then: Callable[[], None]) -> None:
        """Work until ``stop``. What is still in hand then is for who has the queues next; the ruleset stays closed."""
        next_turn = time.monotonic()
        while not self._stopping:
            ready = self._selector.select(self._patience(next_turn))
            for _, on_readable in sorted((key.data for key, _ in ready), key=_place):
                on_readable()
            now = time.monotonic()
            for packet, _ in self._holds.due(now=now):
                packet.repeat()
            for raw in self._shadows.due(now=now):
                self._judge_late(raw)
            if self._must_look_at_late and now >= self._late_looked + _LOOK_AT_LATE:
                self._late_looked = now
                self._look_at_the_late()
            if now >= next_turn:
                next_turn = now + _TURN_EVERY
                now_and_then()

    def _receive(self, inlet: Inlet) -> None:
        inlet.receive(_BATCH, _TURN)
        if inlet.overruns:
            self._observer.count("queue-overrun", inlet.overruns)
            inlet.overruns = 0

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, _PIPE_BYTES)

    def _patience(self, next_turn: float) -> float:
        known = [due for due in (self._holds.next_due(), self._shadows.next_due(), next_turn) if due is not None]
        if self._must_look_at_late:
            known.append(self._late_looked + _LOOK_AT_LATE)
        return max(0.0, min(known) - time.monotonic())

    @property
    def _must_look_at_late(self) -> bool:
        """Whether something waits for what only another worker knows to have failed."""
        return bool(self._late) and self._manners.board is not None

    def _on_packet(self, packet: Packet) -> None:
        settled = False
        try:
            settled = self._handle(packet)
        except Exception:
            self._observer.count(Reason.INTERNAL_ERROR)
            logging.getLogger("gatekeeper").exception("a packet made the worker fail; it was dropped")
        finally:
            if not settled:
                self._drop(packet)

    def _handle(self, packet: Packet) -> bool:
        """Do what the gate says; return whether the packet has its verdict, or will have it."""
        begun = time.monotonic()
        raw = packet.get_payload()
        decision = self._gate.inspect(raw, now=time.time(), is_back=bool(packet.get_mark() & self._manners.mark))
        if decision.effect is not None:
            if self._begin(Job(decision.effect, decision, packet, raw, begun)):
                return True
            decision = replace(decision, reason=Reason.OVERLOADED, effect=None)
        if decision.verdict is Verdict.ACCEPT:
            if decision.reason not in _NOTHING_TO_SAY:
                self._observer.refused(decision, raw)
            self._let_go(packet)
        elif decision.verdict is Verdict.DROP or decision.reason is Reason.OVERLOADED:
            self._observer.refused(decision, raw)
            self._refuse(packet, raw)
        elif self._manners.observes:
            self._let_go_on(packet, raw, decision)
        else:
            self._hold(packet, raw, decision)
        return True

    def _begin(self, job: Job) -> bool:
        """Have an effect carried out, unless there are too many already."""
        client = job.decision.client
        if len(self._jobs) >= MAX_JOBS or self._jobs_of[client] >= _SHARE:
            return False
        serial = next(self._serials)
        self._jobs[serial] = job
        self._jobs_of[client] += 1
        self._post()
        self._submit(serial, job)
        return True

    def _post(self) -> None:
        """Tell the other workers for whom knocks are being carried out here."""
        if self._manners.board is not None:
            sources = (source for job in self._jobs.values() for source in _sources(job))
            self._manners.board.post(list(islice(sources, MOST + 1)))

    def finish(self, serial: int) -> Job | None:
        """Give a knock its verdict, for its effect was carried out, or cannot be; return its job."""
        job = self._jobs.pop(serial, None)
        if job is None:
            return None
        client = job.decision.client
        self._jobs_of[client] -= 1
        if not self._jobs_of[client]:
            del self._jobs_of[client]
        self._post()
        self._settle(job)
        self._look_at_the_late()
        return job

    def release(self, grant: Grant) -> None:
        """Give back what waits for this grant."""
        source = grant.source
        for packet, _ in self._holds.release(source.network_address.packed, source.broadcast_address.packed):
            packet.repeat()
        late, self._late = self._late, []
        for packet, raw in late:
            if (sender := _sender(raw)) is not None and covers([source], sender):
                packet.repeat()
            else:
                self._late.append((packet, raw))

    def _settle(self, job: Job) -> None:
        """Give a knock its verdict: a datagram is used up; an echo request goes on; a SYN is as any other from now."""
        if job.decision.verdict is Verdict.ACCEPT:
            self._let_go(job.packet)
        elif job.decision.verdict is Verdict.REPEAT and not self._manners.observes:
            self._mark_as_seen(job.packet)
            job.packet.repeat()
        elif job.decision.answer is not None:
            self._drop(job.packet)
        else:
            self._refuse(job.packet, job.raw)

    # -- first packets, which may come before their knock

    def _hold(self, packet: Packet, raw: bytes, decision: Decision) -> None:
        header = triage(raw)
        if isinstance(header, Reason):  # the gate has read it already
            self._drop(packet)
            return
        self._mark_as_seen(packet)  # so it is neither counted nor taken for a knock when it comes back
        at_once = decision.verdict is Verdict.REPEAT
        now = time.monotonic()
        for given_up, its_raw in self._holds.hold((packet, raw), raw, header.source, now=now, at_once=at_once):
            self._give_up(given_up, its_raw)

    def _give_up(self, packet: Packet, raw: bytes) -> None:
        """Refuse a packet that has had its time, unless its grant is on its way: a slow disk costs no first packet."""
        if len(self._late) < _MAX_LATE and self._is_being_let_in(raw):
            self._late.append((packet, raw))
        else:
            self._observer.refused(Decision(Verdict.DROP, Reason.NO_GRANT), raw)
            self._refuse(packet, raw)

    def _look_at_the_late(self) -> None:
        """Give back those that wait for a job that is finished now."""
        if self._late:
            late, self._late = self._late, []
            for packet, raw in late:
                if self._is_being_let_in(raw):
                    self._late.append((packet, raw))
                else:
                    packet.repeat()

    def _let_go_on(self, packet: Packet, raw: bytes, decision: Decision) -> None:
        packet.accept()
        if decision.verdict is Verdict.HOLD:
            for early in self._shadows.add(raw, now=time.monotonic()):
                self._judge_late(early)

    def _judge_late(self, raw: bytes) -> None:
        """Say of a packet that went on what would have become of it."""
        decision = self._gate.inspect(raw, now=time.time(), is_back=True)
        if decision.verdict is not Verdict.REPEAT:
            self._observer.refused(decision, raw)

    # -- verdicts

    def _refuse(self, packet: Packet, raw: bytes) -> None:
        self._drop(packet)
        if self._manners.refuse is not None and not self._is_being_let_in(raw):
            self._manners.refuse(raw)

    def _is_being_let_in(self, raw: bytes) -> bool:
        """Whether a grant for a packet's source is being carried out (or may be): then its sender should try again."""
        if len(self._jobs) > _FEW_JOBS:
            return True
        board = self._manners.board
        if board is not None and board.is_empty():
            board = None
        if not self._jobs and board is None:
            return False
        sender = _sender(raw)
        if sender is None:
            return False
        is_ours = any(covers(_sources(job), sender) for job in self._jobs.values())
        return is_ours or (board is not None and board.has(sender))

    def _drop(self, packet: Packet) -> None:
        if self._manners.observes:
            packet.accept()
        else:
            packet.drop()

    def _let_go(self, packet: Packet) -> None:
        """Let a ping or a step go on, without the mark of those that bear a tag."""
        if mark := packet.get_mark() & self._manners.mark:
            packet.set_mark(packet.get_mark() ^ mark)
        packet.accept()

    def _mark_as_seen(self, packet: Packet) -> None:
        packet.set_mark(packet.get_mark() | self._manners.mark)  # others' bits stay


def _place(ready: tuple[int, Callable[[], None]]) -> int:
    return ready[0]


def _sources(job: Job) -> list[Source]:
    """For whom a job opens something."""
    return [grant.source for grant in job.effect.grants[:1]] if isinstance(job.effect, Admit) else []


def _sender(raw: bytes) -> Address | None:
    header = triage(raw)
    return None if isinstance(header, Reason) else ip_address(header.source)
