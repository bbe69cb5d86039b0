"""A gate for one laptop and its sealed knocks, and the knocks: what the tests beside it share."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

from gatekeeper.allowlist import Allowlist
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.knocks.sealed import SealedKnocks
from gatekeeper.model import Datagram, Decision, Floor, Reason
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys, wire
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport
from tests.vectors.sealed import make

NOW = 1_800_000_000.0
SECOND = 10**9
HOME, AWAY = "192.0.2.7", "198.51.100.66"
SERVICES = {
    "ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600, 86400),
    "web": Service("web", (Ports(Transport.TCP, 443),), 600),
    "db": Service("db", (Ports(Transport.TCP, 5432),), None),
}
DESK = Client(name="desk", services=("db",), keys=(keys.public_of(bytes(range(0x80, 0xA0))),))


class Door:
    """A gate with its memory, for one laptop and one server key."""

    def __init__(self, *clients: Client, ack: bool = False, skew: int = 120, until: float | None = None) -> None:
        known = clients or (Client(name="laptop", services=("ssh", "web"), keys=(make.CLIENT_PUBLIC,)),)
        self.rules = Rules(SERVICES, {one.name: one for one in (*known, DESK)}, ack=ack, skew=skew)
        self.replays = ReplayMemory(skew=skew)
        formats = enabled(self.rules, (ServerKey(make.SERVER, until),), now=NOW)
        self.gate = Gate(self.rules, formats, Allowlist(()), replays=self.replays)
        assert isinstance(formats[0], SealedKnocks)
        self.format = formats[0]

    def judge(self, raw: bytes, source: str = HOME, now: float = NOW) -> Decision:
        return self.gate.judge(datagram(raw, source), now=now)

    def reason(self, raw: bytes, source: str = HOME, now: float = NOW) -> Reason:
        return self.judge(raw, source, now).reason

    def memory(self) -> dict[bytes, tuple[Floor, set[int]]]:
        return {key: (one.floor, set(one.spent)) for key, one in self.replays._keys.items()}


def datagram(raw: bytes, source: str = HOME) -> Datagram:
    return Datagram(ip_address(source), ip_address("192.0.2.1"), 40000, 62201, raw)


def seal(after: float = 0.0, **said: Any) -> bytes:
    """Seal a fresh knock of the laptop's, sent so many seconds from now."""
    payload = wire.Payload(action=wire.OPEN, sent_at=int(NOW) * SECOND + round(after * SECOND))
    for name, value in said.items():
        setattr(payload, name, value)
    return wire.Sealer(make.CLIENT, make.SERVER_PUBLIC).seal(payload, os.urandom(32), now=NOW)[0]


def address(text: str) -> bytes:
    return wire.pack_address(ip_address(text).packed)
