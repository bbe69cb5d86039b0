"""One queue, one worker: takes packets, asks the gate, gives verdicts. It decides nothing.

The loop never waits for the disk: a knock is kept while its effect is carried out elsewhere (``submit``),
and gets its verdict when ``finish`` says so. Every packet gets a verdict, whatever happens: one without
would hold its place in the kernel's queue for ever.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Protocol

from netfilterqueue import NetfilterQueue, Packet

from gatekeeper import observe
from gatekeeper.errors import QueueError
from gatekeeper.firewall import nfqueue
from gatekeeper.firewall.netlink import NETFILTER
from gatekeeper.gate import Gate
from gatekeeper.holds import GIVE_BACK_AFTER, GIVE_BACK_BEFORE_REFUSING, Holds
from gatekeeper.model import Admit, Decision, Effect, Grant, Reason, Verdict
from gatekeeper.networks import covers
from gatekeeper.packet import triage
from gatekeeper.shadows import Shadows

_QUEUE_LENGTH = 8192
"""Packets that the kernel keeps for us, held ones included; beyond it drops."""
_OBSERVED_LENGTH = 256
"""The same, while we only observe: beyond it packets go on, so that a worker that hangs shuts nobody out for long."""
_SOCKET_BYTES = 8 * 1024 * 1024
_PIPE_BYTES = 65_536
_LONGEST_MESSAGE = 65_536
"""What is read at once. The library's 4,096 bytes cut off a long packet with a timestamp, which then waits for ever."""
_BATCH = 64
"""Packets between two looks at the clock and at finished jobs, so that a flood starves neither."""
MAX_JOBS = 256
"""Knocks being carried out at once; more are dropped (their senders have keys)."""
_FEW_JOBS = 16
"""So few can be looked through for each packet that is refused."""
_MAX_LATE = 64
_SHARE = MAX_JOBS // 2
"""How many of these may be one client's, so that one that floods leaves room for the others."""


