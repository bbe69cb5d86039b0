"""The datagram: fields at their places, tags and macs, and every round trip."""

from __future__ import annotations

import hashlib
import struct
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.sealed import keys, wire
from gatekeeper.sealed.primitives import private_key, public_bytes
from tests.vectors.sealed import make

NOW = 1_800_000_000
U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
SIXTEEN = st.binary(min_size=16, max_size=16)
KEY = st.binary(min_size=32, max_size=32)


@given(action=U8, flags=U8, reserved=U16, ttl=U32, sent_at=U64, address=SIXTEEN, service=SIXTEEN)
def test_a_payload_is_read_as_it_was_written(
    action: int, flags: int, reserved: int, ttl: int, sent_at: int, address: bytes, service: bytes
) -> None:
    said = wire.Payload(
        action=action,
        flags=flags,
        reserved=reserved,
        ttl=ttl,
        sent_at=sent_at,
        address=address,
        service=service,
    )
    raw = said.pack()
    assert raw == struct.pack("!BBHIQ", action, flags, reserved, ttl, sent_at) + address + service
    again = wire.Payload.unpack(raw)
    assert [getattr(again, name) for name in wire.Payload.__slots__] == [
        getattr(said, name) for name in wire.Payload.__slots__
    ]


@given(SIXTEEN, SIXTEEN, SIXTEEN)
def test_any_48_bytes_are_a_payload_that_packs_to_them(one: bytes, two: bytes, three: bytes) -> None:
    raw = one + two + three
    assert wire.Payload.unpack(raw).pack() == raw


@given(U8, U32)
def test_an_answer_is_read_as_it_was_written(result: int, ttl: int) -> None:
    raw = wire.Answer(result, ttl).pack()
    assert raw == struct.pack("!BBHI", 1, result, 0, ttl) + bytes(8)
    again = wire.Answer.unpack(raw)
    assert (again.result, again.ttl) == (result, ttl)


def test_an_answer_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="an answer of version 2"):
        wire.Answer.unpack(bytes([2, 1]) + bytes(14))


@given(st.ip_addresses())
def test_an_address_is_read_as_it_was_written(address: object) -> None:
    one = ip_address(str(address))
    if isinstance(one, IPv6Address) and one.ipv4_mapped is not None:
        return  # the same field as the IPv4 address itself, which it stands for
    field = wire.pack_address(one.packed)
    assert len(field) == 16
    assert ip_address(wire.unpack_address(field)) == one


def test_ipv4_is_written_as_a_mapped_address() -> None:
    assert wire.pack_address(bytes([192, 0, 2, 7])) == IPv6Address("::ffff:192.0.2.7").packed


@pytest.mark.parametrize(
    ("now", "epoch"),
    [(0, 0), (119.999, 0), (120, 1), (NOW - 0.001, 14_999_999), (NOW, 15_000_000), (NOW + 119.999, 15_000_000)],
)
def test_an_epoch_is_two_minutes(now: float, epoch: int) -> None:
    assert wire.epoch_at(now) == epoch


@given(KEY, KEY, U64, st.binary(min_size=108, max_size=120))
def test_tags_and_macs_are_as_specified(server: bytes, ss: bytes, epoch: int, raw: bytes) -> None:
    key = wire.tag_key(ss)
    assert key == make.tag_key(ss)
    assert wire.door_tag(server, epoch) + wire.client_tag(key, epoch) == make.tags_at(server, key, epoch)
    assert raw[:108] + wire.mac(key, raw) == make.with_mac(key, raw)


def test_a_service_is_named_by_a_hash_of_16_bytes_that_is_not_a_cut_one() -> None:
    assert wire.service_id("ssh").hex() == "b9591bf8d42432ca52f5bd9dcc8334b2"
    assert wire.service_id("ssh") == hashlib.blake2s(b"ssh", digest_size=16).digest()
    assert wire.service_id("ssh") != hashlib.blake2s(b"ssh").digest()[:16]


def test_the_worked_vector_is_sealed_to_the_byte() -> None:
    said = wire.Payload(
        action=wire.OPEN,
        ttl=1800,
        sent_at=NOW * 10**9 + 42,
        address=wire.pack_address(bytes([192, 0, 2, 7])),
        service=wire.service_id("ssh"),
    )
    raw, _ = wire.Sealer(make.CLIENT, make.SERVER_PUBLIC).seal(said, make.EPHEMERAL, now=NOW)
    assert raw == make.VECTORS["open-worked"].datagram("open-worked")
    assert len(raw) == wire.SIZE


def test_a_sealer_takes_no_server_key_of_low_order() -> None:
    with pytest.raises(ValueError):
        wire.Sealer(make.CLIENT, bytes(32))


def test_the_epoch_is_that_of_the_clock_and_not_of_the_stamp() -> None:
    """A client whose clock was set back sends stamps ahead of it, behind tags of now."""
    sealer = wire.Sealer(make.CLIENT, make.SERVER_PUBLIC)
    raw, _ = sealer.seal(wire.Payload(action=wire.OPEN, sent_at=(NOW + 100) * 10**9), make.EPHEMERAL, now=NOW)
    assert raw[:4] == wire.door_tag(make.SERVER_PUBLIC, NOW // 120)


def test_an_answer_is_read_whatever_else_came_before() -> None:
    sealer = wire.Sealer(make.CLIENT, make.SERVER_PUBLIC)
    raw, handshake = sealer.seal(wire.Payload(action=wire.OPEN, sent_at=1), make.EPHEMERAL, now=NOW)
    peer = make.connected(make.SERVER, make.CLIENT_PUBLIC, raw[:12], starts=False)
    peer.read_message(raw[12:108])
    message = bytes(peer.write_message(wire.Answer(wire.OPEN, wire.FOREVER).pack()))
    for junk in (b"", message[:-1], message + b"\0", bytes(64), keys.public_of(make.EPHEMERAL) + bytes(32)):
        with pytest.raises(ValueError):
            sealer.open_answer(handshake, junk)
    answer = sealer.open_answer(handshake, message)
    assert (answer.result, answer.ttl) == (wire.OPEN, wire.FOREVER)


def test_two_knocks_of_one_sealer_have_nothing_of_each_other() -> None:
    """Each has an answer of its own."""
    sealer = wire.Sealer(make.CLIENT, make.SERVER_PUBLIC)
    said = wire.Payload(action=wire.OPEN, sent_at=1)
    one, first = sealer.seal(said, bytes([1]) * 32, now=NOW)
    two, second = sealer.seal(said, bytes([2]) * 32, now=NOW)
    assert one[12:] != two[12:]
    assert first._h != second._h
    for raw in (one, two):
        peer = make.connected(make.SERVER, make.CLIENT_PUBLIC, raw[:12], starts=False)
        assert bytes(peer.read_message(raw[12:108])) == said.pack()
    assert public_bytes(private_key(bytes([1]) * 32)) == one[12:44]
