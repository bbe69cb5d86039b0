"""What the real client wrote is read; and from the same key, salt and fields comes the very same packet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.fwknop import envelope
from gatekeeper.fwknop.kinds import DIGESTS
from gatekeeper.fwknop.message import Kind, Message, pack, unpack
from gatekeeper.fwknop.text import padded
from gatekeeper.settings import FwknopKeys

FOLDER = Path(__file__).parents[1] / "vectors" / "fwknop"
VECTORS: list[dict[str, Any]] = [
    vector for name in ("vectors.json", "more.json") for vector in json.loads(FOLDER.joinpath(name).read_text())
]
NAMES = [vector["name"] for vector in VECTORS]


def keys_of(vector: dict[str, Any]) -> FwknopKeys:
    hmac_key = vector["hmac_key_hex"]
    return FwknopKeys(
        key=bytes.fromhex(vector["key_hex"]),
        hmac_key=None if hmac_key is None else bytes.fromhex(hmac_key),
        hmac=vector["hmac_type"] or "none",
        mode=vector["encryption_mode"],
    )


def taken_apart(vector: dict[str, Any]) -> tuple[bytes, bytes]:
    parts = envelope.parts(vector["packet"].encode(), vector["hmac_type"] or "none")
    assert parts is not None
    return parts


def opened(vector: dict[str, Any]) -> Message:
    return unpack(envelope.opened(taken_apart(vector)[0], keys_of(vector)))


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_what_the_client_wrote_is_read(vector: dict[str, Any]) -> None:
    payload, keys = vector["packet"].encode(), keys_of(vector)
    assert envelope.has_shape(payload)
    body, tag = taken_apart(vector)
    assert keys.hmac_key is None or envelope.is_right(envelope.begun(keys), body, tag)
    plaintext = envelope.opened(body, keys)
    assert plaintext.decode() == vector["decoded"]["plaintext"]
    message = unpack(plaintext)
    said = vector["decoded"]
    for name, ours in (
        ("rand", message.random),
        ("username", message.user),
        ("timestamp", message.sent_at),
        ("version", message.version),
        ("msg_type", message.kind),
        ("message", message.text),
        ("nat_access", message.nat),
        ("client_timeout", message.timeout),
        ("digest_type", message.digest),
    ):
        if "username" in said:  # the vectors from elsewhere say all of it
            assert ours == said.get(name)


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_the_very_same_packet_is_written(vector: dict[str, Any]) -> None:
    message = opened(vector)
    assert pack(message).decode() == vector["decoded"]["plaintext"]
    salt = padded(taken_apart(vector)[0])[8:16]
    assert envelope.seal(message, keys_of(vector), salt=salt) == vector["packet"].encode()


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_no_other_clients_keys_read_it(vector: dict[str, Any]) -> None:
    keys = keys_of(vector)
    body, tag = taken_apart(vector)
    other = FwknopKeys(key=bytes(32), hmac_key=bytes(64), hmac=keys.hmac, mode=keys.mode)
    assert keys.hmac_key is None or not envelope.is_right(envelope.begun(other), body, tag)
    with pytest.raises(ValueError, match=r"another key|digest does not fit"):
        envelope.opened(body, other)


def test_there_is_one_of_each_kind() -> None:
    messages = [opened(vector) for vector in VECTORS]
    assert {one.kind for one in messages} == set(Kind)
    assert {one.digest for one in messages} == set(DIGESTS)
    assert {vector["hmac_type"] for vector in VECTORS} == {*DIGESTS, None}
    assert {vector["encryption_mode"] for vector in VECTORS} == {"cbc", "cfb", "ofb", "ctr", "ecb", "legacy"}


@pytest.mark.parametrize(("name", "fields"), [("timeout", (90, None)), ("local_nat_timeout", (45, "127.0.0.1,22"))])
def test_what_a_message_says_besides(name: str, fields: tuple[int, str | None]) -> None:
    message = opened(VECTORS[NAMES.index(name)])
    assert (message.timeout, message.nat) == fields


def test_the_shape_that_the_kernel_looks_for_is_that_of_all() -> None:
    assert all(envelope.SHORTEST <= len(vector["packet"]) <= envelope.LONGEST for vector in VECTORS)
    assert all(ord(vector["packet"][0]) in envelope.FIRST for vector in VECTORS)
