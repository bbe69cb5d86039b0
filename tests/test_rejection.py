"""What closed ports answer, read and checksummed by Scapy, which had no part in making it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from gatekeeper.rejection import Rejection, rejection
from tests.packets import CLIENT, SERVER

VERSIONS = pytest.mark.parametrize("version", [4, 6])
SEQ, ACKNOWLEDGED = 0x1122_3344, 0x5566_7788


def packet(version: int, layer: Packet, **fields: Any) -> bytes:
    """Build what the client sends to the server, checksums and all, with other fields where named."""
    kind = IP if version == 4 else IPv6
    return bytes(kind(**{"src": CLIENT[version], "dst": SERVER[version], **fields}) / layer)


def tcp(flags: str, payload: bytes = b"", **fields: Any) -> Packet:
    segment = TCP(**{"sport": 40000, "dport": 22, "seq": SEQ, "ack": ACKNOWLEDGED, "flags": flags, **fields})
    return segment / Raw(payload) if payload else segment


def udp(payload: bytes = b"hello", **fields: Any) -> Packet:
    return UDP(**{"sport": 40000, "dport": 53, **fields}) / Raw(payload)


def answered(raw: bytes) -> tuple[Rejection, Any]:
    """Return the answer to a packet, and as Scapy reads it, behind an IP header with the same addresses."""
    answer = rejection(raw)
    assert answer is not None
    version = 4 if len(answer.source) == 4 else 6
    assert (answer.source, answer.destination) == (
        ip_address(SERVER[version]).packed,
        ip_address(CLIENT[version]).packed,
    )
    addresses = {"src": SERVER[version], "dst": CLIENT[version]}
    ip = IP(proto=answer.protocol, **addresses) if version == 4 else IPv6(nh=answer.protocol, **addresses)
    whole = bytes(ip / Raw(answer.message))
    return answer, (IP if version == 4 else IPv6)(whole)


def again(read: Any, layer: type[Packet], field: str) -> int:
    """Have Scapy make a checksum of an answer anew."""
    copy = read.copy()
    delattr(copy[layer], field)
    made: int = getattr(type(read)(bytes(copy))[layer], field)
    return made


# -- TCP


@VERSIONS
@pytest.mark.parametrize(
    ("flags", "payload", "seq", "ack", "answer"),
    [
        ("S", b"", 0, SEQ + 1, "RA"),
        ("SEC", b"", 0, SEQ + 1, "RA"),
        ("S", b"hello", 0, SEQ + 6, "RA"),
        ("SF", b"", 0, SEQ + 2, "RA"),
        ("F", b"", 0, SEQ + 1, "RA"),
        ("F", b"hell", 0, SEQ + 5, "RA"),
        ("", b"", 0, SEQ, "RA"),
        ("", b"x", 0, SEQ + 1, "RA"),
        ("FPU", b"", 0, SEQ + 1, "RA"),
        ("A", b"", ACKNOWLEDGED, 0, "R"),
        ("PA", b"hello", ACKNOWLEDGED, 0, "R"),
        ("SA", b"", ACKNOWLEDGED, 0, "R"),
        ("FA", b"", ACKNOWLEDGED, 0, "R"),
        ("FSPUAEC", b"hello", ACKNOWLEDGED, 0, "R"),
    ],
)
def test_a_segment_is_reset_as_by_a_closed_port(
    version: int, flags: str, payload: bytes, seq: int, ack: int, answer: str
) -> None:
    """RFC 9293, 3.10.7.1; the checksum is Scapy's own."""
    found, read = answered(packet(version, tcp(flags, payload)))
    segment = read[TCP]
    assert (found.protocol, len(found.message), found.traffic_class) == (6, 20, 0)
    assert (segment.sport, segment.dport, segment.seq, segment.ack) == (22, 40000, seq, ack)
    assert (str(segment.flags), segment.window, segment.urgptr, segment.dataofs) == (answer, 0, 0, 5)
    assert segment.chksum == again(read, TCP, "chksum")


@VERSIONS
def test_options_of_tcp_are_no_data(version: int) -> None:
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("WScale", 7)]
    assert answered(packet(version, tcp("S", b"abc", options=options)))[1][TCP].ack == SEQ + 4


