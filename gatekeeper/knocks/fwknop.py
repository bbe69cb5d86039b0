"""Knocks of fwknop's clients (protocol 3.0.0). docs/knock-formats.md says how safe they are.

Pure. The checks, cheapest first, with what each stops:

1. length and alphabet: what is no such knock, for less than a microsecond;
2. a packet that was read before is not read again: an exact replay costs one lookup;
3. the HMAC of each key that the length fits, in constant time: nothing is decrypted before one is right;
4. the message: its encryption, its digest, its fields;
5. what it asks for, in our terms: its user; ports, each of which must be a service's of this client's. A command or
   another host's port is refused.

A client without an HMAC (only where the rules say so) is found by decrypting with each such key.

What else must hold (dates, clocks, replays, addresses, services) is the gate's business. For replays each message has
a stamp, though its time is in whole seconds: what it lacks is filled up with a hash of the message. So a message is
the same however it was written, and two of one second differ.
"""

from __future__ import annotations

import hmac
from hashlib import blake2s

from gatekeeper.fwknop import access, envelope
from gatekeeper.fwknop.message import Kind, Message, unpack
from gatekeeper.model import Action, Datagram, Knock, Reason, Refusal, Stamp
from gatekeeper.settings import Client, FwknopKeys, Ports, Rules

_SECOND = 10**9
_MOST_READ = 1024
_STAMP, _PART = b"gatekeeper fwknop stamp 1", b"gatekeeper fwknop time 1"
_NATS = {Kind.NAT, Kind.TIMED_NAT}
_LOCAL_NATS = {Kind.LOCAL_NAT, Kind.TIMED_LOCAL_NAT}
_UNKNOWN_CLIENT = Refusal(Reason.UNKNOWN_CLIENT)


class _Holder:
    """One client's keys, and what it may have."""

    def __init__(self, client: Client, keys: FwknopKeys, rules: Rules) -> None:
        self.client = client.name
        self.keys = keys
        self.stamp_key = stamp_key(keys)
        self._mac = envelope.begun(keys) if keys.hmac_key is not None else None
        self.guarded = [(ports, name) for name in client.services for ports in rules.services[name].ports]

    def services(self, port: Ports) -> list[str]:
        """Name its services that guard a port."""
        return [name for ports, name in self.guarded if ports.overlaps(port)]

    def has_made(self, body: bytes, tag: bytes) -> bool:
        """Whether a body is its, which is proved by the HMAC; without one, by its decryption alone."""
        if self._mac is not None:
            return envelope.is_right(self._mac, body, tag)
        try:
            envelope.opened(body, self.keys)
        except ValueError:
            return False
        return True


