"""Keys: written as WireGuard writes them, and refused where they are none, without being shown."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.sealed import keys

PRIME = 2**255 - 19
LOW_ORDER = {
    "zero": 0,
    "one": 1,
    "of order 8": int.from_bytes(
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"
    ),
    "the other of order 8": int.from_bytes(
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"
    ),
    "minus one": PRIME - 1,
}
"""All that there are in canonical form (https://cr.yp.to/ecdh.html, "validate public keys")."""
NOT_CANONICAL = {
    "the prime": PRIME,
    "the prime and one": PRIME + 1,
    "the highest": 2**255 - 1,
    "the base point, again": PRIME + 9,
    **{f"{name}, with the highest bit set": number + 2**255 for name, number in LOW_ORDER.items()},
    "twice the prime, less one": 2 * PRIME - 1,
    "twice the prime": 2 * PRIME,
    "twice the prime and one": 2 * PRIME + 1,
    "a good one, with the highest bit set": 2**255 + 9,
}


def written(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "little")).decode()


@pytest.mark.parametrize(
    ("private", "public"),
    [
        # the worked vector of docs/sealed-knock.md
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw="),
        ("ZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5/gIGCg4Q=", "VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY="),
        # RFC 7748, 6.1
        ("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="),
    ],
)
def test_a_private_key_has_its_public_one(private: str, public: str) -> None:
    assert keys.show(keys.public_of(keys.parse(private))) == public
    assert keys.parse_public(public) == keys.public_of(keys.parse(private))


def test_both_ends_share_the_same_secret() -> None:
    mine, other = keys.generate(), keys.generate()
    assert keys.exchange(mine, keys.public_of(other)) == keys.exchange(other, keys.public_of(mine))


@given(st.binary(min_size=32, max_size=32))
def test_what_is_written_can_be_read(key: bytes) -> None:
    text = keys.show(key)
    assert text == base64.b64encode(key).decode()
    assert keys.parse(text) == keys.parse(f" {text}\r\n") == key


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a key is 44 characters of base64, not 0"),
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA", "not 43"),
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA==", "not 45"),
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAh", "not the base64 of 32 bytes"),
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==", "not the base64 of 32 bytes"),
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyB=", "not the base64 of 32 bytes"),  # a bit beside the key
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e Hy=", "this is not base64"),
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHy-=", "this is not base64"),
        ("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyé=", "this is not base64"),
        ("=QIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", "this is not base64"),
        ("AQIDBAUGBwgJCgsMDQ4P=BESExQVFhcYGRobHB0eHyA=", "this is not base64"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str, words: str) -> None:
    """It may be a private key with a slip in it; also what led to the error is not told."""
    with pytest.raises(ValueError, match=words) as failure:
        keys.parse(text)
    assert "AQIDBAUG" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__ or failure.value.__context__ is None


@given(st.text(max_size=60))
def test_no_text_makes_reading_a_key_fail_otherwise(text: str) -> None:
    try:
        assert keys.show(keys.parse(text)) == text.strip()
    except ValueError as error:
        assert "a key is" in str(error) or "this is not" in str(error)


@pytest.mark.parametrize("name", LOW_ORDER)
def test_a_public_key_of_low_order_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="of low order"):
        keys.parse_public(written(LOW_ORDER[name]))
    with pytest.raises(ValueError):
        keys.exchange(bytes(range(32)), LOW_ORDER[name].to_bytes(32, "little"))


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_a_public_key_that_is_not_in_its_one_form_is_refused(name: str) -> None:
    """Or one client could stand twice in the rules; among them are the other forms of the points of low order."""
    with pytest.raises(ValueError, match="not the canonical form"):
        keys.parse_public(written(NOT_CANONICAL[name]))


def test_a_new_key_is_clamped_and_never_the_same() -> None:
    made = {keys.generate() for _ in range(50)}
    assert len(made) == 50
    for key in made:
        assert len(key) == 32
        assert key[0] & 7 == 0
        assert key[31] & 0xC0 == 0x40
        assert keys.parse_public(keys.show(keys.public_of(key)))
