"""Sealed knocks, the server's side: which client it is, and what it asks for.

Pure. docs/sealed-knock.md is the specification. The checks, cheapest first, with what each stops:

1. length and door tag: one dictionary lookup stops what is not a sealed knock to us;
2. client tag: one more, whatever the number of clients;
3. mac, in constant time: one keyed hash stops junk behind tags that were captured. And a datagram that was
   opened before is not opened again: an exact replay costs neither public-key work nor Scapy;
4. Noise_KK: one X25519 and one AEAD. From here on we know who it is;
5. fields that are well-formed.

What else must hold (dates, clocks, replays, addresses, services) is the gate's business.

Tags change every two minutes. ``renew`` makes those of the next epoch ahead of time, in small pieces, so
that the packet path never waits for it. They are kept by epoch, so it does not matter when old ones go.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import NamedTuple

from gatekeeper.model import Action, Datagram, Knock, Reason, Refusal, Stamp, Tags
from gatekeeper.networks import Address
from gatekeeper.sealed import keys, wire
from gatekeeper.sealed.noise import Handshake, LowOrderError
from gatekeeper.sealed.primitives import private_key, public_bytes
from gatekeeper.settings import Rules, ServerKey

_DOORS_AROUND = 720
"""Epochs on each side whose door tags are known, to tell a clock that is a day off from junk."""
_MAX_OPENED = 16_384
_ACTIONS = {wire.OPEN: Action.OPEN, wire.CLOSE: Action.CLOSE}
_RESULTS = {Action.OPEN: wire.OPEN, Action.CLOSE: wire.CLOSE}
_UNKNOWN_CLIENT = Refusal(Reason.UNKNOWN_CLIENT)
_BAD_MAC = Refusal(Reason.BAD_MAC)
_NOT_READY = Refusal(Reason.WRONG_EPOCH, note="this clock has just leapt, and the tags of now are still being made")
_NOBODY: dict[bytes, _Peer] = {}


class _Server:
    """One key of the server's."""

    def __init__(self, key: ServerKey) -> None:
        self.private = key.private
        self.loaded = private_key(key.private)
        self.public = public_bytes(self.loaded)
        self.until = key.until


class _Peer(NamedTuple):
    """One key of a client's, towards one of the server's."""

    client: str
    public: bytes
    server: _Server
    ss: bytes
    tag_key: bytes


class _Door(NamedTuple):
    """What a door tag stands for: in which epoch, for which of our keys."""

    epoch: int
    server: _Server


class _Opened(NamedTuple):
    """A datagram that was opened: then it is cheap to judge it again."""

    epoch: int
    payload: wire.Payload
    handshake: Handshake | None


