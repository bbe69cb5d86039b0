"""3. CPU for each packet of junk, and for each good knock; and what the gate alone can look at in a second."""

from __future__ import annotations

import os
import time
from typing import Any

from bench import packets
from bench.attempts import Way, attempt, now_and_then
from bench.bed import KNOCK_PORT, TARGET, BenchError
from bench.clock import Clock
from bench.junk import Force, capture, flood
from bench.peers import CONTESTANTS, make
from bench.peers.contestant import ATTACKER, Shape
from bench.runs import Sizes, scene
from gatekeeper.allowlist import Allowlist
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys, wire
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport

_RATE = 15_000
"""Packets of junk a second: few enough that nobody but the slowest loses any."""
_LONGEST = 3.0
_RING = 512
_FEW = 1_000
"""Packets that say nothing about what one of them costs."""
_JUNK = (Shape.RANDOM, Shape.TAGS, Shape.SPOOFED_TAGS)
"""Of the last, gatekeeper alone lets as many meet its own code as come: it bounds each sender."""
_KNOCKS = Way(now_and_then, patience=2, apart=0.04)


def measure(sizes: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Measure everybody."""
    found |= {"triage": _triage(sizes.seconds / 2), "contestants": {}}
    for name in CONTESTANTS:
        if clock.allows(name, 2 + 2 * min(sizes.seconds, _LONGEST)):
            found["contestants"][name] = _one(name, clock, sizes)


def _one(name: str, clock: Clock, sizes: Sizes) -> dict[str, Any]:
    row: dict[str, Any] = {}
    try:
        with scene(clock) as bed:
            bed.serve()
            contestant = make(name, bed)
            daemon = contestant.start()
            captured = capture(bed, contestant)
            contestant.make_ready(sizes.flood_knocks)
            time.sleep(0.5)
            before = daemon.cpu()
            results = attempt(bed, contestant, _KNOCKS, sizes.flood_knocks)
            row["per_knock"] = (daemon.cpu() - before) / len(results)
            row["knocks"] = len(results)
            for shape in _JUNK if contestant.python_packets() is not None else _JUNK[:2]:
                junk = contestant.junk(shape, captured)
                before = daemon.cpu()
                with flood(bed, contestant, junk, Force(_RATE, seconds=min(sizes.seconds, _LONGEST))) as sent:
                    pass
                seconds = daemon.cpu() - before
                met = sent.arrived if sent.looked_at is None else sent.looked_at
                row[shape.value] = {
                    "cpu": seconds,
                    "arrived": sent.arrived,
                    "looked_at": sent.looked_at,
                    "per_packet": seconds / sent.arrived if sent.arrived else None,
                    "per_packet_looked_at": seconds / met if met >= _FEW else None,
                }
    except BenchError as error:
        row["failed"] = str(error)
    return row


def _triage(seconds: float) -> dict[str, float]:
    """Count the packets that one worker's gate decides about in a second, without a queue or a kernel."""
    server, private = keys.generate(), keys.generate()
    client = Client(name="client", services=("door",), keys=(keys.public_of(private),))
    services = {"door": Service("door", (Ports(Transport.TCP, 2222),), 3600)}
    rules = Rules(services, {"client": client})
    now = time.time()
    gate = Gate(rules, enabled(rules, (ServerKey(server),), now=now), Allowlist(()), replays=ReplayMemory())
    payload = wire.Payload(action=wire.OPEN, sent_at=time.time_ns())
    good, _ = wire.Sealer(private, keys.public_of(server)).seal(payload, os.urandom(keys.SIZE), now=now)
    rings = {
        Shape.RANDOM: [os.urandom(100) for _ in range(_RING)],
        Shape.SHAPE: [os.urandom(len(good)) for _ in range(_RING)],
        Shape.TAGS: [good[:12] + os.urandom(len(good) - 12) for _ in range(_RING)],
    }
    return {shape.value: _rate(gate, list(map(_datagram, ring)), now, seconds) for shape, ring in rings.items()}


def _datagram(payload: bytes) -> bytes:
    return packets.udp(payload, source=ATTACKER, target=TARGET, ports=(40_000, KNOCK_PORT))


def _rate(gate: Gate, ring: list[bytes], now: float, seconds: float) -> float:
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        for raw in ring:
            gate.inspect(raw, now=now)
        count += len(ring)
    return count / passed
