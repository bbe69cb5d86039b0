"""Packets that went on are judged when they would have been given up; and they are not many."""

from __future__ import annotations

from gatekeeper.shadows import MAX_SHADOWS, Shadows


def test_a_packet_is_judged_a_tenth_of_a_second_later() -> None:
    shadows = Shadows()
    assert shadows.next_due() is None
    assert shadows.add(b"a", now=10.0) == []
    assert shadows.add(b"b", now=10.05) == []
    assert shadows.next_due() == 10.1
    assert shadows.due(now=10.09) == []
    assert shadows.due(now=10.12) == [b"a"]
    assert shadows.due(now=11.0) == [b"b"]
    assert shadows.next_due() is None


def test_in_a_flood_the_oldest_is_judged_early() -> None:
    shadows = Shadows()
    for number in range(MAX_SHADOWS):
        assert shadows.add(number.to_bytes(4), now=10.0) == []
    assert shadows.add(b"one more", now=10.0) == [(0).to_bytes(4)]
    assert len(shadows.due(now=11.0)) == MAX_SHADOWS