class SealedKnocks:
    """The sealed knocks that a rules file knows."""

    name = "sealed"

    def __init__(self, rules: Rules, server_keys: tuple[ServerKey, ...]) -> None:
        """Work out what each client's keys share with ours: one X25519 for each pair. Then ``renew`` it."""
        self._services = {wire.service_id(name): name for name in rules.services}
        self._answers = rules.ack
        clients = [(one.name, key) for one in rules.clients.values() for key in one.keys]
        self._servers = [_Server(key) for key in server_keys] if clients else []
        self._peers = [_peer(name, key, server) for server in self._servers for name, key in clients]
        self._doors: dict[bytes, _Door] = {}
        self._tags: dict[int, dict[bytes, _Peer]] = {}  # by epoch, then by client tag
        self._epoch: int | None = None
        self._work: Iterator[None] = iter(())
        self._opened: dict[bytes, _Opened] = {}

    # -- tags

    def renew(self, *, now: float, at_once: bool = False) -> None:
        """Make the tags of the epoch to come, and drop those that have passed: a piece of the work, or all.

        Where the clock has leapt, all that is needed now is made at once.
        """
        epoch = wire.epoch_at(now)
        if self._epoch is None or not 0 <= epoch - self._epoch <= 1:
            doors = range(max(0, epoch - _DOORS_AROUND), epoch + _DOORS_AROUND)
            self._begin(epoch, (epoch, epoch + 1, max(0, epoch - 1), epoch + 2), doors)  # the likeliest first
            at_once = True
        elif epoch != self._epoch:
            _exhaust(self._work)  # what is left of the last epoch's
            last = epoch + _DOORS_AROUND
            self._begin(epoch, (epoch + 2,), range(last - 1, last))
        _exhaust(self._work if at_once else islice(self._work, _piece(len(self._peers))))

    def _begin(self, epoch: int, epochs: tuple[int, ...], doors: range) -> None:
        self._epoch, self._work = epoch, self._turn(epoch, epochs, doors)

    def _turn(self, now: int, epochs: tuple[int, ...], doors: range) -> Iterator[None]:
        """Work in pieces: each step makes one tag, or drops what is one piece."""
        for epoch in epochs:
            for server in self._servers:
                self._doors[wire.door_tag(server.public, epoch)] = _Door(epoch, server)
            tags = self._tags.setdefault(epoch, {})
            for peer in self._peers:
                tags[wire.client_tag(peer.tag_key, epoch)] = peer
                yield
        for server in self._servers:
            for epoch in doors:  # where two are equal, the nearer one stays
                self._doors.setdefault(wire.door_tag(server.public, epoch), _Door(epoch, server))
                yield
        for epoch in [one for one in self._tags if not -1 <= one - now <= 2]:
            del self._tags[epoch]
            yield
        around = _DOORS_AROUND + 2
        for tag in [tag for tag, door in self._doors.items() if abs(door.epoch - now) > around]:
            del self._doors[tag]
        yield
        opened = list(self._opened.items())  # a copy: the packet path adds to it
        for raw in [raw for raw, one in opened if not -1 <= one.epoch - now <= 2]:
            self._opened.pop(raw, None)
        yield

    @property
    def client_tags(self) -> int:
        """How many client tags are known now."""
        return sum(map(len, self._tags.values()))

    def door_tags(self, *, now: float) -> list[bytes]:
        """Return the door tags that are accepted at ``now``."""
        epoch = wire.epoch_at(now)
        return [wire.door_tag(server.public, epoch + near) for server in self._servers for near in (-1, 0, 1)]

    def tags(self, *, now: float) -> Tags | None:
        """Name the door tags of five epochs, two on each side of the one that it is.

        They are made anew in the middle of an epoch, where the clocks of clients are farthest from where an epoch
        ends. Two on each side are one more than is accepted, so that a renewal that comes late shuts nobody out.
        """
        if not self._servers:
            return None
        middle = wire.epoch_at(now - wire.EPOCH / 2)
        epochs = range(max(0, middle - 2), middle + 3)
        since = (middle + 0.5) * wire.EPOCH
        known = tuple(wire.door_tag(server.public, epoch) for server in self._servers for epoch in epochs)
        return Tags(known, since, since + wire.EPOCH)

    # -- reading

    def glance(self, payload: bytes, *, now: float) -> bool | Refusal | Knock:
        """Checks 1 to 3: whether it is a sealed knock whose tags and mac are right; what it says, if it is known."""
        if len(payload) != wire.SIZE:
            return False
        door = self._doors.get(payload[:4])
        if door is None:
            return False
        ahead = door.epoch - wire.epoch_at(now)
        if not -1 <= ahead <= 1:
            return Refusal(Reason.WRONG_EPOCH, note=_how_far(ahead))
        peer = self._peer_of(payload, door)
        if peer is None:
            return _UNKNOWN_CLIENT if door.epoch in self._tags else _NOT_READY
        if not hmac.compare_digest(wire.mac(peer.tag_key, payload), payload[108:]):
            return _BAD_MAC
        opened = self._opened.get(payload)
        return True if opened is None else self._read(peer, opened, now)

    def _peer_of(self, payload: bytes, door: _Door) -> _Peer | None:
        """Find whose client tag it is, in the epoch and for the key of its door tag."""
        peer = self._tags.get(door.epoch, _NOBODY).get(payload[4:12])
        return peer if peer is not None and peer.server is door.server else None

    def open(self, datagram: Datagram, *, now: float) -> Knock | Refusal:
        """Checks 4 and 5: open the seal, and read what is asked for."""
        raw = datagram.payload
        door = self._doors.get(raw[:4])
        peer = None if door is None else self._peer_of(raw, door)
        if door is None or peer is None:
            return _UNKNOWN_CLIENT
        opened = self._opened.get(raw)
        if opened is None:
            found = self._unseal(raw, peer, door.epoch)
            if isinstance(found, Refusal):
                return found
            opened = found
        return self._read(peer, opened, now)

    def _read(self, peer: _Peer, opened: _Opened, now: float) -> Knock | Refusal:
        """Read what stands inside a seal."""
        until = peer.server.until
        if until is not None and now >= until:
            return Refusal(Reason.OLD_SERVER_KEY, peer.client, "the client's profile has a server key of the past")
        said = opened.payload
        if said.action not in _ACTIONS or said.flags or said.reserved:
            note = f"action {said.action}, flags {said.flags:#x}: a client of another version"
            return Refusal(Reason.BAD_FIELDS, peer.client, note)
        return Knock(
            _action(opened),
            peer.client,
            services=() if said.service == wire.ANY_SERVICE else (self._service(said.service),),
            ttl=None if said.ttl == wire.FOREVER else said.ttl,
            address=_address(said.address),
            stamp=_stamp(peer, opened),
            answer=_Answering(opened.handshake).write if opened.handshake is not None else None,
        )

    def _unseal(self, raw: bytes, peer: _Peer, epoch: int) -> _Opened | Refusal:
        prologue = wire.prologue(raw[:12])
        handshake = Handshake(prologue, initiator=peer.public, responder=peer.server.public, ss=peer.ss)
        try:
            payload = wire.Payload.unpack(handshake.read_first(raw[12:108], peer.server.loaded))
        except LowOrderError:
            return Refusal(Reason.LOW_ORDER, peer.client)
        except ValueError:
            return Refusal(Reason.BAD_SEAL, peer.client)
        if len(self._opened) >= _MAX_OPENED:
            with contextlib.suppress(RuntimeError, StopIteration):  # ``renew`` may be taking some out just now
                self._opened.pop(next(iter(self._opened)), None)
        opened = _Opened(epoch, payload, handshake if self._answers else None)
        self._opened[raw] = opened
        return opened

    def _service(self, field: bytes) -> str:
        """Name a service; one that we do not have by what stands in its place, which is nobody's name."""
        return self._services.get(field) or f"#{field.hex()}"


