"""Many networks at once, as each by itself."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.networks import Address, Networks, Source, covers, lies_in

V4 = st.builds(
    lambda number, length: IPv4Network((number, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
)
V6 = st.builds(
    lambda number, length: IPv6Network((number, length), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)
)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.lists(st.one_of(V4, V6), max_size=8), ADDRESSES)
def test_any_address_is_found_where_it_lies(networks: list[Source], address: Address) -> None:
    known = Networks(networks)
    assert known.has(address.packed) == covers(networks, address)
    assert bool(known) == bool(networks)
    for network in networks:
        assert known.has(network.network_address.packed)
        assert known.has(network.broadcast_address.packed)


@given(st.lists(st.one_of(V4, V6), max_size=8), st.one_of(V4, V6))
def test_any_network_is_held_that_lies_in_one_of_them(networks: list[Source], network: Source) -> None:
    known = Networks(networks)
    assert known.holds(network) == any(lies_in(network, one) for one in networks)
    assert all(map(known.holds, networks))
