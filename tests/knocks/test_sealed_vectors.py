"""Sealed knocks: every vector at the gate, both ways of an independent Noise, and the specification."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.model import Action, Admit, Floor, Knock, Reason, Revoke, Stamp
from gatekeeper.sealed import keys, wire
from gatekeeper.sealed.noise import Handshake
from gatekeeper.sealed.primitives import private_key
from gatekeeper.settings import Client
from tests.knocks.door import AWAY, HOME, NOW, Door, address, datagram, seal
from tests.vectors.sealed import make

FOLDER = Path(make.__file__).parent
VECTORS = sorted(FOLDER.glob("*.txt"))


@dataclass
class Vector:
    """A vector file, read."""

    head: Mapping[str, str]
    raw: bytes

    @classmethod
    def read(cls, path: Path) -> Vector:
        head, _, body = path.read_text().partition("\n\n")
        lines = [line for line in head.splitlines() if not line.startswith("#")]
        return cls(dict(line.split(": ", 1) for line in lines), bytes.fromhex(body))

    def key(self, name: str) -> bytes:
        return base64.b64decode(self.head[name])

    def door(self) -> Door:
        """Build the server that the file describes."""
        head = self.head
        public = self.key("known_client") if "known_client" in head else self.key("client-public")
        laptop = Client(
            name="laptop",
            services=tuple(head.get("services", "ssh web").split()),
            keys=(public,),
            must_bind=head.get("bind") == "required",
            for_others=head.get("for_others") == "true",
            sources=tuple(ip_network(one) for one in head.get("from", "").split()),
            not_after=float(head["not_after"]) if "not_after" in head else None,
        )
        until = float(head["server_until"]) if "server_until" in head else None
        door = Door(laptop, skew=int(head.get("skew", "120")), until=until)
        floors = {}
        if "floor" in head:
            spent = tuple(int(one) for one in head.get("spent", "").split())
            floors[public] = Floor(int(head["floor"]), int(head.get("closed", "0")), spent)
        door.replays.replace(int(head.get("born", "0")), floors)
        return door


def test_the_vectors_are_what_an_independent_implementation_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, make.__file__, str(tmp_path)], check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in VECTORS}
    assert not re.search(r"^\s*(from|import) gatekeeper", Path(make.__file__).read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_vector_is_read_as_it_says(path: Path) -> None:
    vector = Vector.read(path)
    head = vector.head
    now = float(head["now"])
    assert keys.public_of(vector.key("client-private")) == vector.key("client-public")
    assert keys.public_of(vector.key("server-private")) == vector.key("server-public")
    door = vector.door()
    before = door.memory()
    decision = door.judge(vector.raw, head["source"], now)
    if head["expect"].startswith("refused "):
        assert decision.reason == Reason(head["expect"].removeprefix("refused "))
        assert decision.effect is None
        assert door.memory() == before, "a refused knock changes nothing"
        return
    knock = door.format.open(datagram(vector.raw, head["source"]), now=now)
    assert isinstance(knock, Knock)
    named = None if head["address"] == "-" else ip_address(head["address"])
    assert knock == Knock(
        Action(head["expect"]),
        "laptop",
        services=() if head["service"] == "-" else (head["service"],),
        ttl=None if head["ttl"] == "forever" else int(head["ttl"]),
        address=named,
        stamp=Stamp(vector.key("client-public"), int(head["sent_at"])),
    )
    assert decision.effect is not None
    assert decision.effect.stamp == knock.stamp
    source = ip_network(named or head["source"])
    if head["expect"] == "open":
        assert isinstance(decision.effect, Admit)
        found = {one.service: one.expires_at for one in decision.effect.grants}
        granted = dict(one.split("=") for one in head["grants"].split())
        assert found == {name: now + int(seconds) for name, seconds in granted.items()}
        assert {(one.source, one.client) for one in decision.effect.grants} == {(source, "laptop")}
    else:
        assert decision.effect == Revoke(source, "laptop", tuple(head["closes"].split()), knock.stamp)
    assert door.reason(vector.raw, head["source"], now) is Reason.REPLAYED


def test_every_reason_that_a_sealed_knock_is_refused_for_has_a_vector() -> None:
    shown = {Vector.read(path).head["expect"].removeprefix("refused ") for path in VECTORS} - {"open", "close"}
    first, last = list(Reason).index(Reason.UNKNOWN_KEY), list(Reason).index(Reason.SERVICE_NOT_ALLOWED)
    assert shown == set(list(Reason)[first : last + 1])


# -- an independent Noise, with keys of its own


def test_an_independent_noise_reads_what_we_seal_and_we_read_its_answer() -> None:
    client, server = keys.generate(), keys.generate()
    payload = wire.Payload(action=wire.CLOSE, ttl=7, sent_at=8, address=address(HOME), service=wire.service_id("ssh"))
    sealer = wire.Sealer(client, keys.public_of(server))
    raw, handshake = sealer.seal(payload, keys.generate(), now=NOW)
    key = make.tag_key(make.secret(server, keys.public_of(client)))
    assert raw[:12] == make.tags_at(keys.public_of(server), key, int(NOW) // 120)
    assert raw == make.with_mac(key, raw)
    peer = make.connected(server, keys.public_of(client), raw[:12], starts=False)
    assert bytes(peer.read_message(raw[12:108])) == make.payload(
        action=2, ttl=7, sent_at=8, address=HOME, service="ssh"
    )
    message = bytes(peer.write_message(bytes([1, 2, 0, 0, 0, 0, 1, 0]) + bytes(8)))
    answer = sealer.open_answer(handshake, message)
    assert (answer.result, answer.ttl) == (wire.CLOSE, 256)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"ttl": 1800}, bytes([1, 1, 0, 0]) + (600).to_bytes(4)),
        ({"service": "ssh", "ttl": 1800}, bytes([1, 1, 0, 0]) + (1800).to_bytes(4)),
        ({"service": "db"}, bytes([1, 1, 0, 0]) + b"\xff\xff\xff\xff"),
        ({"action": 2}, bytes([1, 2, 0, 0]) + bytes(4)),
    ],
    ids=["all", "one", "until closed", "close"],
)
def test_we_read_what_an_independent_noise_seals_and_it_reads_our_answer(said: dict[str, Any], expected: bytes) -> None:
    """The answer has the shortest time of what was opened."""
    client = keys.generate()
    services = ("db",) if said.get("service") == "db" else ("ssh", "web")
    door = Door(Client(name="phone", services=services, keys=(keys.public_of(client),)), ack=True)
    key = make.tag_key(make.secret(client, make.SERVER_PUBLIC))
    tags = make.tags_at(make.SERVER_PUBLIC, key, int(NOW) // 120)
    peer = make.connected(client, make.SERVER_PUBLIC, tags)
    sent = tags + bytes(peer.write_message(make.payload(**said)))
    decision = door.judge(make.with_mac(key, sent))
    assert decision.client == "phone"
    assert decision.effect is not None
    assert decision.answer is not None
    assert bytes(peer.read_message(decision.answer.write(keys.generate()))) == expected + bytes(8)


def test_nothing_is_answered_where_the_rules_do_not_say_so() -> None:
    assert Door().judge(seal()).answer is None


def test_no_refused_knock_is_answered() -> None:
    door = Door(ack=True)
    raw = seal()
    assert door.judge(raw).answer is not None
    for refused in (raw, seal(action=3), seal(address=address(AWAY)), seal(-200)):
        assert door.judge(refused).answer is None


# -- both ways to the primitives

_WITHOUT = {
    "as they are": "",
    "without the binding": """
