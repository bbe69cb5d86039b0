"""Port sequences, as knockd has them: packets to certain ports, in a certain order, within some seconds.

Pure. **Whoever sees a sequence on its way can repeat it**, and nothing in it says for whom it is; those that count once
are stamped, so that they do. The rule:

    A sequence is complete when the last packets from a source, to ports that any sequence has, are exactly its
    steps, and the first of them came no longer ago than ``within``.

So a wrong one resets, and may itself be the first of the next try; several sequences that begin alike advance each on
its own; of two that end alike, the longer one counts. TCP packets without a client's ``flags`` do not exist for that
client. What has completed a sequence of a client's counts for none of its sequences again.

Of each source only as much is remembered as may still become a sequence, and of so many sources at most; when there
are more, nobody new begins, and who has begun goes on. The kernel lets in fewer (``firewall/steps.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import blake2s
from typing import NamedTuple

from gatekeeper import steps
from gatekeeper.model import Action, Datagram, Hit, Knock, Reason, Refusal, Stamp
from gatekeeper.settings import Client, Flags, Ports, Rules, Sequences, Steps, Transport

_TCP = Transport.TCP.number
_LABEL = b"gatekeeper one-time sequence"
Place = tuple[int, int]
"""Numbers of a protocol and a port."""


class SequenceKnocks:
    """The port sequences of a rules file."""

    name = "sequence"

    def __init__(self, rules: Rules, *, most: int = steps.MOST) -> None:
        """``most``: sources that are remembered at once."""
        by_flags: dict[Flags, list[_Sequence]] = {}
        for client in rules.clients.values():
            if client.sequences is not None:
                by_flags.setdefault(client.sequences.flags, []).extend(_sequences(client, client.sequences))
        self._order = {name: place for place, name in enumerate(rules.clients)}
        self._books = [_Book(flags, its) for flags, its in by_flags.items()]
        self._trails: OrderedDict[tuple[int, bytes], _Trail] = OrderedDict()  # by book and source, the latest last
        self._longest = steps.longest(rules)
        self._most = most
        self._heard = 0
        self.listens = frozenset(place for book in self._books for place in book.places)

    def __len__(self) -> int:
        """Return how many are in progress, or were lately."""
        return len(self._trails)

    # -- packets to the ports of sequences

    def hear(self, hit: Hit, *, now: float) -> Knock | None:
        """Take note of a packet; return the knock that it completes, if it does."""
        self._heard += 1
        done: list[tuple[_Sequence, _Trail]] = []
        for number, book in enumerate(self._books):
            if hit.protocol != _TCP or book.flags.match(hit.flags):
                done += self._follow(number, hit, now)
        if not done:
            return None
        longest, trail = max(done, key=self._rank)
        trail.used[longest.knock.client] = self._heard
        return longest.knock

    def _rank(self, done: tuple[_Sequence, _Trail]) -> tuple[int, int]:
        """Of several the longest counts; of two that are as long (with other flags), whose client comes first."""
        return len(done[0].places), -self._order[done[0].knock.client]

    def _follow(self, number: int, hit: Hit, now: float) -> list[tuple[_Sequence, _Trail]]:
        """Take note of it in one book; return what it completes there, with what led to it."""
        book, key, place = self._books[number], (number, hit.source), (hit.protocol, hit.port)
        trail = self._trails.get(key)
        if trail is None:
            if place not in book.beginnings or not self._has_room(now):
                return []
            trail = self._trails[key] = _Trail()
        self._trails.move_to_end(key)
        trail.packets.append(_Packet(place, now, self._heard))
        book.shorten(trail, now)
        if not trail.packets:
            del self._trails[key]
        return [(one, trail) for one in book.completed(trail, now)]

    def _has_room(self, now: float) -> bool:
        if len(self._trails) >= self._most:
            self._forget_old(now)
        return len(self._trails) < self._most

    def _forget_old(self, now: float) -> None:
        """Forget those who have had their time."""
        while self._trails:
            key, trail = next(iter(self._trails.items()))
            if 0 <= now - trail.packets[-1].at <= self._longest:
                return
            del self._trails[key]

    def renew(self, *, now: float, at_once: bool = False) -> None:  # noqa: ARG002 (it is little)
        """Forget those who have had their time."""
        self._forget_old(now)

    # -- datagrams to a knock port: none of ours

    def glance(self, payload: bytes, *, now: float) -> bool:  # noqa: ARG002
        """Take no payload for a knock."""
        return False

    def open(self, datagram: Datagram, *, now: float) -> Refusal:  # noqa: ARG002
        """Read none."""
        return Refusal(Reason.UNKNOWN_KEY)

    def tags(self, *, now: float) -> None:
        """Name none."""


class _Sequence(NamedTuple):
    """What is to be knocked, within how many seconds, and what it says."""

    places: tuple[Place, ...]
    within: int
    knock: Knock


class _Packet(NamedTuple):
    """A packet of a source: to where, when, and as the how manieth of all."""

    place: Place
    at: float
    number: int


class _Trail:
    """The last packets of a source; and for each client the last one that has completed a sequence of its."""

    __slots__ = ("packets", "used")

    def __init__(self) -> None:
        self.packets: list[_Packet] = []
        self.used: dict[str, int] = {}


class _Book:
    """The sequences that pay attention to the same TCP packets."""

    def __init__(self, flags: Flags, sequences: Iterable[_Sequence]) -> None:
        self.flags = flags
        self._sequences = {one.places: one for one in sequences}
        self.places = {place for places in self._sequences for place in places}
        self.beginnings = {places[0] for places in self._sequences}
        self._within = max(one.within for one in self._sequences.values())
        self._lengths = sorted({len(places) for places in self._sequences}, reverse=True)

    def shorten(self, trail: _Trail, now: float) -> None:
        """Forget, from the first packet on, what no sequence can begin with any more."""
        gone = max(0, len(trail.packets) - self._lengths[0])
        for packet in trail.packets[gone:]:
            if packet.place in self.beginnings and 0 <= now - packet.at <= self._within:
                break
            gone += 1
        del trail.packets[:gone]

    def completed(self, trail: _Trail, now: float) -> Iterator[_Sequence]:
        """Yield what the last packet completes."""
        for length in self._lengths:
            last = trail.packets[-length:]
            one = self._sequences.get(tuple(packet.place for packet in last))
            if one is None or len(last) < length or now - last[0].at > one.within:
                continue
            if last[0].number > trail.used.get(one.knock.client, 0):
                yield one


def _sequences(client: Client, its: Sequences) -> Iterator[_Sequence]:
    for ports in its.opens:
        stamp = Stamp(once_key(ports), 0, once=True) if its.once else None
        yield _Sequence(_places(ports), its.within, Knock(Action.OPEN, client.name, stamp=stamp))
    if its.closes:
        yield _Sequence(_places(its.closes), its.within, Knock(Action.CLOSE, client.name))


def _places(ports: Steps) -> tuple[Place, ...]:
    return tuple((one.transport.number, one.first) for one in ports)


def once_key(ports: Iterable[Ports]) -> bytes:
    """Name a one-time sequence in the store, whosever it is: what one client has used is used for all."""
    return blake2s(" ".join(map(str, ports)).encode(), key=_LABEL).digest()
