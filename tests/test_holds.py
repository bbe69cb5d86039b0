"""Held first packets: when they are given back, when they are given up, and how many there may be."""

from __future__ import annotations

from gatekeeper.holds import GIVE_BACK_AFTER, Holds

HOME = bytes([192, 0, 2, 7])


def test_a_packet_is_given_back_on_schedule_and_then_dropped() -> None:
    holds: Holds[str] = Holds()
    now = 10.0
    for after in GIVE_BACK_AFTER:
        assert holds.hold("syn", b"raw", HOME, now=now) == []
        due = holds.next_due()
        assert due is not None
        assert abs(due - (10.0 + after)) < 1e-9
        assert holds.due(now=due - 0.0001) == []
        assert holds.due(now=due) == ["syn"]
        now = due
    assert holds.hold("syn", b"raw", HOME, now=now) == ["syn"]
    assert len(holds) == 0
    assert holds.next_due() is None


def test_a_landed_grant_gives_back_its_sources_packets_at_once() -> None:
    holds: Holds[str] = Holds()
    holds.hold("mine", b"1", HOME, now=0.0)
    holds.hold("neighbour", b"2", bytes([192, 0, 2, 8]), now=0.0)
    holds.hold("six", b"3", bytes(16), now=0.0)
    assert holds.release(HOME, HOME) == ["mine"]
    assert holds.release(bytes([192, 0, 2, 0]), bytes([192, 0, 2, 255])) == ["neighbour"]
    assert holds.clear() == ["six"]


def test_a_granted_source_is_given_back_without_a_wait_but_not_for_ever() -> None:
    """An allowlist that knows more than the kernel must not make a packet go round and round."""
    holds: Holds[str] = Holds()
    rounds = 0
    now = 0.0
    while not holds.hold("syn", b"raw", HOME, now=now, at_once=True):
        due = holds.next_due()
        assert due is not None
        assert rounds > 0 or due == now
        now = due
        assert holds.due(now=now) == ["syn"]
        rounds += 1
    assert rounds == len(GIVE_BACK_AFTER) + 1
    assert now >= GIVE_BACK_AFTER[-1]


def test_a_copy_of_a_held_packet_is_dropped() -> None:
    holds: Holds[str] = Holds()
    assert holds.hold("first", b"raw", HOME, now=0.0) == []
    assert holds.hold("copy", b"raw", HOME, now=0.0) == ["copy"]


def test_one_source_cannot_hold_more_than_its_share() -> None:
    holds: Holds[int] = Holds(max_held=100, max_per_source=3)
    inside = [bytes([0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, *([0] * 7), last]) for last in range(5)]
    dropped = [holds.hold(i, bytes([i]), address, now=0.0) for i, address in enumerate(inside)]
    assert dropped == [[], [], [], [0], [1]], "the addresses of one IPv6 /64 count as one source"
    assert holds.hold(9, b"other", HOME, now=0.0) == []
    assert holds.due(now=1.0) == [2, 3, 4, 9]
    assert holds.hold(3, b"again", inside[0], now=1.0) == []


def test_when_there_are_too_many_the_oldest_gives_way() -> None:
    holds: Holds[int] = Holds(max_held=3)
    dropped = [holds.hold(i, bytes([i]), bytes([10, 0, 0, i]), now=float(i) / 1e6) for i in range(5)]
    assert dropped == [[], [], [], [0], [1]]
    assert len(holds) == 3


def test_what_is_remembered_is_bounded() -> None:
    holds: Holds[int] = Holds(max_held=4, max_per_source=9)
    for number in range(1000):
        holds.hold(number, number.to_bytes(2), HOME, now=number * 1.0)
        holds.due(now=number + 0.5)
    assert len(holds._tried) <= 8
    assert len(holds._schedule) == 0
    assert len(holds._by_source) == 0


def test_a_packet_that_comes_back_after_seconds_is_a_new_one() -> None:
    """A retransmission with the same bytes gets its full time again."""
    holds: Holds[str] = Holds()
    holds.hold("syn", b"raw", HOME, now=0.0)
    holds.due(now=1.0)
    holds.hold("syn", b"raw", HOME, now=5.0)
    assert holds.next_due() == 5.0 + GIVE_BACK_AFTER[0]


def test_where_the_sender_is_told_it_is_given_up_sooner() -> None:
    holds: Holds[str] = Holds((0.001, 0.003))
    assert holds.hold("first", b"syn", b"\1\2\3\4", now=5.0) == []
    assert holds.due(now=5.001) == ["first"]
    assert holds.hold("again", b"syn", b"\1\2\3\4", now=5.002) == []
    assert holds.due(now=5.003) == ["again"]
    assert holds.hold("at last", b"syn", b"\1\2\3\4", now=5.004) == ["at last"]


def test_a_packet_whose_grant_landed_while_it_was_on_its_way_back_is_given_back_once_more() -> None:
    """Once: a kernel that has no grant must not be asked for ever."""
    holds: Holds[str] = Holds((0.001, 0.003))
    now = 100.0
    for _ in range(2):
        assert holds.hold("packet", b"raw", b"\1\2\3\4", now=now) == []
        now += 0.01
        assert holds.due(now=now) == ["packet"]
    assert holds.hold("packet", b"raw", b"\1\2\3\4", now=now, at_once=True) == []
    assert holds.due(now=now) == ["packet"]
    assert holds.hold("packet", b"raw", b"\1\2\3\4", now=now, at_once=True) == ["packet"]
