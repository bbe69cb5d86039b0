"""7. What a packet costs our worker by its format, and by how many keys there are. Without a kernel or a peer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench import figures
from bench.clock import Clock
from bench.packets import udp
from bench.runs import Sizes
from gatekeeper.allowlist import Allowlist
from gatekeeper.demo.network import CLIENT, SERVER
from gatekeeper.fwknop import envelope
from gatekeeper.fwknop.message import Kind, Message
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.packet import warm_up
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import wire
from gatekeeper.settings import Client, FwknopKeys, Ports, Rules, Service, Transport

_COUNTS = (1, 100, 1_000)
_NOW = 1_800_000_000
_DIFFERENT = 50
"""Packets of a kind: the last one that was looked at is known."""
_SECONDS = 0.15
_HMACS = ("sha256", "none")


def measure(_: Sizes, clock: Clock, found: dict[str, Any]) -> None:
    """Look at junk, at what looks like a knock, at knocks and at replays, with so many clients of fwknop's."""
    warm_up()
    for kind in _HMACS:
        for number in _COUNTS:
            name = f"{number:,} keys, {'no HMAC' if kind == 'none' else f'HMAC {kind}'}"
            if clock.allows(name, 1):
                found[name] = _measured(number, kind)


def _measured(number: int, kind: str) -> dict[str, float | None]:
    everybody = [_keys(kind) for _ in range(number)]
    clients = {f"c{n}": Client(name=f"c{n}", services=("ssh",), fwknop=keys) for n, keys in enumerate(everybody)}
    rules = Rules({"ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600)}, clients)
    gate = Gate(rules, enabled(rules, (), now=_NOW), Allowlist(()), replays=ReplayMemory())

    def look(packets: Sequence[bytes]) -> float | None:
        return _each(lambda packet: gate.inspect(packet, now=_NOW), packets)

    stranger = _keys(kind)
    good = [_packet(_knock(everybody[-1])) for _ in range(_DIFFERENT)]
    return {
        "sealed_size": look([_packet(os.urandom(wire.SIZE)) for _ in range(_DIFFERENT)]),
        "looks_like_one": look([_packet(_knock(stranger)) for _ in range(_DIFFERENT)]),
        "knock": _once(lambda packet: gate.inspect(packet, now=_NOW), good),
        "replay": look(good),
    }


def _keys(kind: str) -> FwknopKeys:
    return FwknopKeys(key=os.urandom(32), hmac_key=None if kind == "none" else os.urandom(64), hmac=kind)


def _knock(keys: FwknopKeys) -> bytes:
    random = f"{int.from_bytes(os.urandom(7)) % 10**16:016}"
    said = Message("alice", _NOW, Kind.ACCESS, "0.0.0.0,tcp/22", None, None, random)
    return envelope.seal(said, keys, salt=os.urandom(8))


def _packet(payload: bytes) -> bytes:
    return udp(payload, source=CLIENT[4], target=SERVER[4], ports=(40000, 62201))


def _once(do: Callable[[bytes], object], packets: Sequence[bytes]) -> float | None:
    """Time each packet once; return the median, in seconds."""
    times = []
    for packet in packets:
        begin = time.perf_counter()
        do(packet)
        times.append(time.perf_counter() - begin)
    return figures.median(times)


def _each(do: Callable[[bytes], object], packets: Sequence[bytes]) -> float | None:
    """Time all packets again and again for a while; return the median for one of them."""
    times = []
    end = time.perf_counter() + _SECONDS
    while (begin := time.perf_counter()) < end:
        for packet in packets:
            do(packet)
        times.append((time.perf_counter() - begin) / len(packets))
    return figures.median(times)
