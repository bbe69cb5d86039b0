"""The filter that the kernel has for knocks without a tag: what it lets through, tried by an interpreter of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.firewall import shapes
from gatekeeper.fwknop import envelope
from gatekeeper.settings import Client, Rules, Shape
from tests.firewall.test_tags import passes
from tests.fwknop.written import KEYS
from tests.packets import udp

OLD = Rules({}, {"old": Client(name="old", services=(), fwknop=KEYS)})
(FWKNOP,) = OLD.untagged
VECTORS = Path(__file__).parents[1] / "vectors" / "fwknop"
KNOCKS = [
    one["packet"].encode() for name in ("vectors", "more") for one in json.loads((VECTORS / f"{name}.json").read_text())
]


def is_let_through(payload: bytes, version: int, shape: Shape = FWKNOP) -> bool:
    return passes(shapes.program(shape, version), udp(payload, version=version))


@pytest.mark.parametrize("version", [4, 6])
def test_what_fwknops_client_wrote_is_let_through(version: int) -> None:
    assert all(is_let_through(knock, version) for knock in KNOCKS)


@pytest.mark.parametrize("version", [4, 6])
def test_what_begins_otherwise_or_is_no_text_is_not(version: int) -> None:
    knock = KNOCKS[0]
    for first in range(256):
        assert is_let_through(bytes([first]) + knock[1:], version) is (first in b"89+/")
    for place in range(1, 120):
        changed = knock[:place] + bytes([knock[place] | 0x80]) + knock[place + 1 :]
        assert is_let_through(changed, version) is (place >= 100)
    for junk in (b"", b"8", knock[:99], os.urandom(204), b"8" + os.urandom(203)):
        assert not is_let_through(junk, version)


@given(st.binary(max_size=300), st.sampled_from([4, 6]))
def test_whatever_a_format_may_read_is_let_through(payload: bytes, version: int) -> None:
    for one in (payload, KNOCKS[0][:100] + payload):
        assert is_let_through(one, version) or not envelope.has_shape(one)


def test_ip_options_move_the_payload() -> None:
    packet = udp(KNOCKS[0])
    longer = bytes([0x4F]) + packet[1:20] + bytes(40) + packet[20:]
    assert passes(shapes.program(FWKNOP, 4), longer)
    assert not passes(shapes.program(FWKNOP, 4), longer[:60] + bytes(8) + longer[60:])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("shape", [Shape(1, 9, begins_with=b"a"), Shape(1, 9, ascii=4), Shape(1, 9, b"ab", 8)])
def test_a_filter_asks_for_what_is_known_and_no_more(shape: Shape, version: int) -> None:
    assert is_let_through(b"abcdefgh", version, shape)
    assert is_let_through(b"xbcdefgh", version, shape) is not bool(shape.begins_with)
    assert is_let_through(b"abc\xffefgh", version, shape) is not bool(shape.ascii)


def test_the_shape_in_the_rules_is_that_of_the_format() -> None:
    assert (FWKNOP.shortest, FWKNOP.longest, FWKNOP.begins_with) == (
        envelope.SHORTEST,
        envelope.LONGEST,
        envelope.FIRST,
    )
    assert FWKNOP.ascii <= FWKNOP.shortest


def test_plain_keys_are_known_by_their_length_alone() -> None:
    (plain,) = Rules({}, {"desk": Client(name="desk", services=(), open_key=b"open_sesame")}).untagged
    assert shapes.matches(plain, 4) == "-m length --length 39:82"
    assert not shapes.filters(plain)
