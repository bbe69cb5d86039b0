"""Writes the vectors of the sealed knock: ``make.py [FOLDER]`` (without one, beside itself).

An implementation of docs/sealed-knock.md of its own: hashlib, and the Noise of the package noiseprotocol. It
imports nothing of gatekeeper, or it would prove nothing about it.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped]

NOISE = b"Noise_KK_25519_ChaChaPoly_BLAKE2s"
NOW = 1_800_000_000
FOREVER = 0xFFFF_FFFF


def hashed(key: bytes, *parts: bytes) -> bytes:
    """Return keyed BLAKE2s."""
    return hashlib.blake2s(b"".join(parts), key=key).digest()


def pair(private: bytes) -> tuple[bytes, bytes]:
    """Return a private key with its public one."""
    return private, _loaded(private).keypairs["s"].public_bytes


def secret(private: bytes, public: bytes) -> bytes:
    """Return what two static keys share."""
    noise = _loaded(private)
    noise.keypairs["rs"] = noise.dh_fn.klass.from_public_bytes(public)
    return bytes(noise.dh_fn.dh(noise.keypairs["s"].private, noise.keypairs["rs"].public))


def _loaded(private: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202
    connection = NoiseConnection.from_name(NOISE)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, private)
    return connection.noise_protocol


def connected(
    private: bytes, public: bytes, tags: bytes, *, ephemeral: bytes | None = None, starts: bool = True
) -> NoiseConnection:
    """Begin a handshake, as the client (it starts) or as the server."""
    connection = NoiseConnection.from_name(NOISE)
    connection.set_prologue(b"gatekeeper sealed knock 1" + tags)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, private)
    connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public)
    if ephemeral is not None:
        connection.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    if starts:
        connection.set_as_initiator()
    else:
        connection.set_as_responder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an ephemeral key that is set is what makes a vector
        connection.start_handshake()
    return connection


def tag_key(ss: bytes) -> bytes:
    """Return the key of tags and macs."""
    return hashed(ss, b"gatekeeper tag key 1")


def tags_at(server: bytes, key: bytes, epoch: int) -> bytes:
    """Return door tag and client tag."""
    number = struct.pack("!Q", epoch)
    return hashed(server, b"gatekeeper door 1", number)[:4] + hashed(key, b"gatekeeper client 1", number)[:8]


def with_mac(key: bytes, datagram: bytes) -> bytes:
    """Give the first 108 bytes their mac."""
    return datagram[:108] + hashed(key, b"gatekeeper mac 1", datagram[:108])[:8]


def payload(
    *,
    action: int = 1,
    flags: int = 0,
    reserved: int = 0,
    ttl: int = 0,
    sent_at: int = NOW * 10**9,
    address: str | None = None,
    service: str | None = None,
) -> bytes:
    """Write the 48 bytes inside the seal."""
    packed = bytes(16)
    if address is not None:
        packed = ip_address(address).packed
        packed = packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed
    named = bytes(16) if service is None else hashlib.blake2s(service.encode(), digest_size=16).digest()
    return struct.pack("!BBHIQ", action, flags, reserved, ttl, sent_at) + packed + named


CLIENT, CLIENT_PUBLIC = pair(bytes(range(0x01, 0x21)))
SERVER, SERVER_PUBLIC = pair(bytes(range(0x65, 0x85)))
EPHEMERAL = bytes(range(0xC9, 0xE9))
OTHER_CLIENT, OTHER_CLIENT_PUBLIC = pair(bytes(range(0x21, 0x41)))
OTHER_SERVER, OTHER_SERVER_PUBLIC = pair(bytes(range(0x41, 0x61)))
OPENED = {"ssh": "3600", "web": "600"}
"""What the server grants where nothing else is asked for; tests/knocks/test_sealed.py has its rules."""


@dataclass(frozen=True)
class Vector:
    """A datagram, what the server knows, and what it says to it."""

    shows: str
    expect: str
    says: Mapping[str, int | str] = field(default_factory=dict)
    """The payload's fields, for those that are not as ``payload`` has them."""
    found: Mapping[str, str] = field(default_factory=dict)
    """What a good one must be read as, besides what it says."""
    rules: Mapping[str, str] = field(default_factory=dict)
    """What is special about the server, as header lines."""
    source: str = "192.0.2.7"
    epoch: int = NOW // 120
    door: int | None = None
    """Another epoch for the door tag."""
    sealed_for: bytes = SERVER_PUBLIC
    ephemeral: bytes | None = None
    flip: int | None = None
    """A byte to change before the mac is made."""
    e: bytes | None = None
    """Another ephemeral public key, put in before the mac is made."""
    flip_mac: bool = False
    cut: int = 0
    """How many bytes to take away at the end; negative: to add."""

    def datagram(self, name: str) -> bytes:
        """Seal it."""
        key = tag_key(secret(CLIENT, self.sealed_for))
        tags = tags_at(self.sealed_for, key, self.epoch)
        if self.door is not None:
            tags = tags_at(self.sealed_for, key, self.door)[:4] + tags[4:]
        ephemeral = self.ephemeral or hashlib.blake2s(b"vector " + name.encode()).digest()
        noise = connected(CLIENT, self.sealed_for, tags, ephemeral=ephemeral)
        raw = bytearray(tags + bytes(noise.write_message(payload(**self.says))))  # type: ignore[arg-type]
        if self.e is not None:
            raw[12:44] = self.e
        if self.flip is not None:
            raw[self.flip] ^= 0x01
        sealed = bytearray(with_mac(key, bytes(raw)))
        if self.flip_mac:
            sealed[-1] ^= 0x01
        return bytes(sealed[: len(sealed) - self.cut]) if self.cut >= 0 else bytes(sealed) + bytes(-self.cut)

    def text(self, name: str) -> str:
        """Write its file."""
        lines = {
            "client-private": base64.b64encode(CLIENT).decode(),
            "client-public": base64.b64encode(CLIENT_PUBLIC).decode(),
            "server-private": base64.b64encode(SERVER).decode(),
            "server-public": base64.b64encode(SERVER_PUBLIC).decode(),
            "now": str(NOW),
            "source": self.source,
            **self.rules,
            "expect": self.expect,
        }
        if not self.expect.startswith("refused"):
            ttl = self.says.get("ttl", 0)
            lines["ttl"] = "forever" if ttl == FOREVER else str(ttl)
            lines["address"] = str(self.says.get("address", "-"))
            lines["service"] = str(self.says.get("service", "-"))
            lines["sent_at"] = str(self.says.get("sent_at", NOW * 10**9))
            lines |= self.found
        hexed = self.datagram(name).hex()
        body = "\n".join(hexed[start : start + 64] for start in range(0, len(hexed), 64))
        head = "\n".join(f"{key}: {value}" for key, value in lines.items())
        return f"# {self.shows}\n{head}\n\n{body}\n"


