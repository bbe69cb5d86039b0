"""What the data of an echo request may say: of every ping, with every pattern; and that it costs little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.echo import readings

STAMP = bytes(range(200, 216))


def iputils(pattern: bytes, size: int, *, stamp: int = 16) -> bytes:
    """Fill as iputils does (ping_common.c, fill): whole patterns from the start, then the timestamp over them."""
    data = bytearray(size)
    for begin in range(0, size - len(pattern) + 1, len(pattern)):
        data[begin : begin + len(pattern)] = pattern
    data[:stamp] = STAMP[:stamp]
    return bytes(data)


def bsd(pattern: bytes, size: int, *, stamp: int = 8) -> bytes:
    """Fill as BSD's ping does: whole patterns behind the timestamp."""
    return STAMP[:stamp] + iputils(pattern, size - stamp, stamp=0)


def test_data_that_is_the_key_is_read_as_it_is() -> None:
    assert next(readings(b"open_sesame")) == b"open_sesame"
    assert next(readings(b"")) == b""


@given(st.binary(min_size=1, max_size=16), st.integers(56, 200), st.sampled_from([0, 4, 8, 16]))
def test_a_pattern_is_found_whatever_ping_wrote_it(pattern: bytes, size: int, stamp: int) -> None:
    assert pattern in list(readings(iputils(pattern, size, stamp=stamp)))
    assert pattern in list(readings(bsd(pattern, size, stamp=stamp)))


def test_what_ping_sends_by_itself_repeats_nothing() -> None:
    """Linux counts upwards, Windows writes the alphabet; none costs more than a look."""
    for data in (STAMP + bytes(range(0x10, 0x38)), b"abcdefghijklmnopqrstuvwabcdefghi" * 4):
        assert len(list(readings(data))) == 1


@given(st.one_of(st.binary(max_size=300), st.sampled_from([bytes(1400), b"\xff" * 4000, b"ab" * 2000])))
def test_no_data_has_many_readings(data: bytes) -> None:
    """Each is looked up as a key; a flood of pings must not cost more than some microseconds a ping."""
    found = list(readings(data))
    assert len(found) <= 1 + 16 * 4
    assert len(set(found[1:])) == len(found) - 1
    assert all(len(one) <= 16 for one in found[1:])
