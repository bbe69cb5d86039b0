"""Numbers that several processes of a run keep, in memory that they share: nobody is asked for them. Pure.

Each number is written by one process: the supervisor counts who was replaced and measures the queues, each worker how
long its knocks took. Who takes a worker's place goes on where it was. A worker that was taken over could write
anything there, so no number is too large for whoever reads it or adds to it.
"""

from __future__ import annotations

from typing import NamedTuple

from gatekeeper.firewall.lanes import MAX_WORKERS, Lane

PLACES = ("worker", "keeper", "guardian", "recorder", "hook-runner", "meter", "exporter")
"""Who is replaced when it dies."""
BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Seconds: the upper ends of the histogram."""
_CLOCK = len(BUCKETS) + 2
"""Cells of a worker's histogram: one for each bucket, one for what is longer, and the sum, in nanoseconds."""
_QUEUE = 2
_CLOCKS = len(PLACES)
_QUEUES = _CLOCKS + MAX_WORKERS * _CLOCK
_CELL = 8
SIZE = (_QUEUES + MAX_WORKERS * len(Lane) * _QUEUE) * _CELL
_MOST = 2**64 - 1


class Took(NamedTuple):
    """How long knocks took."""

    counts: tuple[int, ...]
    """How many fell into each bucket, and into none."""
    seconds: float
    """All together."""


class Waiting(NamedTuple):
    """What lies in a queue's socket."""

    size: int
    """Bytes, as the kernel reckons them, that no worker has taken yet."""
    lost: int
    """Packets that did not fit, since the queue was bound."""


class Tallies:
    """All numbers of a run."""

    def __init__(self, memory: bytearray | memoryview) -> None:
        """``memory`` has ``SIZE`` bytes, zero at first; all processes have the same."""
        self._cells = memoryview(memory).cast("B").cast("Q")

    def count_replaced(self, place: str) -> None:
        """Note that one who has died is replaced."""
        self._add(PLACES.index(place), 1)

    def replaced(self) -> dict[str, int]:
        """Return how often each was."""
        return {place: self._cells[at] for at, place in enumerate(PLACES)}

    def note_took(self, worker: int, seconds: float) -> None:
        """Note that a knock took so long, from the worker to the kernel."""
        first = _CLOCKS + worker * _CLOCK
        bucket = next((at for at, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))
        self._add(first + bucket, 1)
        self._add(first + _CLOCK - 1, int(seconds * 1e9))

    def took(self) -> Took:
        """Return how long the knocks of all workers took."""
        parts = [self._cells[at : at + _CLOCK].tolist() for at in range(_CLOCKS, _QUEUES, _CLOCK)]
        sums = [sum(column) for column in zip(*parts, strict=True)]
        return Took(tuple(sums[:-1]), sums[-1] / 1e9)

    def note_waiting(self, lane: Lane, worker: int, waiting: Waiting) -> None:
        """Note what lies in a queue's socket."""
        at = _QUEUES + (worker * len(Lane) + lane) * _QUEUE
        self._cells[at], self._cells[at + 1] = waiting.size & _MOST, waiting.lost & _MOST

    def waiting(self, workers: int) -> dict[tuple[Lane, int], Waiting]:
        """Return that of each queue, by lane and worker (from 0)."""
        return {
            (lane, worker): Waiting(*self._cells[at : at + _QUEUE].tolist())
            for worker in range(workers)
            for lane in Lane
            for at in (_QUEUES + (worker * len(Lane) + lane) * _QUEUE,)
        }

    def _add(self, at: int, number: int) -> None:
        self._cells[at] = (self._cells[at] + number) & _MOST
