"""The sealed knock as Scapy layers, for a Scapy shell: look at knocks, and craft them.

    >>> from gatekeeper.sealed.layer import SealedKnock, SealedPayload
    >>> SealedKnock(raw).show()
    >>> SealedKnock(raw).unseal(private=server_private, client=client_public).show()
    >>> send(IP(dst="192.0.2.1") / UDP(dport=62201) / SealedKnock.seal(SealedPayload(), private=..., server=...))

Nothing of gatekeeper itself uses them: the server reads knocks with ``wire``.
"""

from __future__ import annotations

import os
import time

from scapy.fields import (
    ByteEnumField,
    ByteField,
    IntField,
    IP6Field,
    LongField,
    ShortField,
    XStrFixedLenField,
)
from scapy.layers.inet import UDP
from scapy.packet import Packet, bind_layers

from gatekeeper.sealed import keys, wire
from gatekeeper.sealed.noise import Handshake
from gatekeeper.sealed.primitives import private_key

_ACTIONS = {wire.OPEN: "open", wire.CLOSE: "close"}
_PORT = 62201


class SealedPayload(Packet):  # type: ignore[misc]  # Scapy's types are not followed
    """What stands inside the seal: 48 bytes. ``sent_at`` is now, unless it is given."""

    name = "SealedPayload"
    fields_desc = (
        ByteEnumField("action", wire.OPEN, _ACTIONS),
        ByteField("flags", 0),
        ShortField("reserved", 0),
        IntField("ttl", 0),
        LongField("sent_at", None),
        IP6Field("address", "::"),
        XStrFixedLenField("service", wire.ANY_SERVICE, 16),
    )

    def self_build(self) -> bytes:
        """Fill in the time."""
        if self.getfieldval("sent_at") is None:
            self.setfieldval("sent_at", time.time_ns())
        return bytes(super().self_build())

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        """Nothing follows."""
        return b"", s


class SealedKnock(Packet):  # type: ignore[misc]
    """A whole knock: 116 bytes."""

    name = "SealedKnock"
    fields_desc = (
        XStrFixedLenField("door_tag", b"", 4),
        XStrFixedLenField("client_tag", b"", 8),
        XStrFixedLenField("e", b"", 32),
        XStrFixedLenField("ciphertext", b"", 64),
        XStrFixedLenField("mac", b"", 8),
    )

    @classmethod
    def seal(
        cls,
        payload: SealedPayload,
        *,
        private: bytes,
        server: bytes,
        ephemeral: bytes | None = None,
        now: float | None = None,
    ) -> SealedKnock:
        """Seal a payload, with a client's private key, for a server's public one.

        Raises:
            ValueError: the server's key is of low order.
        """
        chance = os.urandom(32) if ephemeral is None else ephemeral
        said = wire.Payload.unpack(bytes(payload))
        datagram, _ = wire.Sealer(private, server).seal(said, chance, now=time.time() if now is None else now)
        return cls(datagram)

    def unseal(self, *, private: bytes, client: bytes) -> SealedPayload:
        """Open the seal, with the server's private key and the client's public one.

        Raises:
            ValueError: it was not sealed by that client for that server, or was changed.
        """
        raw = bytes(self)
        ss = keys.exchange(private, client)
        handshake = Handshake(wire.prologue(raw[:12]), initiator=client, responder=keys.public_of(private), ss=ss)
        return SealedPayload(handshake.read_first(raw[12:108], private_key(private)))

    def remac(self, *, private: bytes, server: bytes) -> SealedKnock:
        """Return it with the mac that fits what it says now, after a field was changed."""
        raw = bytes(self)
        return SealedKnock(raw[:108] + wire.mac(wire.tag_key(keys.exchange(private, server)), raw))


bind_layers(UDP, SealedKnock, dport=_PORT)
