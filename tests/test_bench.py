"""The bench's own parts that need no kernel: what it says of a run, and what it sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import figures, packets, sender, targets
from bench.clock import Clock
from bench.runs import FULL, QUICK, Sizes
from gatekeeper.packet import triage
from tests import packets as others


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {one.is_met for one in targets.held({})} == {None}


def test_a_target_that_is_missed_says_why_from_the_numbers() -> None:
    ways = {"no sleep": {"lost_first_syns": 3, "attempts": 50, "median": 0.005, "p99": 0.009}}
    found = {one.what: one for one in targets.held({"knock": {"gatekeeper": ways}})}
    lost, middle = found["first SYNs lost"], found["knock to connected, no sleep: median"]
    assert (lost.is_met, lost.measured) == (False, "3 of 50")
    assert (middle.is_met, middle.measured) == (False, "5.00 ms")
    assert "9.00 ms" in middle.why


def test_a_busy_machine_is_named_as_a_reason() -> None:
    parts = {"machine": {"load": 7.0, "cpus": 2}, "idle": {"gatekeeper": {"ready": 2.0}}}
    (ready,) = (one for one in targets.held(parts) if one.what == "ready")
    assert "load 7.0 on 2 CPUs" in ready.why


@pytest.mark.parametrize(("sizes", "limit"), [(FULL, 880), (QUICK, 168)], ids=["full", "quick"])
def test_the_parts_together_keep_to_the_time_of_a_run(sizes: Sizes, limit: float) -> None:
    """What a part does when its time is over takes a little longer, so the whole has a clock of its own, too."""
    assert sum(seconds for _, seconds in sizes.budgets) <= limit + 25


def test_what_there_was_no_time_for_is_remembered() -> None:
    clock = Clock(5)
    assert clock.allows("this", 1)
    assert not clock.allows("that", 10)
    assert clock.left_out == ["that"]


def test_a_percentile_is_a_value_that_was_seen() -> None:
    assert figures.percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert figures.percentile([], 0.99) is None


def test_forged_packets_are_right_to_the_last_checksum() -> None:
    """As the tests' own are, which were written apart from them."""
    ours = packets.udp(b"odd", source="198.18.0.1", target=others.SERVER[4], ports=(40000, 62201))
    assert ours[20:] == others.udp(b"odd", source="198.18.0.1")[20:]
    assert triage(ours) == triage(others.udp(b"odd", source="198.18.0.1"))


class Counting:
    """A sender that only counts."""

    def __init__(self) -> None:
        self.sent = 0

    def send(self, most: int) -> int:
        self.sent += most
        return most


def test_a_flood_is_bounded_in_time_and_keeps_to_its_rate() -> None:
    one = Counting()
    sent, passed = sender.flood(one, rate=2000, seconds=0.2, is_over=[])
    assert sent == one.sent <= 2000 * 0.3
    assert 0.2 <= passed < 2


def test_a_flood_is_bounded_in_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MOST_PACKETS", 1000)
    sent, _ = sender.flood(Counting(), rate=None, seconds=30, is_over=[])
    assert 1000 <= sent < 1100


def test_every_configuration_of_a_peer_is_used() -> None:
    folder = Path(targets.__file__).parent / "peers"
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".py":
            stem = path.stem.removesuffix("-shipped").removesuffix("-tuned")
            assert stem in text, path.name