@dataclass(slots=True)
class Job:
    """A knock whose effect is being carried out."""

    effect: Effect
    decision: Decision
    packet: Packet
    raw: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What becomes of packets besides their verdict."""

    mark: int
    """The bit that a packet bears when it was looked at as a knock, and given back."""
    observes: bool = False
    """Whether everything goes on, and only the log says what would not have."""
    refuse: Callable[[bytes], None] | None = None
    """Tells the sender of a packet that it was dropped, where that is said."""


class HasFileno(Protocol):
    """Something to wait for."""

    def fileno(self) -> int:
        """Return its descriptor."""


class Worker:
    """Runs one NFQUEUE. Not restartable: bind, run, gone."""

    def __init__(
        self,
        queue: NetfilterQueue,
        gate: Gate,
        observer: observe.Observer,
        submit: Callable[[int, Job], None],
        manners: Manners,
    ) -> None:
        self._queue = queue
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
        self._serials = itertools.count()
        self._woken, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """A byte that is written to ``wake_fd`` makes ``run`` look around (``signal.set_wakeup_fd`` wants a pipe)."""
        self._selector = selectors.DefaultSelector()
        self._stopping = False

    def bind(self, number: int) -> None:
        """Take the queue.

        Raises:
            QueueError: another process has it, or we may not.
        """
        try:
            length = _OBSERVED_LENGTH if self._manners.observes else _QUEUE_LENGTH
            self._queue.bind(number, self._on_packet, max_len=length, sock_len=_SOCKET_BYTES)
        except OSError as error:
            raise QueueError(
                f"cannot bind queue {number}: {error}", f"{nfqueue.owner(number) or 'nobody'} has it"
            ) from error
        self._receiver = _Receiver(self._queue.get_fd())
        if self._manners.observes:
            nfqueue.fail_open(self._receiver.socket, number)
        self.listen(self._receiver.socket, self._receive)
        self.listen(self._woken, self._wake_up)

    def listen(self, to: int | HasFileno, on_readable: Callable[[], None]) -> None:
        """Call ``on_readable`` when there is something to read."""
        self._selector.register(to, selectors.EVENT_READ, on_readable)

    def stop(self) -> None:
        """End ``run`` soon; from a signal handler, or while it runs."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):  # it is full of wake-ups already
            os.write(self.wake_fd, b"\0")

    def run(self, every_second: Callable[[], None]) -> None:
        """Work until ``stop``. Packets that are still held then are dropped; the ruleset stays closed."""
        next_second = time.monotonic()
        while not self._stopping:
            for key, _ in self._selector.select(self._patience(next_second)):
                key.data()
            now = time.monotonic()
            for packet, _ in self._holds.due(now=now):
                packet.repeat()
            for raw in self._shadows.due(now=now):
                self._judge_late(raw)
            if now >= next_second:
                next_second = now + 1.0
                every_second()
        for packet, _ in (*self._holds.clear(), *self._late):
            packet.drop()
        self._receiver.close()
        self._queue.unbind()

    def _receive(self) -> None:
        self._receiver.budget = _BATCH
        self._queue.run_socket(self._receiver)  # type: ignore[arg-type]  # only recv() is called
        if self._receiver.overruns:
            self._observer.count("queue-overrun", self._receiver.overruns)
            self._receiver.overruns = 0

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, _PIPE_BYTES)

    def _patience(self, next_second: float) -> float:
        known = [due for due in (self._holds.next_due(), self._shadows.next_due(), next_second) if due is not None]
        return max(0.0, min(known) - time.monotonic())

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
        raw = packet.get_payload()
        decision = self._gate.inspect(raw, now=time.time(), is_back=bool(packet.get_mark() & self._manners.mark))
        if decision.effect is not None:
            if self._begin(Job(decision.effect, decision, packet, raw)):
                return True
            decision = replace(decision, reason=Reason.OVERLOADED, effect=None)
        if decision.verdict is Verdict.ACCEPT:
            if decision.reason is not Reason.ECHO:
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
        self._submit(serial, job)
        return True

    def finish(self, serial: int) -> Job | None:
        """Give a knock its verdict, for its effect was carried out, or cannot be; return its job."""
        job = self._jobs.pop(serial, None)
        if job is None:
            return None
        client = job.decision.client
        self._jobs_of[client] -= 1
        if not self._jobs_of[client]:
            del self._jobs_of[client]
        self._settle(job)
        self._look_at_the_late()
        return job

    def release(self, grant: Grant) -> None:
        """Give back what waits for this grant."""
        source = grant.source
        for packet, _ in self._holds.release(source.network_address.packed, source.broadcast_address.packed):
            packet.repeat()

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
        header = triage(raw) if self._jobs else Reason.MALFORMED
        return not isinstance(header, Reason) and any(
            covers([grant.source], ip_address(header.source))
            for job in self._jobs.values()
            if isinstance(job.effect, Admit)
            for grant in job.effect.grants[:1]
        )

    def _drop(self, packet: Packet) -> None:
        if self._manners.observes:
            packet.accept()
        else:
            packet.drop()

    def _let_go(self, packet: Packet) -> None:
        """Let a ping go on, without the mark of those that bear a tag."""
        if mark := packet.get_mark() & self._manners.mark:
            packet.set_mark(packet.get_mark() ^ mark)
        packet.accept()

    def _mark_as_seen(self, packet: Packet) -> None:
        packet.set_mark(packet.get_mark() | self._manners.mark)  # others' bits stay


class _Receiver:
    """The queue's socket as NetfilterQueue.run_socket wants it, which returns after ``budget`` packets."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER, os.dup(fd))
        self.budget = 0
        self.overruns = 0

    def close(self) -> None:
        self.socket.close()

    def recv(self, size: int) -> bytes:
        if self.budget <= 0:
            raise BlockingIOError(errno.EAGAIN, "enough for now")
        self.budget -= 1
        try:
            return self.socket.recv(max(size, _LONGEST_MESSAGE), socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self.overruns += 1
            raise