class _Answering:
    """Writes the answer to one knock."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake

    def write(self, action: Action, ttl: int | None, ephemeral: bytes) -> bytes:
        answer = wire.Answer(_RESULTS[action], wire.FOREVER if ttl is None else ttl)
        return self._handshake.write_second(answer.pack(), ephemeral)


def _how_far(epochs: int) -> str:
    minutes = abs(epochs) * wire.EPOCH // 60
    return f"made {minutes} minutes {'ahead of' if epochs > 0 else 'behind'} this clock, or recorded then"


def _peer(client: str, public: bytes, server: _Server) -> _Peer:
    ss = keys.exchange(server.private, public)
    return _Peer(client, public, server, ss, wire.tag_key(ss))


def _stamp(peer: _Peer, opened: _Opened) -> Stamp:
    return Stamp(peer.public, opened.payload.sent_at)


def _action(opened: _Opened) -> Action:
    return _ACTIONS[opened.payload.action]


def _address(field: bytes) -> Address | None:
    if field == wire.ANY_ADDRESS:
        return None
    packed = wire.unpack_address(field)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _piece(peers: int) -> int:
    """Return how many steps to make every two seconds, so that they are done well within an epoch."""
    return max(256, peers // 20)


def _exhaust(work: Iterable[None]) -> None:
    for _ in work:
        pass
