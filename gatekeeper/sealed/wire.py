"""The sealed knock's datagram: tags, mac, payload and answer. docs/sealed-knock.md draws it.

Pure. Integers are big-endian. The two tags and the mac are keyed BLAKE2s (RFC 7693) cut to their first
bytes; they let a server throw junk away before any public-key work, and prove nothing else.
"""

from __future__ import annotations

from struct import Struct

from gatekeeper.sealed import keys
from gatekeeper.sealed.noise import Handshake
from gatekeeper.sealed.primitives import blake2s, private_key

SIZE = 116
EPOCH = 120
"""Seconds for which tags stay the same; also the largest skew between two clocks."""
SKEW = 120

OPEN, CLOSE = 1, 2
ANY_SERVICE = bytes(16)
ANY_ADDRESS = bytes(16)
ANSWER_SIZE = 64
FOREVER = 0xFFFF_FFFF
"""A TTL in an answer: until closed."""

_DOOR, _CLIENT, _MAC = b"gatekeeper door 1", b"gatekeeper client 1", b"gatekeeper mac 1"
_TAG_KEY, _PROLOGUE = b"gatekeeper tag key 1", b"gatekeeper sealed knock 1"
_MAPPED = bytes(10) + b"\xff\xff"
_PAYLOAD = Struct("!BBHIQ16s16s")
_ANSWER = Struct("!BBHI8x")
_EPOCH = Struct("!Q").pack


class Payload:
    """What a knock says; not yet checked.

    ``ttl``: seconds asked for, 0 for the server's own. ``sent_at``: Unix time in nanoseconds. ``address``:
    IPv6, or IPv4 as ::ffff:a.b.c.d; zeros for the source that the server sees. ``service``: ``service_id`` of a
    name; zeros for all that the client may open.
    """

    __slots__ = ("action", "address", "flags", "reserved", "sent_at", "service", "ttl")

    def __init__(  # noqa: PLR0913  (fields, by their names)
        self,
        *,
        action: int,
        ttl: int = 0,
        sent_at: int,
        address: bytes = ANY_ADDRESS,
        service: bytes = ANY_SERVICE,
        flags: int = 0,
        reserved: int = 0,
    ) -> None:
        self.action, self.ttl, self.sent_at = action, ttl, sent_at
        self.address, self.service = address, service
        self.flags, self.reserved = flags, reserved

    def pack(self) -> bytes:
        """Write the payload, 48 bytes."""
        return _PAYLOAD.pack(self.action, self.flags, self.reserved, self.ttl, self.sent_at, self.address, self.service)

    @classmethod
    def unpack(cls, raw: bytes) -> Payload:
        """Read 48 bytes."""
        names = ("action", "flags", "reserved", "ttl", "sent_at", "address", "service")
        return cls(**dict(zip(names, _PAYLOAD.unpack(raw), strict=True)))


class Answer:
    """What the server says back, where it is told to: what it did, and for how many seconds."""

    __slots__ = ("result", "ttl")

    def __init__(self, result: int, ttl: int) -> None:
        self.result, self.ttl = result, ttl

    def pack(self) -> bytes:
        """Write the answer's payload, 16 bytes."""
        return _ANSWER.pack(1, self.result, 0, self.ttl)

    @classmethod
    def unpack(cls, raw: bytes) -> Answer:
        """Read 16 bytes.

        Raises:
            ValueError: they are of another version.
        """
        version, result, _, ttl = _ANSWER.unpack(raw)
        if version != 1:
            raise ValueError(f"an answer of version {version}")
        return cls(result, ttl)


def epoch_at(now: float) -> int:
    """Return the number of the epoch of a Unix time; there are none before 1970."""
    return max(0, int(now // EPOCH))


def door_tag(server: bytes, epoch: int) -> bytes:
    """Return the tag that all knocks to a server share in an epoch: 4 bytes, from its public key."""
    return blake2s(_DOOR + _EPOCH(epoch), key=server).digest()[:4]


def tag_key(ss: bytes) -> bytes:
    """Return the key of a client's tags and macs, from the secret that its key and the server's share."""
    return blake2s(_TAG_KEY, key=ss).digest()


def client_tag(key: bytes, epoch: int) -> bytes:
    """Return the tag that all knocks of a client to a server share in an epoch: 8 bytes."""
    return blake2s(_CLIENT + _EPOCH(epoch), key=key).digest()[:8]


def mac(key: bytes, datagram: bytes) -> bytes:
    """Return the checksum over the first 108 bytes of a datagram: 8 bytes."""
    return blake2s(_MAC + datagram[:108], key=key).digest()[:8]


def service_id(name: str) -> bytes:
    """Return how a payload names a service: BLAKE2s-128, 16 bytes."""
    return blake2s(name.encode(), digest_size=16).digest()


def pack_address(packed: bytes) -> bytes:
    """Write an address (4 or 16 bytes) as the payload has it."""
    return packed if len(packed) == 16 else _MAPPED + packed


def unpack_address(field: bytes) -> bytes:
    """Return the address of a payload as 4 or 16 bytes."""
    return field[12:] if field.startswith(_MAPPED) else field


def prologue(tags: bytes) -> bytes:
    """Return the handshake's prologue: it binds both tags (12 bytes) to the seal."""
    return _PROLOGUE + tags


class Sealer:
    """A client's side: seals knocks to one server, and opens its answers."""

    def __init__(self, private: bytes, server: bytes) -> None:
        """Take the client's private key and the server's public one.

        Raises:
            ValueError: the server's key is of low order.
        """
        self._private = private
        self._public = keys.public_of(private)
        self._server = server
        self._ss = keys.exchange(private, server)
        self._tag_key = tag_key(self._ss)

    def seal(self, payload: Payload, ephemeral: bytes, *, now: float) -> tuple[bytes, Handshake]:
        """Seal a payload; return the datagram, and the handshake that its answer belongs to.

        ``ephemeral`` is a fresh private key: 32 random bytes, never used twice. ``now`` chooses the epoch.
        """
        epoch = epoch_at(now)
        tags = door_tag(self._server, epoch) + client_tag(self._tag_key, epoch)
        handshake = Handshake(prologue(tags), initiator=self._public, responder=self._server, ss=self._ss)
        datagram = tags + handshake.write_first(payload.pack(), ephemeral)
        return datagram + mac(self._tag_key, datagram), handshake

    def open_answer(self, handshake: Handshake, message: bytes) -> Answer:
        """Read the server's answer to a knock.

        Raises:
            ValueError: it is not one.
        """
        if len(message) != ANSWER_SIZE:
            raise ValueError("an answer has 64 bytes")
        return Answer.unpack(handshake.read_second(message, private_key(self._private)))
