from __future__ import annotations

import pytest

from gatekeeper.firewall.lanes import Lane
from gatekeeper.tallies import BUCKETS, PLACES, SIZE, Tallies, Waiting


def test_knocks_of_all_workers_are_one_histogram() -> None:
    memory = bytearray(SIZE)
    one, other = Tallies(memory), Tallies(memory)
    one.note_took(0, 0.0004)
    one.note_took(0, BUCKETS[1])
    other.note_took(15, 9.0)
    took = Tallies(memory).took()
    assert took.counts == (1, 1, *[0] * (len(BUCKETS) - 2), 1)
    assert took.seconds == pytest.approx(9.0014)


def test_who_was_replaced_is_counted_by_name() -> None:
    tallies = Tallies(bytearray(SIZE))
    for place in ("worker", "worker", "exporter"):
        tallies.count_replaced(place)
    assert tallies.replaced() == dict.fromkeys(PLACES, 0) | {"worker": 2, "exporter": 1}


def test_each_queue_has_its_own_place() -> None:
    tallies = Tallies(bytearray(SIZE))
    for worker in range(16):
        for lane in Lane:
            tallies.note_waiting(lane, worker, Waiting(worker * 10 + lane, worker))
    assert tallies.waiting(16) == {
        (lane, worker): Waiting(worker * 10 + lane, worker) for worker in range(16) for lane in Lane
    }
    assert len(tallies.waiting(2)) == 6


def test_what_a_worker_that_was_taken_over_writes_stops_nobody() -> None:
    """The supervisor adds to numbers in the same memory, and must live."""
    memory = bytearray(b"\xff" * SIZE)
    tallies = Tallies(memory)
    tallies.count_replaced("worker")
    tallies.note_took(3, 1.0)
    assert tallies.replaced()["worker"] == 0
    assert tallies.took().seconds > 0
    assert len(tallies.waiting(16)) == 48
