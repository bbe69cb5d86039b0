"""The ways besides UDP: which sockets are asked for, what goes out by them, and how a refusal is told."""

from __future__ import annotations

import errno
import socket

import pytest
from scapy.layers import inet, inet6
from scapy.packet import Raw

from gatekeeper.client import addresses, knocker
from gatekeeper.client.knocker import Knock, Maker, PlainMaker, Way
from gatekeeper.client.packets import ICMP, ICMPV6, TCP
from gatekeeper.client.ways import Icmp, Syn
from gatekeeper.errors import ClientError, UnreachableError
from tests.client.sockets import DGRAM, RAW, Recorder

FOUR = (socket.AF_INET, ("127.0.0.1", 0))
SIX = (socket.AF_INET6, ("::1", 0))
DENIED = PermissionError(errno.EACCES, "Permission denied")
NOT_PERMITTED = PermissionError(errno.EPERM, "Operation not permitted")
NO_PROTOCOL = OSError(errno.EPROTONOSUPPORT, "Protocol not supported")
NO_FAMILY = OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")


class Names(Maker):
    """Makes knocks that say between which addresses they were to go."""

    def __init__(self) -> None:
        self.warnings = {}

    def make(self, local: str, server: str, *, is_first_try: bool) -> Knock:
        return Knock(f"{local} {server} {is_first_try}".encode())


# -- what goes out


def test_an_echo_request_goes_to_every_address_with_the_knock_as_its_data(sockets: type[Recorder]) -> None:
    sent = knocker.send([SIX, FOUR], Icmp(), Names())
    assert (sent.addresses, sent.failures) == (["::1", "127.0.0.1"], [])
    (to_six, to_four) = sockets.sent
    assert to_six[:2] == ("::1", "::1")
    assert to_four[:2] == ("127.0.0.1", "127.0.0.1")
    six, four = inet6.ICMPv6EchoRequest(to_six[2]), inet.ICMP(to_four[2])
    assert (six.type, six.code, six.data) == (128, 0, b"::1 ::1 True")
    assert (four.type, four.code, bytes(four.payload)) == (8, 0, b"127.0.0.1 127.0.0.1 True")
    assert to_four[2] == bytes(inet.ICMP(id=four.id, seq=1) / Raw(bytes(four.payload)))


def test_a_syn_goes_to_the_port_of_every_address_with_the_knock_as_its_data(sockets: type[Recorder]) -> None:
    sent = knocker.send([SIX, FOUR], Syn(2222), Names(), is_first_try=False)
    assert (sent.addresses, sent.failures) == (["::1", "127.0.0.1"], [])
    for (local, server, raw), ip in zip(sockets.sent, (inet6.IPv6(), inet.IP()), strict=True):
        ip.src, ip.dst = local, server
        segment = inet.TCP(raw)
        assert (segment.dport, segment.flags) == (2222, "S")
        assert bytes(segment.payload) == f"{local} {server} False".encode()
        expected = inet.TCP(sport=segment.sport, dport=2222, seq=segment.seq, flags="S", window=segment.window)
        assert bytes(ip / expected / segment.payload)[-len(raw) :] == raw


def test_the_source_port_of_a_syn_is_held_while_it_is_sent_and_no_longer(sockets: type[Recorder]) -> None:
    knocker.send([SIX, FOUR], Syn(2222), PlainMaker(b"open"))
    assert {inet.TCP(raw).sport for _, _, raw in sockets.sent} == sockets.held
    assert [one for one in sockets.bound if one.fileno() != -1] == []


def test_every_knock_is_a_new_one(sockets: type[Recorder]) -> None:
    for way in (Icmp(), Syn(2222)):
        for _ in range(3):
            knocker.send([FOUR], way, PlainMaker(b"open"))
    assert len({raw for _, _, raw in sockets.sent}) == 6


# -- which sockets


def test_a_ping_socket_is_asked_for_first_and_a_raw_one_where_it_is_refused(sockets: type[Recorder]) -> None:
    knocker.send([SIX, FOUR], Icmp(), PlainMaker(b"open"))
    assert sockets.asked == [(socket.AF_INET6, DGRAM, ICMPV6), (socket.AF_INET, DGRAM, ICMP)]
    for refusal in (DENIED, NO_PROTOCOL):
        sockets.reset()
        sockets.refused[DGRAM] = refusal
        knocker.send([SIX, FOUR], Icmp(), PlainMaker(b"open"))
        six, four = (socket.AF_INET6, ICMPV6), (socket.AF_INET, ICMP)
        assert sockets.asked == [(f, kind, number) for f, number in (six, four) for kind in (DGRAM, RAW)]
        assert len(sockets.sent) == 2


def test_a_syn_takes_a_raw_socket(sockets: type[Recorder]) -> None:
    knocker.send([SIX, FOUR], Syn(22), PlainMaker(b"open"))
    assert sockets.asked == [(socket.AF_INET6, RAW, TCP), (socket.AF_INET, RAW, TCP)]


