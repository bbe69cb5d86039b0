"""Port sequences: what is complete, what a wrong packet does, and what floods cannot do. No kernel here."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper import steps
from gatekeeper.allowlist import Allowlist
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.knocks.sequence import SequenceKnocks
from gatekeeper.model import Decision, Hit, Reason, Verdict
from gatekeeper.replay import ReplayMemory
from gatekeeper.settings import Client, Flags, Ports, Rules, Sequences, Service, Transport
from tests.packets import ACK, FIN, SYN, tcp, udp

NOW = 1_800_000_000.0
TCP, UDP = Transport.TCP, Transport.UDP
HOME, AWAY = b"\xc0\x00\x02\x07", b"\xc6\x33\x64\x42"
SERVICES = {name: Service(name, (Ports(TCP, port),), 3600) for name, port in (("ssh", 22), ("web", 443))}


def ports(*which: int | str) -> tuple[Ports, ...]:
    """Write a sequence: numbers are of TCP, words of UDP."""
    return tuple(Ports(UDP, int(one)) if isinstance(one, str) else Ports(TCP, one) for one in which)


def client(name: str, *opens: tuple[Ports, ...], **more: object) -> Client:
    sequences = Sequences(opens=opens, **more)  # type: ignore[arg-type]
    return Client(name=name, services=("ssh",), sequences=sequences)


def rules(*clients: Client) -> Rules:
    return Rules(SERVICES, {one.name: one for one in clients})


CAM = client("cam", ports("7000", 8000, 9000), closes=ports(9000, 8000, "7000"), within=5)


class Door:
    """The format alone, and a clock."""

    def __init__(self, *clients: Client, most: int = steps.MOST) -> None:
        self.form = SequenceKnocks(rules(*(clients or (CAM,))), most=most)
        self.now = NOW

    def hear(self, *which: int | str, source: bytes = HOME, flags: int = SYN, pause: float = 0.1) -> list[str]:
        """Knock at ports; return what that completes."""
        done: list[str] = []
        for one in ports(*which):
            self.now += pause
            hit = Hit(source, one.transport.number, one.first, 0 if one.transport is UDP else flags)
            knock = self.form.hear(hit, now=self.now)
            if knock is not None:
                done.append(f"{knock.client} {knock.action}")
        return done


OPEN, CLOSE = ("7000", 8000, 9000), (9000, 8000, "7000")


def test_the_steps_in_their_order_open_and_others_close() -> None:
    door = Door()
    assert door.hear("7000", 8000) == []
    assert door.hear(9000) == ["cam open"]
    assert door.hear(*CLOSE) == ["cam close"]
    assert door.hear(*OPEN, *OPEN) == ["cam open"] * 2


@pytest.mark.parametrize(
    "wrong", [(7000, 8000, 9000), ("7000", 9000, 8000), (8000, 9000), ("7000", "8000", 9000), ("7000", 8000)]
)
def test_other_steps_another_order_and_half_of_it_open_nothing(wrong: Sequence[int | str]) -> None:
    assert Door().hear(*wrong) == []


def test_a_wrong_step_resets_and_a_new_try_may_begin_with_it() -> None:
    door = Door()
    assert door.hear("7000", 8000, 8000, 9000) == []
    assert door.hear("7000", 8000, "7000", 8000, 9000) == ["cam open"]
    assert door.hear("7000", "7000", 8000, 9000) == ["cam open"]


def test_ports_that_no_sequence_has_are_not_listened_to() -> None:
    form = Door().form
    assert form.listens == {(17, 7000), (6, 8000), (6, 9000)}


def test_a_step_of_anothers_sequence_resets() -> None:
    door = Door(CAM, client("other", ports(1000, 2000, 3000)))
    assert door.hear("7000", 8000, 2000, 9000) == []


def test_each_source_has_steps_of_its_own() -> None:
    door = Door()
    assert door.hear("7000", 8000) == []
    assert door.hear("7000", source=AWAY) == []
    assert door.hear(9000, source=AWAY) == []
    assert door.hear(9000) == ["cam open"]


def test_the_time_runs_from_the_first_step_to_the_last() -> None:
    assert Door().hear("7000", 8000, 9000, pause=2.5) == ["cam open"]
    assert Door().hear("7000", 8000, 9000, pause=2.6) == []
    door = Door()
    door.hear("7000")
    door.now += 100
    assert door.hear(8000, 9000) == []
    assert door.hear(*OPEN) == ["cam open"]


def test_a_clock_that_is_set_back_takes_the_steps_away_and_no_more() -> None:
    door = Door()
    door.hear("7000", 8000)
    door.now -= 3600
    assert door.hear(9000) == []
    assert door.hear(*OPEN) == ["cam open"]


def test_several_that_begin_alike_advance_each_on_its_own() -> None:
    door = Door(client("a", ports(1, 2, 3)), client("b", ports(1, 2, 4)), client("c", ports(1, 3)))
    assert door.hear(1, 2, 3) == ["a open"]
    assert door.hear(1, 2, 4) == ["b open"]
    assert door.hear(1, 3) == ["c open"]


def test_one_that_begins_with_the_whole_of_another_opens_both() -> None:
    door = Door(client("short", ports(1, 2)), client("long", ports(1, 2, 3)))
    assert door.hear(1, 2) == ["short open"]
    assert door.hear(3) == ["long open"]


def test_of_two_that_end_alike_the_longer_one_counts() -> None:
    door = Door(client("short", ports(2, 3)), client("long", ports(1, 2, 3)))
    assert door.hear(1, 2, 3) == ["long open"]
    assert door.hear(2, 3) == ["short open"]


def test_of_two_that_end_alike_the_longer_one_counts_whatever_flags_they_want() -> None:
    fin = Flags(FIN, ACK)
    door = Door(client("long", ports("1", "2", "3")), client("short", ports("2", "3"), flags=fin))
    assert door.hear("1", "2", "3") == ["long open"]
    assert door.hear("2", "3") == ["short open"]


def test_steps_that_have_opened_are_not_the_beginning_of_a_close() -> None:
    door = Door(client("a", ports(1, 2, 1, 2), closes=ports(2, 1, 2, 1)))
    assert door.hear(1, 2, 1, 2, 1) == ["a open"]
    assert door.hear(2, 1, 2) == ["a open"]


def test_packets_without_the_flags_are_neither_steps_nor_wrong_ones() -> None:
    door = Door()
    door.hear("7000", 8000)
    assert door.hear(8000, 9000, flags=ACK) == []
    assert door.hear(9000, flags=SYN | ACK) == []
    assert door.hear(9000, flags=SYN | 0x40) == ["cam open"], "other flags do not matter"


def test_each_client_has_flags_of_its_own() -> None:
    door = Door(client("syn", ports(1, 2, 3)), client("fin", ports(1, 2, 4), flags=Flags(FIN, ACK)))
    assert door.hear(1, 2, 4) == []
    assert door.hear(1, 2, 4, flags=FIN) == ["fin open"]
    door.hear(1)
    door.hear(1, flags=FIN)
    door.hear(2)
    door.hear(2, flags=FIN)
    assert door.hear(3) == ["syn open"]
    assert door.hear(4, flags=FIN) == ["fin open"]


# -- a naive model


class Heard(NamedTuple):
    source: bytes
    port: Ports
    flags: int
    at: float


STEPS = st.lists(st.sampled_from(ports(1, 2, "1", "2")), min_size=2, max_size=4).map(tuple)


@st.composite
def clients(draw: st.DrawFn) -> list[Client]:
    """Some clients, of whom some have a sequence that closes; no two sequences are the same."""
    every = draw(st.lists(STEPS, min_size=1, max_size=6, unique=True))
    flags = st.sampled_from([Flags(), Flags(FIN, ACK), Flags(0, 0)])
    found: list[Client] = []
    while every:
        closes = every.pop() if len(every) > 1 and draw(st.booleans()) else ()
        more = {"closes": closes, "flags": draw(flags), "within": draw(st.integers(1, 6))}
        found.append(client(f"c{len(found)}", every.pop(), **more))
    return found


class Model:
    """The rule as the format's docstring has it, with all that was ever heard."""

    def __init__(self, known: Sequence[Client]) -> None:
        self.known = [(one.name, one.sequences) for one in known if one.sequences is not None]
        self.heard: list[Heard] = []
        self.used: dict[tuple[str, bytes], int] = {}

    def hear(self, one: Heard) -> tuple[str, str] | None:
        """Return who has knocked for what, by the last packet."""
        self.heard.append(one)
        found = [
            (len(wanted), name, action)
            for name, its in self.known
            for wanted, action in ((its.opens[0], "open"), (its.closes, "close"))
            if wanted and self.is_complete(one, its, wanted, after=self.used.get((name, one.source), -1))
        ]
        if not found:
            return None
        _, name, action = max(found, key=lambda one: one[0])  # the first of those that are as long
        self.used[name, one.source] = len(self.heard) - 1
        return name, action

    def is_complete(self, one: Heard, its: Sequences, wanted: tuple[Ports, ...], *, after: int) -> bool:
        last = [
            (number, other)
            for number, other in enumerate(self.heard)
            if other.source == one.source and (other.port.transport is UDP or its.flags.match(other.flags))
        ][-len(wanted) :]
        return (
            [other.port for _, other in last] == list(wanted)
            and last[-1][0] == len(self.heard) - 1
            and one.at - last[0][1].at <= its.within
            and last[0][0] > after
        )


