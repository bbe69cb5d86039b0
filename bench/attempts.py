"""Knock and connect, many times: what a client does, by the clock.

All attempts run on one thread, which is inside the client's namespace meanwhile. Each knocks from an address of its
own, so that none finds a door that another has opened.
"""

from __future__ import annotations

import contextlib
import errno
import math
import resource
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.bed import PORT, TARGET, Bed
from bench.peers.contestant import Knock
from gatekeeper.demo.network import inside
from gatekeeper.demo.probe import resent_syns

Pauses = Callable[[float], float]
"""How long to wait for an answer before the next connect, by the age of the attempt."""
_UNDER_WAY = {0, errno.EINPROGRESS}


def never(_age: float) -> float:
    """Connect once, and leave the rest to TCP."""
    return math.inf


def often(age: float) -> float:
    """Connect each millisecond at first, then less often."""
    return 0.001 if age < 0.05 else 0.005 if age < 1 else 0.05


def now_and_then(_age: float) -> float:
    """Connect each 50 ms: what many clients can do at once."""
    return 0.05


class Knocker(Protocol):
    """Whoever makes knocks: a contestant."""

    def make_ready(self, knocks: int) -> None:
        """Make so many knocks ahead."""

    def knock(self) -> Knock:
        """Make one that has not been used."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """How attempts are made."""

    pauses: Pauses
    patience: float
    """Seconds until an attempt is given up."""
    knocks: tuple[float, ...] = (0.0,)
    """When fresh knocks are sent, in seconds since the first."""
    apart: float = 0.1
    """Seconds between the beginnings of two attempts."""


RETRIES = (0.0, 0.15, 0.3, 0.6, 1.2, 2.4)
"""When `gatekeeper connect` knocks anew."""


@dataclass(slots=True)
class Result:
    """How an attempt ended."""

    seconds: float | None = None
    """From the knock to connected, or nothing."""
    resent: int = 0
    """SYNs that TCP sent again."""


@dataclass(slots=True)
class _Attempt:
    source: str
    knock: Knock
    begin: float = 0.0
    knocked: int = 0
    next_try: float = 0.0
    sockets: list[socket.socket] = field(default_factory=list)
    result: Result = field(default_factory=Result)


def attempt(bed: Bed, contestant: Knocker, way: Way, count: int, *, sources: Sequence[str] = ()) -> list[Result]:
    """Make so many attempts; sockets are closed before this returns, and doors stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    names = sources or [bed.next_source() for _ in range(count)]
    contestant.make_ready(count * len(way.knocks))
    crowd = _Crowd(bed, contestant, way, names)
    try:
        with inside(bed.client):
            return crowd.run()
    finally:
        crowd.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Crowd:
    """Attempts that overlap."""

    def __init__(self, bed: Bed, contestant: Knocker, way: Way, names: Sequence[str]) -> None:
        self._bed, self._contestant, self._way = bed, contestant, way
        self._names = list(names)
        self._selector = selectors.DefaultSelector()
        self._running: list[_Attempt] = []
        self._knockers: list[socket.socket] = []

    def run(self) -> list[Result]:
        """Run all, to their ends."""
        results: list[Result] = []
        due = time.monotonic()
        while self._names or self._running:
            self._bed.must_have_time()
            now = time.monotonic()
            if self._names and now >= due:
                due = max(now, due + self._way.apart)
                results.append(self._begin(self._names.pop(0)))
            wake = due if self._names else now + 1
            for one in list(self._running):
                wake = min(wake, self._go_on(one))
            self._look(max(wake - time.monotonic(), 0))
        return results

    def _begin(self, name: str) -> Result:
        one = _Attempt(name, self._contestant.knock())
        one.begin = one.next_try = time.monotonic()
        self._running.append(one)
        self._go_on(one)
        return one.result

    def _go_on(self, one: _Attempt) -> float:
        """Do what is due for an attempt; return when something is due again."""
        now = time.monotonic()
        if now - one.begin >= self._way.patience:
            self._end(one)
            return now
        knocks = self._way.knocks
        if one.knocked < len(knocks) and now - one.begin >= knocks[one.knocked]:
            if one.knocked:
                one.knock = self._contestant.knock()
            one.knocked += 1
            self._hit(one)
        if now >= one.next_try:
            one.next_try = now + self._way.pauses(now - one.begin)
            self._connect(one)
        following = one.begin + knocks[one.knocked] if one.knocked < len(knocks) else math.inf
        return min(one.next_try, following, one.begin + self._way.patience)

    def _hit(self, one: _Attempt) -> None:
        for port, payload in one.knock:
            kind = socket.SOCK_STREAM if payload is None else socket.SOCK_DGRAM
            knocker = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
            self._knockers.append(knocker)
            knocker.bind((one.source, 0))
            if payload is None:
                knocker.connect_ex((TARGET, port))
            else:
                with contextlib.suppress(OSError):  # a full queue: it is lost, as on the way
                    knocker.sendto(payload, (TARGET, port))

    def _connect(self, one: _Attempt) -> None:
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        stream.bind((one.source, 0))
        one.sockets.append(stream)
        error = stream.connect_ex((TARGET, PORT))
        if error in _UNDER_WAY:
            self._selector.register(stream, selectors.EVENT_WRITE, one)

    def _look(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            now, one, stream = time.monotonic(), key.data, key.fileobj
            assert isinstance(stream, socket.socket)
            if one.result.seconds is not None:
                continue
            if stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                one.result.seconds, one.result.resent = now - one.begin, resent_syns(stream)
                self._end(one)
            else:
                self._selector.unregister(stream)

    def _end(self, one: _Attempt) -> None:
        self._running.remove(one)
        for stream in one.sockets:
            with contextlib.suppress(KeyError):
                self._selector.unregister(stream)
            stream.close()
        one.sockets.clear()

    def close(self) -> None:
        """Close what is still open."""
        for one in list(self._running):
            self._end(one)
        for knocker in self._knockers:
            knocker.close()
        self._selector.close()