def at(seconds: float) -> dict[str, int]:
    """Return a ``sent_at`` so many seconds from now."""
    return {"sent_at": NOW * 10**9 + round(seconds * 10**9)}


def stamp(seconds: float) -> str:
    """Return a time of the server's so many seconds from now."""
    return str(at(seconds)["sent_at"])


def granted(**seconds: str) -> dict[str, str]:
    """Say what is opened, for how many seconds each."""
    return {"grants": " ".join(f"{name}={value}" for name, value in seconds.items())}


ALL = granted(**OPENED)
MULTICAST, FOR_OTHERS = {"address": "224.0.0.5"}, {"for_others": "true"}
LOW_ORDER = {
    "zero": bytes(32),
    "one": (1).to_bytes(32, "little"),
    "order-8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "minus-one": (2**255 - 20).to_bytes(32, "little"),
    "prime": (2**255 - 19).to_bytes(32, "little"),
}

GOOD = {
    "open-worked": Vector(
        "The worked vector of docs/sealed-knock.md: open ssh for 192.0.2.7, for half an hour.",
        "open",
        {"ttl": 1800, "sent_at": NOW * 10**9 + 42, "address": "192.0.2.7", "service": "ssh"},
        granted(ssh="1800"),
        ephemeral=EPHEMERAL,
    ),
    "open-all": Vector("Open all that the client may, for the source that the server sees.", "open", {}, ALL),
    "close": Vector(
        "Close ssh for the address that is named.",
        "close",
        {"action": 2, "address": "192.0.2.7", "service": "ssh"},
        {"closes": "ssh"},
    ),
    "close-all": Vector(
        "Close all, for the source that the server sees.", "close", {"action": 2}, {"closes": "ssh web"}
    ),
    "open-ipv6": Vector(
        "Open web for an IPv6 address.",
        "open",
        {"address": "2001:db8::7", "service": "web"},
        granted(web="600"),
        source="2001:db8::7",
    ),
    "open-ttl-forever": Vector(
        "A TTL of 0xffffffff asks for as long as the server allows.",
        "open",
        {"ttl": FOREVER},
        granted(ssh="86400", web="600"),
    ),
    "open-ttl-capped": Vector(
        "A TTL above what the server allows becomes what it allows.",
        "open",
        {"ttl": 100_000},
        granted(ssh="86400", web="600"),
    ),
    "open-epoch-before": Vector(
        "Sealed 120 s ago, in the previous epoch: as far behind as a clock may be.",
        "open",
        at(-120),
        ALL,
        epoch=NOW // 120 - 1,
    ),
    "open-epoch-after": Vector(
        "Sealed in 120 s, in the next epoch: as far ahead as a clock may be.",
        "open",
        at(120),
        ALL,
        epoch=NOW // 120 + 1,
    ),
    "open-for-another": Vector(
        "For another address than its source, by a client that may.",
        "open",
        {"address": "2001:db8::99", "service": "ssh"},
        granted(ssh="3600"),
        {"for_others": "true"},
    ),
    "open-bound": Vector(
        "A client that must name its address does.",
        "open",
        {"address": "192.0.2.7"},
        ALL,
        {"bind": "required", "from": "192.0.2.0/24"},
    ),
    "open-before-the-end": Vector(
        "No grant outlives its client: the client's last day ends in 60 s.",
        "open",
        {},
        granted(ssh="60", web="60"),
        {"not_after": str(NOW + 60)},
    ),
    "open-behind-a-close": Vector(
        "A nanosecond after the client's last close.",
        "open",
        at(-1 + 1e-9),
        ALL,
        {"floor": stamp(-11), "closed": stamp(-1)},
    ),
    "close-before-a-close": Vector(
        "A close that was overtaken by another is as good as it.",
        "close",
        {"action": 2, **at(-2)},
        {"closes": "ssh web"},
        {"floor": stamp(-11), "closed": stamp(-1)},
    ),
    "open-above-floor": Vector("A nanosecond above the floor.", "open", at(-10 + 1e-9), ALL, {"floor": stamp(-10)}),
    "open-old-server-key-in-time": Vector(
        "For a server key that is being replaced, and still accepted for a second.",
        "open",
        {},
        ALL,
        {"server_until": str(NOW + 1)},
    ),
}
BAD = {
    "unknown-key-short": Vector("One byte is missing at the end.", "refused unknown-key", cut=1),
    "unknown-key-long": Vector("One byte too many at the end.", "refused unknown-key", cut=-1),
    "unknown-key-other-server": Vector(
        "Sealed for another server.", "refused unknown-key", sealed_for=OTHER_SERVER_PUBLIC
    ),
    "wrong-epoch-behind": Vector(
        "Tags of two epochs ago (the time inside is right).", "refused wrong-epoch", epoch=NOW // 120 - 2
    ),
    "wrong-epoch-ahead": Vector(
        "Tags of two epochs ahead (the time inside is right).", "refused wrong-epoch", epoch=NOW // 120 + 2
    ),
    "unknown-client-mixed": Vector(
        "A door tag of this epoch before a client tag of the last.",
        "refused unknown-client",
        epoch=NOW // 120 - 1,
        door=NOW // 120,
    ),
    "unknown-client": Vector(
        "A client that the rules do not have: they have another one.",
        "refused unknown-client",
        rules={"known_client": base64.b64encode(OTHER_CLIENT_PUBLIC).decode()},
    ),
    "bad-mac": Vector("The last bit of the mac is flipped.", "refused bad-mac", flip_mac=True),
    "bad-seal": Vector("A bit of the ciphertext is flipped, the mac is right.", "refused bad-seal", flip=50),
    "bad-seal-tag": Vector("A bit of the Poly1305 tag is flipped, the mac is right.", "refused bad-seal", flip=107),
    "bad-seal-e": Vector("A bit of e is flipped, the mac is right.", "refused bad-seal", flip=13),
    **{
        f"low-order-{name}": Vector("An e of low order, the mac is right.", "refused low-order", e=e)
        for name, e in LOW_ORDER.items()
    },
    "old-server-key": Vector(
        "For a server key whose time is over.", "refused old-server-key", rules={"server_until": str(NOW)}
    ),
    "bad-fields-action-0": Vector("There is no action 0.", "refused bad-fields", {"action": 0}),
    "bad-fields-action-3": Vector("There is no action 3.", "refused bad-fields", {"action": 3}),
    "bad-fields-flags": Vector("There are no flags yet.", "refused bad-fields", {"flags": 1}),
    "bad-fields-reserved": Vector("What is reserved is zero.", "refused bad-fields", {"reserved": 1}),
    "client-expired": Vector("The client's last day is over.", "refused client-expired", rules={"not_after": str(NOW)}),
    "clock-skew-behind": Vector(
        "Sent 121 s ago; its tags are of the previous epoch.", "refused clock-skew", at(-121), epoch=NOW // 120 - 1
    ),
    "clock-skew-ahead": Vector(
        "Sent in 121 s; its tags are of the next epoch.", "refused clock-skew", at(121), epoch=NOW // 120 + 1
    ),
    "clock-skew-narrow": Vector(
        "Sent 31 s ago, to a server that allows 30 s.", "refused clock-skew", at(-31), rules={"skew": "30"}
    ),
    "replayed-at-floor": Vector("As old as the floor.", "refused replayed", at(-10), rules={"floor": stamp(-10)}),
    "replayed-below-floor": Vector("Older than the floor.", "refused replayed", at(-20), rules={"floor": stamp(-10)}),
    "replayed-spent": Vector(
        "Above the floor, and spent.", "refused replayed", rules={"floor": stamp(-10), "spent": stamp(0)}
    ),
    "replayed-close": Vector(
        "A close at the floor.", "refused replayed", {"action": 2, **at(-10)}, rules={"floor": stamp(-10)}
    ),
    "before-close": Vector(
        "An opening that is as old as the client's last close.",
        "refused before-close",
        at(-1),
        rules={"floor": stamp(-11), "closed": stamp(-1)},
    ),
    "floor-ahead": Vector(
        "The floor is further ahead than any honest clock.",
        "refused floor-ahead",
        rules={"floor": str((NOW + 120) * 10**9 + 1000)},
    ),
    "before-store": Vector(
        "As old as the store, which knows nothing of the time before.",
        "refused before-store",
        rules={"born": stamp(0)},
    ),
    "source-not-allowed": Vector(
        "From outside the networks that the client may come from.",
        "refused source-not-allowed",
        {"address": "192.0.2.7"},
        rules={"from": "198.51.100.0/24 2001:db8::/32"},
    ),
    "address-missing": Vector(
        "The client must name its address, and does not.", "refused address-missing", rules={"bind": "required"}
    ),
    "address-mismatch": Vector(
        "It names another address than it comes from.", "refused address-mismatch", {"address": "192.0.2.8"}
    ),
    "address-mismatch-version": Vector(
        "It names an IPv4 address, and comes over IPv6.",
        "refused address-mismatch",
        {"address": "192.0.2.7"},
        source="2001:db8::7",
    ),
    "bad-address-multicast": Vector(
        "It may name others, but nobody has that address: multicast.",
        "refused bad-address",
        MULTICAST,
        rules=FOR_OTHERS,
    ),
    "bad-address-loopback": Vector("The same: loopback.", "refused bad-address", {"address": "::1"}, rules=FOR_OTHERS),
    "bad-address-link-local": Vector(
        "The same: link-local.", "refused bad-address", {"address": "fe80::7"}, rules=FOR_OTHERS
    ),
    "bad-address-broadcast": Vector(
        "The same: broadcast.", "refused bad-address", {"address": "255.255.255.255"}, rules=FOR_OTHERS
    ),
    "bad-address-unspecified": Vector(
        "The same: 0.0.0.0 (all zeros but for the prefix of IPv4).",
        "refused bad-address",
        {"address": "0.0.0.0"},
        rules=FOR_OTHERS,
    ),
    "service-not-allowed-unknown": Vector(
        "A service that the server does not have.", "refused service-not-allowed", {"service": "ftp"}
    ),
    "service-not-allowed-other": Vector(
        "A service that only another client may open.", "refused service-not-allowed", {"service": "db"}
    ),
}
VECTORS = {**GOOD, **BAD}


def main() -> None:
    """Write the files into a folder, and remove the vectors there that are no more."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, vector in VECTORS.items():
        (folder / f"{name}.txt").write_text(vector.text(name))
    for path in folder.glob("*.txt"):
        if path.stem not in VECTORS:
            path.unlink()


if __name__ == "__main__":
    main()
