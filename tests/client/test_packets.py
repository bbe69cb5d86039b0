"""What carries a knock besides UDP, byte for byte as Scapy builds it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import inet, inet6
from scapy.packet import Raw

from gatekeeper.client import packets

FOUR = ("198.51.100.2", "192.0.2.1")
SIX = ("2001:db8:c::2", "2001:db8::1")
FAMILIES = [FOUR, SIX]
_NUMBER = st.integers(0, 0xFFFF)
_DATA = st.binary(max_size=300)
"""Of odd lengths, too."""


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def below(ends: tuple[str, str]) -> tuple[Any, int]:
    """Return Scapy's IP header for two addresses, and its length."""
    source, target = ends
    return (inet6.IPv6(src=source, dst=target), 40) if ":" in source else (inet.IP(src=source, dst=target), 20)


def syn(ends: tuple[str, str], source: int, port: int, sequence: int, knock: bytes) -> bytes:
    return packets.syn((packed(ends[0]), source), (packed(ends[1]), port), sequence, knock)


def syn_by_scapy(ends: tuple[str, str], source: int, port: int, sequence: int, knock: bytes) -> bytes:
    ip, length = below(ends)
    tcp = inet.TCP(sport=source, dport=port, seq=sequence, flags="S", window=64240)
    return bytes(ip / tcp / Raw(knock))[length:]


def echo_by_scapy(identifier: int, knock: bytes) -> bytes:
    return bytes(inet.ICMP(id=identifier, seq=1) / Raw(knock))


@given(identifier=_NUMBER, knock=_DATA)
def test_an_echo_request_is_built_as_scapy_builds_it(identifier: int, knock: bytes) -> None:
    assert packets.echo(identifier, knock) == echo_by_scapy(identifier, knock)
    assert inet.ICMP(packets.echo(identifier, knock)).type == 8


@given(identifier=_NUMBER, knock=_DATA)
def test_an_icmpv6_echo_request_is_as_scapy_builds_it_but_without_its_checksum(identifier: int, knock: bytes) -> None:
    expected = inet6.ICMPv6EchoRequest(id=identifier, seq=1, data=knock, cksum=0)
    assert packets.echo6(identifier, knock) == bytes(expected)


@pytest.mark.parametrize("ends", FAMILIES)
@given(source=_NUMBER, port=_NUMBER, sequence=st.integers(0, 0xFFFF_FFFF), knock=_DATA)
def test_a_syn_is_built_as_scapy_builds_it(
    ends: tuple[str, str], source: int, port: int, sequence: int, knock: bytes
) -> None:
    assert syn(ends, source, port, sequence, knock) == syn_by_scapy(ends, source, port, sequence, knock)


@pytest.mark.parametrize("ends", FAMILIES)
@pytest.mark.parametrize("knock", [b"", b"x", b"\xff" * 116, b"\xff" * 1399])
def test_what_a_server_reads_in_a_syn_is_the_knock(ends: tuple[str, str], knock: bytes) -> None:
    segment = inet.TCP(syn(ends, 40001, 22, 0xFFFF_FFFF, knock))
    assert (segment.flags, segment.dataofs, segment.options, segment.urgptr, segment.ack) == ("S", 5, [], 0, 0)
    assert bytes(segment.payload) == knock


@pytest.mark.parametrize("ends", FAMILIES)
def test_a_checksum_that_is_zero_is_written_as_zero(ends: tuple[str, str]) -> None:
    """Data that is the checksum of all the rest makes it so. Ones' complement has two zeros; Scapy writes this one."""
    rest = packets.echo(7, bytes(2))[2:4]
    assert packets.echo(7, rest)[2:4] == bytes(2)
    assert packets.echo(7, rest) == echo_by_scapy(7, rest)
    rest = syn(ends, 40001, 22, 1, bytes(2))[16:18]
    assert syn(ends, 40001, 22, 1, rest)[16:18] == bytes(2)
    assert syn(ends, 40001, 22, 1, rest) == syn_by_scapy(ends, 40001, 22, 1, rest)