@VERSIONS
def test_sequence_numbers_wrap(version: int) -> None:
    assert answered(packet(version, tcp("S", b"x", seq=0xFFFF_FFFF)))[1][TCP].ack == 1


@VERSIONS
@pytest.mark.parametrize("flags", ["R", "RA", "SR", "FSRPAU"])
def test_a_reset_is_never_answered(version: int, flags: str) -> None:
    """Or two machines would answer each other for ever."""
    assert rejection(packet(version, tcp(flags))) is None


@VERSIONS
@given(st.binary(max_size=64), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 511))
def test_every_reset_has_its_right_checksum(version: int, payload: bytes, seq: int, ack: int, flags: int) -> None:
    raw = packet(version, TCP(sport=1, dport=22, seq=seq, ack=ack, flags=flags) / Raw(payload))
    if flags & 0x04:
        assert rejection(raw) is None
        return
    read = answered(raw)[1]
    assert read[TCP].chksum == again(read, TCP, "chksum")


# -- UDP


@pytest.mark.parametrize("length", [0, 1, 2, 5, 300, 519, 520, 521, 1400])
def test_a_datagram_over_ipv4_is_unreachable(length: int) -> None:
    """RFC 792; Linux quotes as much as fits into 576 bytes (RFC 1812, 4.3.2.3)."""
    raw = packet(4, udp(bytes(length)), id=77, ttl=61)
    found, read = answered(raw)
    assert (found.protocol, found.traffic_class) == (1, 0xC0)
    assert (read[ICMP].type, read[ICMP].code, found.message[4:8]) == (3, 3, bytes(4))
    assert found.message[8:] == raw[:548]
    assert len(bytes(read)) == min(20 + 8 + len(raw), 576)
    assert checksum(found.message) == 0


@pytest.mark.parametrize("length", [0, 1, 2, 5, 300, 1183, 1184, 1185, 1400])
def test_a_datagram_over_ipv6_is_unreachable(length: int) -> None:
    """RFC 4443, 3.1: type 1, code 4, and as much as fits into 1280 bytes."""
    raw = packet(6, udp(bytes(length)), hlim=61, fl=0x12345)
    found, read = answered(raw)
    assert (found.protocol, found.traffic_class) == (58, 0)
    error = read[ICMPv6DestUnreach]
    assert (error.type, error.code, found.message[4:8]) == (1, 4, bytes(4))
    assert found.message[8:] == raw[:1232]
    assert len(bytes(read)) == min(40 + 8 + len(raw), 1280)
    assert error.cksum == again(read, ICMPv6DestUnreach, "cksum")


def test_the_ip_options_of_a_datagram_are_quoted() -> None:
    raw = packet(4, udp(), options=b"\x01\x01\x01\x00")
    assert answered(raw)[0].message[8:] == raw


@VERSIONS
def test_what_lies_behind_a_datagram_is_not_quoted(version: int) -> None:
    """Linux has cut it off by then."""
    raw = bytearray(packet(version, udp(b"x")) + b"tail")
    raw[3 if version == 4 else 5] += 4  # the length that IP says
    assert answered(bytes(raw))[0].message[8:] == raw[:-4]


def test_a_datagram_without_a_checksum_is_for_ipv4_alone() -> None:
    """RFC 768, and RFC 8200, 8.1."""
    assert rejection(packet(4, udp(chksum=0))) is not None
    assert rejection(packet(6, udp(chksum=0))) is None


# -- how the sender marked it


@pytest.mark.parametrize(("sent", "reset", "unreachable"), [(0, 0, 0xC0), (0x4B, 0x48, 0xCA), (0xFF, 0xFC, 0xDE)])
def test_the_type_of_service_is_as_linux_would_have_it(sent: int, reset: int, unreachable: int) -> None:
    assert answered(packet(4, tcp("S"), tos=sent))[0].traffic_class == reset
    assert answered(packet(4, udp(), tos=sent))[0].traffic_class == unreachable
    assert answered(packet(6, tcp("S"), tc=sent))[0].traffic_class == reset
    assert answered(packet(6, udp(), tc=sent))[0].traffic_class == 0


# -- extension headers


def extended(chain: list[tuple[int, bytes]], layer: Packet) -> bytes:
    """Put IPv6 extension headers before a transport's: each a number, and what follows the next one's number."""
    whole = packet(6, layer)
    protocol, body = whole[6], whole[40:]
    for number, rest in reversed(chain):
        protocol, body = number, bytes([protocol]) + rest + body
    return whole[:4] + len(body).to_bytes(2, "big") + bytes([protocol]) + whole[7:40] + body


HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
PAD4 = b"\x01\x04" + bytes(4)


def option(kind: int) -> bytes:
    """Write a header's length, and an option of two bytes with padding behind it."""
    return b"\x00" + bytes([kind, 2, 1, 2]) + b"\x01\x00"


@pytest.mark.parametrize(
    "chain",
    [
        [(DESTINATION, b"\x00" + PAD4)],
        [(DESTINATION, b"\x01" + PAD4 + b"\x3e\x06" + bytes(range(6)))],
        [(DESTINATION, b"\x00" + bytes(6))],  # six times a padding of one byte
        [(DESTINATION, b"\x00\x01\x03" + bytes(4))],  # the last of them one such
        [(DESTINATION, option(0x3E))],
        [(HOP_BY_HOP, b"\x00" + PAD4)],
        [(HOP_BY_HOP, b"\x00\x05\x02\x00\x00\x01\x00")],  # router alert
        [(ROUTING, b"\x00\x00\x00" + bytes(4))],
        [(ROUTING, b"\x02\x00\x00" + bytes(20))],
        [(ROUTING, b"\x02\x02\x00" + bytes(20))],
        [(FRAGMENT, bytes(7))],
        [(HOP_BY_HOP, b"\x00" + PAD4), (DESTINATION, b"\x00" + PAD4), (FRAGMENT, bytes(7)), (ROUTING, bytes(7))],
    ],
)
def test_extension_headers_are_passed(chain: list[tuple[int, bytes]]) -> None:
    assert answered(extended(chain, tcp("S", b"abc")))[1][TCP].ack == SEQ + 4
    raw = extended(chain, udp())
    assert answered(raw)[0].message[8:] == raw


@pytest.mark.parametrize(
    "chain",
    [
        [(DESTINATION, option(0x7E))],
        [(DESTINATION, option(0xBE))],
        [(DESTINATION, option(0xFE))],
        [(HOP_BY_HOP, option(0x7E))],
        [(DESTINATION, b"\x00\x01\x05" + bytes(4))],  # an option that is longer than its header
        [(DESTINATION, b"\x00" + bytes(5) + b"\x01")],  # one without its length
        [(DESTINATION, b"\x01" + PAD4 + b"\x01\x06" + bytes(6))],  # more padding than anything needs
        [(DESTINATION, b"\x00\x01\x04\x00\x00\x00\x01")],  # padding that says something
        [(ROUTING, b"\x02\x00\x01" + bytes(20))],  # segments left
        [(ROUTING, b"\x02\x04\x00" + bytes(20))],  # of a kind that must be allowed
        [(ROUTING, b"\x02\x03\x00" + bytes(20))],
        [(DESTINATION, b"\x00" + PAD4), (HOP_BY_HOP, b"\x00" + PAD4)],  # not where it must be
        [(51, b"\x01" + bytes(10))],  # authentication, mobility, HIP, shim6
        [(135, bytes(7))],
        [(139, bytes(7))],
        [(140, bytes(7))],
    ],
)
def test_where_linux_would_not_get_past_an_extension_header_nobody_answers(chain: list[tuple[int, bytes]]) -> None:
    """Seen on 6.18: it drops the packet, or answers with a parameter problem, whether or not the port is open."""
    for layer in (tcp("S"), udp()):
        assert rejection(extended(chain, layer)) is None


# -- silence


@VERSIONS
@pytest.mark.parametrize("layer", [tcp("S"), tcp("A", b"abc"), udp(), udp(b"x")])
def test_a_wrong_checksum_is_not_answered(version: int, layer: Packet) -> None:
    """The kernel looks at it before it looks for a socket; an answer would tell that nobody did."""
    raw = packet(version, layer)
    assert rejection(raw) is not None
    start = 20 if version == 4 else 40
    for at in range(start, len(raw)):
        if isinstance(layer, UDP) and at in {start + 4, start + 5}:
            continue  # its length, which is triage's business
        for bit in (0x01, 0x80):
            assert rejection(raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]) is None