HEARD = st.tuples(
    st.sampled_from([HOME, AWAY]), st.sampled_from(ports(1, 2, "1", "2")), st.sampled_from([SYN, FIN, ACK]),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(clients(), st.lists(HEARD, max_size=40))
def test_it_does_what_its_rule_says(known: list[Client], packets: list[tuple[bytes, Ports, int, float]]) -> None:
    form, model, now = SequenceKnocks(rules(*known)), Model(known), NOW
    for source, port, flags, pause in packets:
        now += pause
        if (port.transport.number, port.first) not in form.listens:
            continue
        expected = model.hear(Heard(source, port, flags, now))
        knock = form.hear(Hit(source, port.transport.number, port.first, flags), now=now)
        assert (None if knock is None else (knock.client, knock.action)) == expected


# -- floods


def test_a_million_sources_neither_grow_memory_nor_reset_who_is_knocking() -> None:
    door = Door()
    assert door.hear("7000", 8000, pause=0) == []
    tracemalloc.start()
    for number in range(1_000_000):
        source = (number + 1).to_bytes(4)
        for protocol, port in (((17, 7000),), ((17, 7000), (6, 8000)), ((6, 9000),))[number % 3]:
            door.form.hear(Hit(source, protocol, port, SYN), now=door.now + number / 1_000_000)
        if number == 50_000:  # to trace takes longer than to hear
            assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
            tracemalloc.stop()
    assert len(door.form) == steps.MOST
    door.now += 1
    assert door.hear(9000) == ["cam open"]
    assert door.hear("7000", source=AWAY) == [], "nobody new begins"
    assert len(door.form) <= steps.MOST
    door.form.renew(now=door.now + 6)
    assert len(door.form) == 0
    assert door.hear(*OPEN, source=AWAY) == ["cam open"]


def test_who_sends_without_end_is_remembered_no_longer_than_the_longest_sequence() -> None:
    door = Door(client("a", ports(1, 2, 3)), client("b", ports(1, 1, 1, 1, 2)))
    door.hear(*[1] * 100_000, pause=0)
    assert sum(len(trail.packets) for trail in door.form._trails.values()) == 5
    door.now += 30
    assert door.hear(3) == []
    assert len(door.form) == 0


def test_a_scan_of_all_ports_in_any_order_finds_one_of_six_sequences_of_three() -> None:
    """Why the kernel does not listen to who scans (firewall/steps.py), and why `check` asks for more steps."""
    chance, found = random.Random(1), 0
    for _ in range(600):
        scan = [1, 2, 3]
        chance.shuffle(scan)
        found += len(Door(client("a", ports(1, 2, 3))).hear(*scan))
    assert 70 < found < 130


# -- behind the gate


ONCE = client("once", ports(1, 2, 3), ports(4, 5, 6), once=True)


class House:
    """A gate that knows sequences."""

    def __init__(self, *known: Client) -> None:
        self.rules = rules(*(known or (CAM, ONCE)))
        self.replays = ReplayMemory()
        self.gate = Gate(self.rules, enabled(self.rules, (), now=NOW), Allowlist(()), replays=self.replays)

    def knock(self, *which: int | str, now: float = NOW, version: int = 4) -> Decision:
        """Send packets; return what is decided about the last one. Whatever they are, they go on."""
        decision = None
        for one in ports(*which):
            raw = (
                udp(b"\0", port=one.first, version=version)
                if one.transport is UDP
                else tcp(SYN, port=one.first, version=version)
            )
            decision = self.gate.inspect(raw, now=now)
            assert decision.verdict is Verdict.ACCEPT
        assert decision is not None
        return decision


@pytest.mark.parametrize("version", [4, 6])
def test_each_packet_goes_on_and_the_last_one_opens(version: int) -> None:
    house = House()
    assert house.knock("7000", 8000, version=version) == Decision(Verdict.ACCEPT, Reason.STEP)
    last = house.knock(9000, version=version)
    assert (last.reason, last.client) == (Reason.OPENED, "cam")
    assert house.knock(*CLOSE, version=version).reason is Reason.CLOSED


def test_a_one_time_sequence_opens_once_for_whomever() -> None:
    house = House()
    assert house.knock(1, 2, 3, version=4).reason is Reason.OPENED
    assert house.knock(1, 2, 3, version=6, now=NOW + 86_400).reason is Reason.REPLAYED
    assert house.knock(4, 5, 6).reason is Reason.OPENED


def test_a_sequence_that_is_refused_is_not_used_up_and_its_packets_go_on() -> None:
    once = replace(ONCE, not_after=NOW)
    house = House(once)
    assert house.knock(1, 2, 3).reason is Reason.CLIENT_EXPIRED
    assert house.knock(1, 2, 3, now=NOW - 10).reason is Reason.OPENED


def test_a_damaged_last_step_and_one_of_a_neighbour_by_link_open_nothing_and_go_on() -> None:
    house = House(client("cam", ports(1, 2, "3")))
    house.knock(1, 2)
    assert house.gate.inspect(udp(b"", port=3, good=False), now=NOW).reason is Reason.BAD_CHECKSUM
    for one in (tcp(SYN, port=1, source="169.254.1.1"), tcp(SYN, port=2, source="169.254.1.1")):
        house.gate.inspect(one, now=NOW)
    last = house.gate.inspect(udp(b"", port=3, source="169.254.1.1"), now=NOW)
    assert (last.verdict, last.reason) == (Verdict.ACCEPT, Reason.LINK_LOCAL)


def test_a_payload_is_never_a_sequence() -> None:
    form = SequenceKnocks(rules(CAM))
    assert form.glance(b"7000:udp,8000,9000", now=NOW) is False
    assert repr(CAM).count("7000") == 0, "it is as secret as a key"