class FwknopKnocks:
    """The knocks of fwknop's clients that a rules file knows."""

    name = "fwknop"

    def __init__(self, rules: Rules) -> None:
        self._by_kind: dict[str, list[_Holder]] = {}
        for client in rules.clients.values():
            if client.fwknop is not None:
                holder = _Holder(client, client.fwknop, rules)
                self._by_kind.setdefault(client.fwknop.hmac, []).append(holder)
        self._grace = (2 * rules.skew + 1) * _SECOND  # one clock may be early, another one late
        self._found: tuple[bytes, list[tuple[_Holder, bytes]]] = (b"", [])
        """The last payload that is somebody's, and whose: a glance finds it, and opening needs it."""
        self._read: dict[bytes, Knock | Refusal] = {}

    def glance(self, payload: bytes, *, now: float) -> bool | Refusal | Knock:  # noqa: ARG002 (its time is inside)
        """Checks 1 to 3."""
        if not self._by_kind or not envelope.has_shape(payload):
            return False
        if (known := self._read.get(payload)) is not None:
            return known
        return True if self._whose(payload) else _UNKNOWN_CLIENT

    def open(self, datagram: Datagram, *, now: float) -> Knock | Refusal:  # noqa: ARG002 (the gate asks for its time)
        """Checks 4 and 5."""
        payload = datagram.payload
        if (known := self._read.get(payload)) is not None:
            return known
        found = self._say(self._whose(payload))
        if len(self._read) >= _MOST_READ:
            del self._read[next(iter(self._read))]
        self._read[payload] = found
        return found

    def tags(self, *, now: float) -> None:
        """Name none: what it begins with is all that the kernel can know (``Rules.untagged``)."""

    def renew(self, *, now: float, at_once: bool = False) -> None:
        """Do nothing: keys stay what they are."""

    # -- whose it is

    def _whose(self, payload: bytes) -> list[tuple[_Holder, bytes]]:
        """Find the clients whose keys a payload was made with, and its body."""
        if self._found[0] != payload:
            self._found = (payload, [found for kind in self._by_kind for found in self._of(payload, kind)])
        return self._found[1]

    def _of(self, payload: bytes, kind: str) -> list[tuple[_Holder, bytes]]:
        """Find those whose HMACs are of this kind; all of them are looked at, whichever is right."""
        parts = envelope.parts(payload, kind)
        if parts is None:
            return []
        body, tag = parts
        return [(holder, body) for holder in self._by_kind[kind] if holder.has_made(body, tag)]

    # -- what it says

    def _say(self, whose: list[tuple[_Holder, bytes]]) -> Knock | Refusal:
        """Read a payload as the first client's whose key decrypts it: two may share an HMAC key."""
        for holder, body in whose:
            try:
                plaintext = envelope.opened(body, holder.keys)
            except ValueError as error:
                refusal = Refusal(Reason.BAD_SEAL, holder.client, str(error))
                continue
            return self._knock(holder, plaintext)
        return refusal if whose else _UNKNOWN_CLIENT

    def _knock(self, holder: _Holder, plaintext: bytes) -> Knock | Refusal:
        try:
            message = unpack(plaintext)
            if message.kind is Kind.COMMAND:
                return Refusal(Reason.UNSUPPORTED, holder.client, "a command: nothing is ever run for a client")
            if message.kind in _NATS:
                words = "NAT access: publish that port, and guard it (guard: published, or forward)"
                return Refusal(Reason.UNSUPPORTED, holder.client, words)
            asked = access.parse(message.text)
            instead = _instead(message, asked)
        except ValueError as error:
            return Refusal(Reason.BAD_FIELDS, holder.client, str(error))
        if holder.keys.user is not None and not hmac.compare_digest(message.user.encode(), holder.keys.user.encode()):
            return Refusal(Reason.USER_NOT_ALLOWED, holder.client, f'it says that it is from "{message.user}"')
        services: list[str] = []
        for port in asked.ports:
            its = holder.services(port) or (holder.services(instead) if instead is not None else [])
            if not its:
                return Refusal(Reason.SERVICE_NOT_ALLOWED, holder.client, f"it asks for {port}")
            services += its
        return Knock(
            Action.OPEN,
            holder.client,
            services=tuple(dict.fromkeys(services)),
            ttl=message.timeout or 0,
            address=asked.address,
            stamp=Stamp(holder.stamp_key, message.sent_at * _SECOND + _part(plaintext), self._grace),
        )


def stamp_key(keys: FwknopKeys) -> bytes:
    """Return what stands for a client's keys where replays are remembered."""
    secrets = keys.hmac_key or b"", keys.key
    return blake2s(b"".join([_STAMP, *(len(one).to_bytes(2) + one for one in secrets)])).digest()


def _part(plaintext: bytes) -> int:
    """Return a part of a second, in nanoseconds, that hardly two messages share."""
    return int.from_bytes(blake2s(_PART + plaintext).digest()[:8]) % _SECOND


def _instead(message: Message, asked: access.Access) -> Ports | None:
    """Return the port that a local NAT access leads to.

    The client will connect to the port that it asks for; which is guarded, or is led to this one by somebody else.
    """
    if message.kind not in _LOCAL_NATS:
        return None
    return Ports(asked.ports[0].transport, access.nat_port(message.nat or ""))