@pytest.mark.parametrize(
    ("way", "words", "hints"),
    [
        (Icmp(), "sending an echo request needs root here", ["sudo", "CAP_NET_RAW", "net.ipv4.ping_group_range"]),
        (Syn(22), "sending a SYN with a knock in it needs root here", ["sudo", "CAP_NET_RAW"]),
    ],
    ids=str,
)
def test_what_needs_root_says_so_at_once(sockets: type[Recorder], way: Way, words: str, hints: list[str]) -> None:
    sockets.refused = {DGRAM: DENIED, RAW: NOT_PERMITTED}
    with pytest.raises(ClientError) as failure:
        knocker.send([SIX, FOUR], way, PlainMaker(b"open"))
    assert failure.value.message == words
    assert failure.value.hint is not None
    assert all(hint in failure.value.hint for hint in hints)
    assert not isinstance(failure.value, UnreachableError)  # which would be tried again


@pytest.mark.parametrize("way", [Icmp(), Syn(22)], ids=str)
def test_a_system_without_such_sockets_is_told(sockets: type[Recorder], way: Way) -> None:
    sockets.refused = {DGRAM: NO_PROTOCOL, RAW: NO_PROTOCOL}
    with pytest.raises(ClientError, match=r"this system cannot send .*: Protocol not supported") as failure:
        knocker.send([FOUR], way, PlainMaker(b"open"))
    assert failure.value.hint == "knock by UDP: --via udp"
    sockets.refused = {DGRAM: OSError("odd"), RAW: OSError("odd")}  # some systems have no words for it
    with pytest.raises(ClientError, match=r"this system cannot send .*: odd"):
        knocker.send([FOUR], way, PlainMaker(b"open"))


@pytest.mark.parametrize("way", [Icmp(), Syn(22)], ids=str)
def test_a_system_without_ipv6_is_no_news_where_ipv4_is_there(
    sockets: type[Recorder], way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Four(Recorder):
        def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:  # noqa: A002
            if family == socket.AF_INET6:
                raise NO_FAMILY
            super().__init__(family, type, proto, fileno)

    monkeypatch.setattr(socket, "socket", Four)
    sent = knocker.send([SIX, FOUR], way, PlainMaker(b"open"))
    assert (sent.addresses, sent.failures) == (["127.0.0.1"], [])
    assert len(sockets.sent) == 1
    with pytest.raises(UnreachableError, match="could not be sent: ::1: Address family not supported"):
        knocker.send([SIX], way, PlainMaker(b"open"))


def test_one_family_that_is_refused_does_not_stop_the_other(
    sockets: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoSix(Recorder):
        def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:  # noqa: A002
            if family == socket.AF_INET6 and proto == ICMPV6:
                raise DENIED
            super().__init__(family, type, proto, fileno)

    monkeypatch.setattr(socket, "socket", NoSix)
    sent = knocker.send([SIX, FOUR], Icmp(), PlainMaker(b"open"))
    assert sent.addresses == ["127.0.0.1"]
    assert sent.failures == [("::1", "sending an echo request needs root here")]
    assert len(sockets.sent) == 1


def test_an_address_to_which_no_way_leads_is_told(sockets: type[Recorder]) -> None:
    broadcast = (socket.AF_INET, ("255.255.255.255", 0))  # not permitted
    for way in (Icmp(), Syn(22)):
        with pytest.raises(UnreachableError, match=r"could not be sent: 255\.255\.255\.255: Permission denied"):
            knocker.send([broadcast], way, PlainMaker(b"open"))
    assert sockets.sent == []


def test_no_socket_is_left_open(sockets: type[Recorder]) -> None:
    """A warning about one would fail this test; sockets of a knock that cannot be made are closed, too."""

    class Never(Names):
        def make(self, local: str, server: str, *, is_first_try: bool) -> Knock:
            raise ClientError(f"{local} {server} {is_first_try}")

    for way in (Icmp(), Syn(22)):
        with pytest.raises(ClientError, match=r"127\.0\.0\.1 127\.0\.0\.1 True"):
            knocker.send([FOUR], way, Never())
    assert [one for one in sockets.bound if one.fileno() != -1] == []


def test_ways_are_called_by_what_they_send() -> None:
    assert [str(way) for way in (knocker.Udp(62201), Icmp(), Syn(22))] == ["udp/62201", "icmp echo", "a SYN to tcp/22"]


def test_the_real_kernel_takes_the_sockets_of_a_loopback_knock_or_refuses_them_in_words() -> None:
    """As whoever runs this may: a knock on loopback is nobody's business."""
    for target in addresses.resolve("127.0.0.1"):
        for way in (Icmp(), Syn(9)):
            try:
                assert knocker.send([target], way, PlainMaker(b"open")).addresses == ["127.0.0.1"]
            except ClientError as error:
                assert "needs root here" in error.message
