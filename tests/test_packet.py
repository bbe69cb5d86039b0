"""Triage reads what netfilter and Scapy read, and never raises."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)

from gatekeeper.model import Reason
from gatekeeper.packet import Header, dissect, triage, warm_up
from tests.packets import ACK, CLIENT, FIN, RST, SERVER, SYN, ip, tcp, udp

VERSIONS = pytest.mark.parametrize("version", [4, 6])


def read(raw: bytes) -> Header:
    header = triage(raw)
    assert isinstance(header, Header), header
    return header


@VERSIONS
def test_udp_is_read_with_its_payload(version: int) -> None:
    raw = udp(b"open_sesame", version=version)
    header = read(raw)
    assert header.source == ip_address(CLIENT[version]).packed
    assert header.destination == ip_address(SERVER[version]).packed
    assert (header.protocol, header.source_port, header.destination_port) == (17, 40000, 62201)
    assert raw[header.start : header.end] == b"open_sesame"
    assert header.opens_flow


@VERSIONS
@pytest.mark.parametrize(
    ("flags", "opens"), [(SYN, True), (SYN | ACK, False), (ACK, False), (RST, False), (SYN | RST, False), (FIN, False)]
)
def test_only_a_syn_alone_opens_a_tcp_flow(version: int, flags: int, opens: bool) -> None:
    assert read(tcp(flags, version=version)).opens_flow is opens


@VERSIONS
def test_every_truncation_is_read_or_refused(version: int) -> None:
    """No cut of a packet raises; a UDP packet that is cut is malformed, as the kernel would say."""
    for raw in (udp(b"open_sesame", version=version), tcp(SYN, version=version)):
        for size in range(len(raw)):
            assert triage(raw[:size]) is Reason.MALFORMED


def test_bytes_behind_the_datagram_are_not_its_payload() -> None:
    raw = udp(b"open_sesame") + b"padding"
    assert raw[read(raw).start : read(raw).end] == b"open_sesame"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\x00" * 60, Reason.MALFORMED),
        (b"\x50" + b"\x00" * 60, Reason.MALFORMED),
        (b"\x44" + udp(b"x")[1:], Reason.MALFORMED),
        (ip(4, 17, struct.pack("!HHHH", 1, 62201, 7, 0)), Reason.MALFORMED),
        (ip(4, 17, struct.pack("!HHHH", 1, 62201, 9, 0)), Reason.MALFORMED),
        (ip(4, 6, struct.pack("!HHIIBBHHH", 1, 22, 1, 0, 0x40, SYN, 0, 0, 0)), Reason.MALFORMED),
        (ip(4, 1, b"\x00\x00" + b"\x00" * 30), Reason.NOT_GUARDED),
        (ip(4, 1, b"\x08\x01" + b"\x00" * 30), Reason.NOT_GUARDED),
        (ip(4, 1, b"\x08\x00" + b"\x00" * 5), Reason.NOT_GUARDED),
        (ip(4, 58, b"\x80\x00" + b"\x00" * 30), Reason.NOT_GUARDED),
        (ip(6, 58, b"\x81\x00" + b"\x00" * 30), Reason.NOT_GUARDED),
        (ip(6, 58, b"\x87\x00" + b"\x00" * 30), Reason.NOT_GUARDED),
        (ip(6, 1, b"\x08\x00" + b"\x00" * 30), Reason.NOT_GUARDED),
        (ip(6, 59, b""), Reason.MALFORMED),
        (udp(b"x" * 30)[:6] + b"\x20\x00" + udp(b"x" * 30)[8:], Reason.FRAGMENT),
        (udp(b"x" * 30)[:6] + b"\x00\x05" + udp(b"x" * 30)[8:], Reason.FRAGMENT),
    ],
)
def test_what_cannot_be_a_packet_for_us_is_told_why(raw: bytes, reason: Reason) -> None:
    assert triage(raw) is reason


@pytest.mark.parametrize(
    "extensions",
    [
        IPv6ExtHdrHopByHop(options=[PadN(optdata=b"0" * 20)]),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=b"0" * 60)]),
        IPv6ExtHdrRouting(addresses=["2001:db8::9"], segleft=0),
        IPv6ExtHdrFragment(offset=0, m=0, id=7),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt(),
    ],
)
def test_ipv6_extension_headers_are_walked(extensions: object) -> None:
    raw = bytes(IPv6(src=CLIENT[6], dst=SERVER[6]) / extensions / UDP(sport=9, dport=62201) / b"open_sesame")
    header = read(raw)
    assert (header.destination_port, raw[header.start : header.end]) == (62201, b"open_sesame")


def test_an_ipv6_fragment_is_refused() -> None:
    for offset, more in ((0, 1), (8, 0)):
        raw = bytes(IPv6() / IPv6ExtHdrFragment(offset=offset, m=more, nh=17) / (b"x" * 40))
        assert triage(raw) is Reason.FRAGMENT


@VERSIONS
def test_dissection_agrees_with_triage_and_checks_the_checksum(version: int) -> None:
    for good in (True, False):
        raw = udp(b"open_sesame", version=version, good=good)
        datagram = dissect(raw, read(raw))
        assert datagram is not None
        assert (str(datagram.source), datagram.payload) == (CLIENT[version], b"open_sesame")
        assert datagram.checksum_ok is good


def test_a_checksum_of_zero_means_none_over_ipv4_and_is_wrong_over_ipv6() -> None:
    for version, fine in ((4, True), (6, False)):
        raw = bytearray(udp(b"open_sesame", version=version))
        start = 20 if version == 4 else 40
        raw[start + 6 : start + 8] = b"\0\0"
        datagram = dissect(bytes(raw), read(bytes(raw)))
        assert datagram is not None
        assert datagram.checksum_ok is fine


def test_a_payload_is_not_dissected_by_its_port() -> None:
    """A knock from port 53 is a knock, not a broken DNS message."""
    raw = bytes(IP(src="192.0.2.9", dst="192.0.2.1") / UDP(sport=53, dport=62201) / (b"\xc0\x0c" * 30))
    datagram = dissect(raw, read(raw))
    assert datagram is not None
    assert datagram.payload == b"\xc0\x0c" * 30


def test_warming_up_dissects_both_versions() -> None:
    warm_up()


@given(st.binary(max_size=200))
def test_no_bytes_make_triage_raise(raw: bytes) -> None:
    header = triage(raw)
    if isinstance(header, Header):
        assert 0 <= header.start <= header.end <= len(raw)


@given(st.binary(max_size=120), st.sampled_from([4, 6]), st.sampled_from([0, 6, 17, 43, 44, 51, 60, 135]))
def test_no_bytes_behind_a_valid_header_make_triage_or_dissect_raise(body: bytes, version: int, protocol: int) -> None:
    raw = ip(version, protocol, body)
    header = triage(raw)
    if isinstance(header, Header):
        assert header.end <= len(raw)
        if header.protocol == 17:
            dissect(raw, header)


_addresses = {4: st.ip_addresses(v=4).map(str), 6: st.ip_addresses(v=6).map(str)}
_ports = st.integers(0, 65535)


@given(st.data(), st.sampled_from([4, 6]), _ports, _ports, st.binary(max_size=60), st.integers(0, 255))
def test_triage_agrees_with_scapy(
    data: st.DataObject, version: int, sport: int, dport: int, payload: bytes, flags: int
) -> None:
    """Whatever Scapy builds, triage reads as Scapy does."""
    source, target = data.draw(_addresses[version]), data.draw(_addresses[version])
    layer = IP(src=source, dst=target) if version == 4 else IPv6(src=source, dst=target)
    is_udp = data.draw(st.booleans())
    top = UDP(sport=sport, dport=dport) if is_udp else TCP(sport=sport, dport=dport, flags=flags)
    raw = bytes(layer / top / payload)
    again = (IP if version == 4 else IPv6)(raw)
    header = read(raw)
    assert header.source == ip_address(again.src).packed
    assert header.destination == ip_address(again.dst).packed
    transport = again[UDP if is_udp else TCP]
    assert (header.source_port, header.destination_port) == (transport.sport, transport.dport)
    assert raw[header.start : header.end] == payload
    if not is_udp:
        wanted = bool(transport.flags.S) and not transport.flags.A and not transport.flags.R
        assert header.opens_flow is wanted
