"""The bench on the real kernel: its bed, its flood, and one knock of each contestant that is installed here."""

from __future__ import annotations

from pathlib import Path

from bench.attempts import Way, attempt, never
from bench.bed import Bed
from bench.clock import Clock
from bench.junk import Force, flood
from bench.peers import make
from bench.peers.contestant import Shape


def test_a_flood_arrives_is_counted_and_ends_and_good_knocks_open(tmp_path: Path) -> None:
    """With gatekeeper; the peers are installed by `scripts/setup bench` only."""
    with Bed(tmp_path, Clock(60)) as bed:
        bed.serve()
        contestant = make("gatekeeper", bed)
        daemon = contestant.start()
        (result,) = attempt(bed, contestant, Way(never, patience=4), 1)
        assert result.seconds is not None
        assert result.resent == 0
        junk = contestant.junk(Shape.RANDOM, [])
        with flood(bed, contestant, junk, Force(2000, seconds=0.5)) as sent:
            pass
        assert 500 <= sent.sent <= 1500
        assert sent.sent <= sent.arrived <= sent.sent + 100
        assert daemon.cpu() > 0
        assert sum(daemon.memory().values()) > 1
    assert daemon.process.returncode is not None
