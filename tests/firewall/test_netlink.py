"""Netlink attributes are written and read back; and what the kernel sends does not make us raise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.firewall.netlink import attribute, attributes, nested


@given(st.dictionaries(st.integers(1, 30), st.binary(max_size=20)))
def test_attributes_are_read_as_they_were_written(values: dict[int, bytes]) -> None:
    written = b"".join(attribute(kind, value) for kind, value in values.items())
    assert len(written) % 4 == 0
    assert attributes(written) == values


def test_nested_and_network_order_are_flags_and_not_part_of_the_type() -> None:
    inner = attribute(3, b"\x01\x02", network_order=True)
    assert attributes(nested(7, inner))[7] == inner
    assert attributes(inner) == {3: b"\x01\x02"}


@given(st.binary(max_size=64))
def test_no_bytes_make_reading_raise(content: bytes) -> None:
    attributes(content)