NOBODY = {
    4: ("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "239.255.255.255", "255.255.255.255"),
    6: ("::", "::1", "ff02::1", "ff0e::1234", "::ffff:198.51.100.2", "::198.51.100.2"),
}


@pytest.mark.parametrize(("version", "address"), [(version, one) for version in NOBODY for one in NOBODY[version]])
def test_addresses_that_are_not_one_host_out_there_are_not_answered(version: int, address: str) -> None:
    for layer in (tcp("S"), udp()):
        assert rejection(packet(version, layer.copy(), src=address)) is None
        assert rejection(packet(version, layer.copy(), dst=address)) is None


@pytest.mark.parametrize("address", ["1.2.3.4", "126.255.255.255", "128.0.0.1", "223.255.255.255", "240.0.0.1"])
def test_addresses_beside_those_are_answered(address: str) -> None:
    assert rejection(packet(4, tcp("S"), src=address)) is not None


def test_fragments_are_not_answered() -> None:
    assert rejection(packet(4, tcp("S"), flags="MF")) is None
    assert rejection(packet(4, tcp("S"), frag=1)) is None
    assert rejection(packet(6, IPv6ExtHdrFragment(m=1) / tcp("S"))) is None
    assert rejection(packet(6, IPv6ExtHdrFragment(offset=1) / tcp("S"))) is None


def test_other_protocols_are_not_answered() -> None:
    """Above all no ICMP: an error about an error would go on for ever (RFC 1122, 3.2.2)."""
    for layer in (ICMP(), ICMP(type=3, code=3) / IP(), Raw(b"x" * 40), IP() / tcp("S")):
        assert rejection(packet(4, layer)) is None
    for layer in (ICMPv6EchoRequest(), ICMPv6DestUnreach() / IPv6(), IPv6() / tcp("S")):
        assert rejection(packet(6, layer)) is None
    for number in range(256):
        for version, name in ((4, "proto"), (6, "nh")):
            if number not in {6, 17}:
                assert rejection(packet(version, Raw(bytes(64)), **{name: number})) is None


@VERSIONS
def test_what_is_cut_or_malformed_is_not_answered(version: int) -> None:
    for layer in (tcp("S", b"hello"), udp()):
        raw = packet(version, layer)
        assert rejection(raw) is not None
        for size in range(len(raw)):
            assert rejection(raw[:size]) is None
    for offset in (0, 4, 6, 15):  # shorter than a header, longer than the segment
        assert rejection(packet(version, tcp("S", dataofs=offset))) is None


@VERSIONS
@pytest.mark.parametrize("layer", [tcp("S", b"hello"), udp()])
def test_a_tail_behind_the_packet_is_not_part_of_it(version: int, layer: Packet) -> None:
    """Short frames are padded on their way."""
    raw = packet(version, layer)
    assert rejection(raw + bytes(13)) == rejection(raw)


# -- whatever the bytes


def mutated() -> st.SearchStrategy[bytes]:
    """Make packets that are almost right: with some bytes changed, cut, and with something behind."""
    chain = [(HOP_BY_HOP, b"\x00" + PAD4), (DESTINATION, option(0x3E)), (ROUTING, bytes(7))]
    good = [packet(version, layer) for version in (4, 6) for layer in (tcp("S", b"abc"), tcp("A"), udp(bytes(1300)))]
    good += [extended(chain, tcp("S")), extended(chain, udp())]
    changes = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=4)

    def change(raw: bytes, places: list[tuple[int, int]], cut: int, tail: bytes) -> bytes:
        made = bytearray(raw)
        for at, value in places:
            made[at % len(made)] = value
        return bytes(made[: len(made) - cut]) + tail

    return st.builds(change, st.sampled_from(good), changes, st.integers(0, 50), st.binary(max_size=9))


@given(st.one_of(st.binary(max_size=200), mutated()))
def test_no_bytes_make_it_raise_and_no_answer_is_too_long(raw: bytes) -> None:
    found = rejection(raw)
    if found is None:
        return
    assert (len(found.source), found.protocol) in {(4, 6), (4, 1), (16, 6), (16, 58)}
    assert len(found.source) == len(found.destination)
    assert 0 <= found.traffic_class <= 255
    if found.protocol == 6:
        assert len(found.message) == 20
    else:
        assert found.message[8:] == raw[: len(found.message) - 8]
        assert len(found.message) <= (556 if len(found.source) == 4 else 1240)
