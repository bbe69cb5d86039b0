"""Sending refusals: what goes to the kernel, the budget, and that nothing ever comes back to the packet loop."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from gatekeeper import refusals
from gatekeeper.errors import FirewallError
from gatekeeper.refusals import (
    RESETS_PER_SECOND,
    RESETS_PER_TARGET,
    UNREACHABLES_BURST,
    UNREACHABLES_PER_SECOND,
    Budget,
    Refusals,
)
from gatekeeper.rejection import rejection
from tests.packets import CLIENT, SERVER

MARK = 0x2000_0000


class Fake:
    """A socket that notes what is done to it, or raises ``failure``."""

    made: list[Fake]
    refuses: dict[Any, int]
    """What is refused, with which error: ("open", family), ("option", number), "bind" or "send"."""

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        if error := self.refuses.get(("open", family)):
            raise OSError(error, "no")
        self.family, self.kind, self.protocol = family, kind, protocol
        self.options: dict[tuple[int, int], Any] = {}
        self.sent: list[Any] = []
        self.timeout: float | None = None
        self.bound: Any = None
        self.queued = [b"what came before the filter"] * 3
        self.is_closed = False
        self.made.append(self)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if error := self.refuses.get(("option", option)):
            raise OSError(error, "no")
        self.options[level, option] = value

    def settimeout(self, value: float) -> None:
        self.timeout = value

    def bind(self, address: Any) -> None:
        if error := self.refuses.get("bind"):
            raise OSError(error, "no")
        self.bound = address

    def recv(self, _: int) -> bytes:
        if not self.queued:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        return self.queued.pop()

    def sendmsg(self, buffers: list[bytes], ancillary: list[Any], flags: int, peer: Any) -> None:
        if error := self.refuses.get("send"):
            raise OSError(error, "no")
        self.sent.append((b"".join(buffers), ancillary, flags, peer))

    def close(self) -> None:
        self.is_closed = True


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    class Its(Fake):
        made: list[Fake] = []  # noqa: RUF012  (new for each test)
        refuses: dict[Any, int] = {}  # noqa: RUF012

    monkeypatch.setattr(socket, "socket", Its)
    return Its


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(refusals, "time", one)
    return one


@pytest.fixture
def ours(fake: type[Fake], clock: Clock) -> Iterator[Refusals]:
    assert fake
    assert clock
    one = Refusals(mark=MARK)
    yield one
    one.close()


def syn(version: int = 4, source: str | None = None, **fields: Any) -> bytes:
    kind = IP if version == 4 else IPv6
    return bytes(kind(src=source or CLIENT[version], dst=SERVER[version], **fields) / TCP(sport=9, dport=22, flags="S"))


def datagram(version: int = 4, source: str | None = None) -> bytes:
    kind = IP if version == 4 else IPv6
    return bytes(kind(src=source or CLIENT[version], dst=SERVER[version]) / UDP(sport=9, dport=53) / Raw(b"x"))


def sources(count: int) -> list[str]:
    return [str(ip_address("198.18.0.1") + number) for number in range(count)]


# -- the sockets


def test_there_is_a_deaf_socket_for_each_protocol_and_version(fake: type[Fake], ours: Refusals) -> None:
    kinds = {(one.family, one.protocol): one for one in fake.made}
    assert set(kinds) == {(socket.AF_INET, 6), (socket.AF_INET, 1), (socket.AF_INET6, 6), (socket.AF_INET6, 58)}
    for one in fake.made:
        assert one.kind == socket.SOCK_RAW
        assert one.timeout == 0
        assert one.options[socket.SOL_SOCKET, socket.SO_MARK] == struct.pack("=I", MARK)
        assert one.options[socket.SOL_SOCKET, socket.SO_RCVBUF] == 1
        assert struct.unpack("@HP", one.options[socket.SOL_SOCKET, 26])[0] == 1  # a filter of one instruction
        assert one.queued == []
        assert ip_address(one.bound[0]).is_loopback
    assert kinds[socket.AF_INET6, 58].options[58, 1] == b"\xff" * 32
    ours.close()
    assert all(one.is_closed for one in fake.made)


def test_resets_may_not_be_fragmented_and_errors_may(fake: type[Fake], ours: Refusals) -> None:
    """As Linux has it: nmap looks."""
    assert ours
    found = {one.protocol: one.options.get((socket.IPPROTO_IP, 10)) for one in fake.made if one.family == 2}
    assert found == {6: 2, 1: 0}


@pytest.mark.parametrize("refused", [("open", socket.AF_INET), ("option", socket.SO_MARK), ("option", 26)])
def test_whoever_may_not_is_told_what_it_takes(fake: type[Fake], refused: object) -> None:
    fake.refuses[refused] = errno.EPERM
    with pytest.raises(FirewallError) as failure:
        Refusals(mark=MARK)
    assert failure.value.message == "cannot open a raw socket to refuse packets with: no"
    assert failure.value.hint == "run it as root (CAP_NET_RAW and CAP_NET_ADMIN), or take out refuse: reset"
    assert failure.value.errno == errno.EPERM
    assert all(one.is_closed for one in fake.made)


def test_permission_denied_is_an_error_that_users_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(FirewallError, match="refuse packets with: Operation not permitted"):
        Refusals(mark=MARK)


def test_a_machine_without_ipv6_refuses_over_ipv4(fake: type[Fake], clock: Clock) -> None:
    assert clock
    fake.refuses["open", socket.AF_INET6] = errno.EAFNOSUPPORT
    ours = Refusals(mark=MARK)
    ours.send(syn(6))
    ours.send(datagram(6))
    ours.send(syn(4))
    assert (ours.sent, ours.failed) == (1, 2)


def test_not_being_allowed_ipv6_is_not_the_same_as_having_none(fake: type[Fake]) -> None:
    fake.refuses["open", socket.AF_INET6] = errno.EPERM
    with pytest.raises(FirewallError):
        Refusals(mark=MARK)
    assert all(one.is_closed for one in fake.made)


def test_where_loopback_is_down_the_filter_has_to_do(fake: type[Fake], clock: Clock) -> None:
    assert clock
    fake.refuses["bind"] = errno.EADDRNOTAVAIL
    ours = Refusals(mark=MARK)
    ours.send(syn())
    assert ours.sent == 1


# -- what is sent


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("make", [syn, datagram])
def test_an_answer_leaves_from_the_address_that_was_asked(
    version: int, make: Any, fake: type[Fake], ours: Refusals
) -> None:
    raw = make(version)
    answer = rejection(raw)
    assert answer is not None
    ours.send(raw)
    (one,) = (one for one in fake.made if one.sent)
    assert (one.family, one.protocol) == (socket.AF_INET if version == 4 else socket.AF_INET6, answer.protocol)
    ((message, ancillary, flags, peer),) = one.sent
    assert (message, flags, peer) == (answer.message, socket.MSG_DONTWAIT, (CLIENT[version], 0))
    here = ip_address(SERVER[version]).packed
    kind = struct.pack("=i", answer.traffic_class)
    if version == 4:
        assert ancillary == [(socket.IPPROTO_IP, 8, bytes(4) + here + bytes(4)), (socket.IPPROTO_IP, 1, kind)]
    else:
        assert ancillary == [
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, here + bytes(4)),
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, kind),
        ]


def test_what_no_machine_answers_is_not_answered(fake: type[Fake], ours: Refusals) -> None:
    for raw in (b"", b"x", bytes(40), syn()[:-1], syn(source="127.0.0.1"), syn(flags="MF")):
        ours.send(raw)
    assert not any(one.sent for one in fake.made)
    assert (ours.sent, ours.failed, ours.withheld) == (0, 0, 0)


@pytest.mark.parametrize("make", [syn, datagram])
def test_link_local_addresses_are_not_answered(make: Any, fake: type[Fake], ours: Refusals) -> None:
    """On which link? The kernel would take any."""
    for source in ("fe80::1", "febf::1"):
        ours.send(make(6, source))
    assert not any(one.sent for one in fake.made)
    ours.send(make(6, "fec0::1"))
    ours.send(make(4, "169.254.1.1"))  # IPv4 has routes for these
    assert ours.sent == 2


@pytest.mark.parametrize(
    "error", [errno.EPERM, errno.EINVAL, errno.EAGAIN, errno.ENETUNREACH, errno.ENOBUFS, errno.EACCES, errno.EBADF]
)
def test_what_the_kernel_refuses_is_counted_and_no_more(error: int, fake: type[Fake], ours: Refusals) -> None:
    fake.refuses["send"] = error
    ours.send(syn())
    ours.send(datagram(6))
    fake.refuses.clear()
    ours.send(syn())
    assert (ours.sent, ours.failed) == (1, 2)


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes) -> None:
    class Nothing(Fake):
        made: list[Fake] = []  # noqa: RUF012
        refuses: dict[Any, int] = {}  # noqa: RUF012

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Nothing)
        Refusals(mark=MARK).send(raw)


# -- the budget


def test_resets_have_a_budget_which_fills_again(ours: Refusals, clock: Clock) -> None:
    for source in sources(RESETS_PER_SECOND + 100):
        ours.send(syn(source=source))
    assert (ours.sent, ours.withheld) == (RESETS_PER_SECOND, 100)
    clock.now += 0.1
    for source in sources(100):
        ours.send(syn(source=source))
    assert ours.sent == pytest.approx(RESETS_PER_SECOND * 1.1, abs=1)
    clock.now += 3600  # no more than a second's worth is ever saved
    before = ours.sent
    for source in sources(2 * RESETS_PER_SECOND):
        ours.send(syn(source=source))
    assert ours.sent - before == RESETS_PER_SECOND


def test_one_target_cannot_use_up_what_all_are_answered_from(ours: Refusals) -> None:
    for _ in range(2 * RESETS_PER_SECOND):
        ours.send(syn())
    assert ours.sent == RESETS_PER_TARGET
    ours.send(syn(source="203.0.113.9"))
    assert ours.sent == RESETS_PER_TARGET + 1


def test_a_flood_of_one_protocol_leaves_the_others_theirs(ours: Refusals) -> None:
    for source in sources(2 * RESETS_PER_SECOND):
        ours.send(syn(source=source))
    assert ours.sent == RESETS_PER_SECOND
    for source in sources(2 * UNREACHABLES_PER_SECOND):
        ours.send(datagram(source=source))
    assert ours.sent == RESETS_PER_SECOND + UNREACHABLES_PER_SECOND
    ours.send(datagram(6))
    assert ours.sent == RESETS_PER_SECOND + UNREACHABLES_PER_SECOND + 1


@pytest.mark.parametrize(("version", "in_three_seconds"), [(4, 3), (6, 30)])
def test_one_target_gets_as_many_errors_as_from_linux(
    version: int, in_three_seconds: int, ours: Refusals, clock: Clock
) -> None:
    """Six at once, and then one a second, or ten: seen on 6.18."""
    for _ in range(100):
        ours.send(datagram(version))
    assert ours.sent == UNREACHABLES_BURST
    for _ in range(300):
        clock.now += 0.01001
        ours.send(datagram(version))
    assert ours.sent - UNREACHABLES_BURST == in_three_seconds


def test_what_is_beyond_the_budget_is_not_even_read(ours: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in sources(RESETS_PER_SECOND):
        ours.send(syn(source=source))

    def fail(_: bytes) -> None:
        pytest.fail("it was read")

    monkeypatch.setattr(refusals, "rejection", fail)
    ours.send(syn())
    assert ours.withheld == 1


def test_what_is_not_answered_costs_nothing(ours: Refusals) -> None:
    for _ in range(2 * RESETS_PER_SECOND):
        ours.send(syn()[:-1])
    ours.send(syn())
    assert ours.sent == 1


def test_a_budget_remembers_so_many_targets_and_forgets_the_oldest() -> None:
    budget = Budget(10**6, 1, 1)
    targets = [number.to_bytes(4, "big") for number in range(5000)]
    assert all(budget.take(target, now=5.0) for target in targets)
    assert len(budget._full_for) == 1024
    assert not budget.take(targets[-1], now=5.0)
    assert not budget.take(targets[-1024], now=5.0)
    assert budget.take(targets[0], now=5.0)


def test_a_machine_that_has_just_started_has_a_full_budget() -> None:
    """The monotonic clock may begin at 0."""
    budget = Budget(10, 10, 10)
    assert [budget.take(b"host", now=0.0) for _ in range(11)] == [True] * 10 + [False]


@given(st.lists(st.floats(0, 0.5), max_size=200), st.integers(1, 20), st.integers(1, 20), st.integers(1, 5))
def test_no_second_has_more_than_twice_the_budget(steps: list[float], total: int, each: int, burst: int) -> None:
    """A burst, and what comes in during the second."""
    budget, now, taken = Budget(total, each, burst), 100.0, list[float]()
    for step in steps:
        now += step
        if budget.take(b"host", now=now):
            taken.append(now)
    for begin in taken:
        assert sum(begin <= moment <= begin + 1 for moment in taken) <= min(2 * total, each + burst) + 1