import cryptography.hazmat.backends.openssl.backend
import cryptography.hazmat.primitives.asymmetric.x25519, cryptography.hazmat.primitives.ciphers.aead
import cryptography.hazmat.bindings._rust as binding
del binding.openssl
""",
    "without _blake2": """
import hashlib, sys
sys.modules["_blake2"] = None
""",
}
_WORKED = """
from gatekeeper.sealed import keys, primitives, wire
said = wire.Payload(action=1, ttl=1800, sent_at=1800000000000000042, service=wire.service_id("ssh"),
                    address=wire.pack_address(bytes([192, 0, 2, 7])))
sealer = wire.Sealer(bytes(range(1, 33)), keys.public_of(bytes(range(0x65, 0x85))))
print(sealer.seal(said, bytes(range(0xC9, 0xE9)), now=1800000000)[0].hex())
print(hasattr(primitives, "_public"))
"""


@pytest.mark.parametrize("missing", _WITHOUT)
def test_both_ways_to_the_primitives_make_the_worked_vector(missing: str) -> None:
    """The objects of the binding are not there in every version of cryptography; its public faces are."""
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT[missing] + _WORKED], check=True, capture_output=True, text=True
    )
    vector, is_public = ran.stdout.split()
    assert vector == Vector.read(FOLDER / "open-worked.txt").raw.hex()
    assert (is_public == "True") is (missing == "without the binding")


def test_the_worked_vector_is_opened_with_the_public_faces_alone() -> None:
    """The other end, at the server: the private key of the vector opens it."""
    vector = Vector.read(FOLDER / "open-worked.txt")
    ss = keys.exchange(vector.key("server-private"), vector.key("client-public"))
    handshake = Handshake(
        wire.prologue(vector.raw[:12]),
        initiator=vector.key("client-public"),
        responder=vector.key("server-public"),
        ss=ss,
    )
    payload = handshake.read_first(vector.raw[12:108], private_key(vector.key("server-private")))
    said = {"ttl": 1800, "sent_at": 1_800_000_000_000_000_042, "address": HOME, "service": "ssh"}
    assert payload == make.payload(**said)  # type: ignore[arg-type]


# -- the document


def test_the_specification_says_what_an_independent_noise_computes() -> None:
    """The worked vector with all that is on the way, and its answer."""
    text = (FOLDER.parents[2] / "docs" / "sealed-knock.md").read_text()
    shown = text.replace("\n                ", "")
    raw = make.VECTORS["open-worked"].datagram("open-worked")
    ss = make.secret(make.CLIENT, make.SERVER_PUBLIC)
    client = make.connected(make.CLIENT, make.SERVER_PUBLIC, raw[:12], ephemeral=make.EPHEMERAL)
    peer = make.connected(make.SERVER, make.CLIENT_PUBLIC, raw[:12], ephemeral=bytes(range(0xA0, 0xC0)), starts=False)
    client.write_message(make.payload(**make.VECTORS["open-worked"].says))  # type: ignore[arg-type]
    inside = bytes(peer.read_message(raw[12:108]))
    values = {
        "ss": ss,
        "tag key": make.tag_key(ss),
        "door tag": raw[:4],
        "client tag": raw[4:12],
        "e": raw[12:44],
        "payload": inside,
        "datagram": raw,
    }
    state = client.noise_protocol.handshake_state.symmetric_state
    values |= {"ck": state.ck, "k": state.cipher_state.k, "h": state.h}
    for name, value in values.items():
        assert f"    {name} " in text
        assert value.hex() in shown, name
    opened = bytes([1, 1, 0, 0]) + (1800).to_bytes(4) + bytes(8)
    answer = bytes(peer.write_message(opened))
    assert bytes(client.read_message(answer)) == opened
    assert answer.hex() in shown
    for key in (make.CLIENT, make.CLIENT_PUBLIC, make.SERVER, make.SERVER_PUBLIC, make.EPHEMERAL):
        assert keys.show(key) in text


def test_the_specification_names_every_reason_that_a_sealed_knock_is_refused_for() -> None:
    text = (FOLDER.parents[2] / "docs" / "sealed-knock.md").read_text()
    for path in VECTORS:
        reason = Vector.read(path).head["expect"].removeprefix("refused ")
        assert reason in {"open", "close"} or f"`{reason}`" in text
