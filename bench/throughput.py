"""5. Traffic through a grant, against no firewall at all: iperf3, and small packets to and fro."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from typing import Any

from bench import figures
from bench.attempts import Way, attempt, often
from bench.bed import PORT, TARGET, BenchError, service
from bench.clock import Clock
from bench.peers import CONTESTANTS, make
from bench.peers.contestant import Contestant
from bench.runs import Sizes, scene
from gatekeeper.demo.network import inside

NOBODY = "no firewall"
_OPEN = Way(often, patience=2)
_MOST = 2.0


class _Lane:
    """A bed with a contestant, or with none, and what was measured on it."""

    def __init__(self, name: str, clock: Clock, stack: contextlib.ExitStack) -> None:
        self.bed = stack.enter_context(scene(clock))
        self.contestant: Contestant | None = None
        if name != NOBODY:
            self.contestant = make(name, self.bed)
            self.contestant.start()
        self.source = self.bed.next_source()
        self.bits: list[float] = []
        self.trips: list[float] = []

    def run(self, seconds: float) -> None:
        """Measure once."""
        self._knock()
        server = ["iperf3", "-s", "-p", str(PORT), "--forceflush"]
        with service(self.bed.server, server):
            client = ["iperf3", "-c", TARGET, "-p", str(PORT), "-B", self.source, "-t", f"{seconds:.0f}", "-J"]
            said = json.loads(self.bed.run(*client, at=self.bed.client, seconds=seconds + 15))
            self.bits.append(said["end"]["sum_received"]["bits_per_second"])
        with service(self.bed.server, [sys.executable, "-m", "bench.echo", str(PORT)]):
            self.trips.append(self._ping_pong(seconds))

    def _knock(self) -> None:
        """Knock anew: fwknopd's grants last for 30 s."""
        if self.contestant is not None:
            attempt(self.bed, self.contestant, _OPEN, 1, sources=[self.source])

    def _ping_pong(self, seconds: float) -> float:
        """Send a byte and wait for it, over and over; return round trips a second."""
        with inside(self.bed.client):
            stream = socket.socket()
        with stream:
            stream.settimeout(5)
            stream.bind((self.source, 0))
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.connect((TARGET, PORT))
            count, begin = 0, time.perf_counter()
            while (passed := time.perf_counter() - begin) < seconds:
                stream.sendall(b".")
                stream.recv(1)
                count += 1
        return count / passed


def measure(sizes: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Measure in turns, so that what changes on the machine meets all alike."""
    seconds = min(sizes.seconds, _MOST)
    with contextlib.ExitStack() as stack:
        lanes: dict[str, _Lane] = {}
        for name in (NOBODY, *(one for one in CONTESTANTS if "tuned" not in one)):
            try:
                lanes[name] = _Lane(name, clock, stack)
            except BenchError as error:
                found[name] = {"failed": str(error)}
        for turn in range(sizes.rounds):
            for name, lane in list(lanes.items()):
                if clock.allows(f"{name}, round {turn + 1}", 2 * seconds):
                    try:
                        lane.run(seconds)
                    except (BenchError, OSError) as error:
                        found[name] = {"failed": str(error)}
                        del lanes[name]
        for name, lane in lanes.items():
            bits, trips = figures.median(lane.bits), figures.median(lane.trips)
            found[name] = {"bits": bits, "trips": trips, "all_bits": lane.bits, "all_trips": lane.trips}
