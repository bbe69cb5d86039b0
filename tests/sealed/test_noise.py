"""Noise_KK against an independent implementation of it, in every role."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.sealed import keys
from gatekeeper.sealed.noise import OVERHEAD, Handshake, LowOrderError
from gatekeeper.sealed.primitives import private_key
from tests.vectors.sealed import make

ALICE, BOB = bytes(range(32)), bytes(range(100, 132))
E, F = bytes(range(50, 82)), bytes(range(150, 182))
TAGS = bytes(range(12))
PROLOGUE = b"gatekeeper sealed knock 1" + TAGS
KEY = st.binary(min_size=32, max_size=32)


def handshake(prologue: bytes = PROLOGUE, alice: bytes = ALICE, bob: bytes = BOB) -> Handshake:
    ss = keys.exchange(alice, keys.public_of(bob))
    return Handshake(prologue, initiator=keys.public_of(alice), responder=keys.public_of(bob), ss=ss)


@settings(deadline=None, max_examples=60)
@given(KEY, KEY, KEY, KEY, st.binary(max_size=300), st.binary(max_size=300))
def test_we_write_what_an_independent_noise_writes(
    alice: bytes, bob: bytes, e: bytes, f: bytes, first: bytes, second: bytes
) -> None:
    theirs = make.connected(alice, keys.public_of(bob), TAGS, ephemeral=e)
    other = make.connected(bob, keys.public_of(alice), TAGS, ephemeral=f, starts=False)
    ours, answering = handshake(alice=alice, bob=bob), handshake(alice=alice, bob=bob)
    message = ours.write_first(first, e)
    assert message == bytes(theirs.write_message(first))
    assert len(message) == len(first) + OVERHEAD
    assert bytes(other.read_message(message)) == answering.read_first(message, private_key(bob)) == first
    answer = answering.write_second(second, f)
    assert answer == bytes(other.write_message(second))
    assert bytes(theirs.read_message(answer)) == ours.read_second(answer, private_key(alice)) == second
    assert theirs.get_handshake_hash() == other.get_handshake_hash() == ours._h == answering._h


@given(st.integers(0, (48 + OVERHEAD) * 8 - 1))
def test_no_flipped_bit_of_the_first_message_is_read(bit: int) -> None:
    message = handshake().write_first(bytes(48), E)
    changed = (int.from_bytes(message) ^ 1 << bit).to_bytes(len(message))
    with pytest.raises(ValueError):
        handshake().read_first(changed, private_key(BOB))


def test_the_seal_binds_prologue_and_both_keys() -> None:
    message = handshake().write_first(b"open", E)
    stranger = bytes(range(7, 39))
    assert handshake().read_first(message, private_key(BOB)) == b"open"
    for other in (handshake(PROLOGUE[:-1]), handshake(alice=stranger), handshake(bob=stranger)):
        with pytest.raises(ValueError, match="the seal is not right"):
            other.read_first(message, private_key(BOB))
    with pytest.raises(ValueError, match="the seal is not right"):
        handshake().read_first(message, private_key(stranger))


@pytest.mark.parametrize("name", make.LOW_ORDER)
def test_an_ephemeral_key_of_low_order_is_an_error_of_its_own(name: str) -> None:
    message = make.LOW_ORDER[name] + bytes(64)
    with pytest.raises(LowOrderError):
        handshake().read_first(message, private_key(BOB))
    ours = handshake()
    ours.write_first(b"", E)
    with pytest.raises(LowOrderError):
        ours.read_second(message, private_key(ALICE))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 47])
def test_a_message_that_is_too_short_is_a_value_error(length: int) -> None:
    with pytest.raises(ValueError):
        handshake().read_first(bytes([9]) * length, private_key(BOB))


def test_an_answer_to_another_knock_is_not_ours() -> None:
    one, two = handshake(), handshake()
    one.write_first(b"open", E)
    answering = handshake()
    answering.read_first(two.write_first(b"open", F), private_key(BOB))
    answer = answering.write_second(b"opened", bytes(range(3, 35)))
    with pytest.raises(ValueError, match="the seal is not right"):
        one.read_second(answer, private_key(ALICE))
    assert two.read_second(answer, private_key(ALICE)) == b"opened"


def test_junk_that_arrives_before_the_answer_does_not_spoil_it() -> None:
    """Anybody can send something to the client's port, and sooner than the server."""
    ours, answering = handshake(), handshake()
    answering.read_first(ours.write_first(b"open", E), private_key(BOB))
    answer = answering.write_second(b"opened", F)
    for junk in (keys.public_of(E) + bytes(32), bytes(64), answer[:-1] + b"\0", b""):
        with pytest.raises(ValueError):
            ours.read_second(junk, private_key(ALICE))
    assert ours.read_second(answer, private_key(ALICE)) == b"opened"
