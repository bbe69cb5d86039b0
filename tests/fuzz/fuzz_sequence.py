"""Fuzzes the gate with packets to the ports of sequences: none makes it raise, all go on, and only whole ones open.

``scripts/fuzz`` runs it. The fuzzer's bytes are a history, three bytes for each packet: who sends it, to which port
with which flags, and how long after the one before; or (the first byte says so) one whole packet as it is. What opens
is held against all that was heard: the last packets of the sender must be the sequence, and none of them too old.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from tests.fuzz.harness import expect, fuzz, instrumented

with instrumented(__name__):
    from gatekeeper.allowlist import Allowlist
    from gatekeeper.gate import Gate
    from gatekeeper.knocks import enabled
    from gatekeeper.model import Admit, Decision, Revoke, Verdict
    from gatekeeper.networks import host
    from gatekeeper.replay import ReplayMemory
    from gatekeeper.settings import Client, Ports, Rules, Sequences, Service, Transport

from tests.packets import ACK, CLIENT, FIN, RST, SYN, tcp, udp

NOW = 1_800_000_000.0
WITHIN = 5
TCP, UDP = Transport.TCP, Transport.UDP
OPENS = (Ports(UDP, 7000), Ports(TCP, 8000), Ports(TCP, 9000))
CLOSES = tuple(reversed(OPENS))
RULES = Rules(
    {"ssh": Service("ssh", (Ports(TCP, 22),), 3600)},
    {"cam": Client(name="cam", services=("ssh",), sequences=Sequences(opens=(OPENS,), closes=CLOSES, within=WITHIN))},
)
SENDERS = ((4, CLIENT[4]), (4, "198.51.100.3"), (6, CLIENT[6]), (6, "2001:db8:c::3"))
PORTS = (*OPENS, Ports(TCP, 7000), Ports(UDP, 8000), Ports(TCP, 22))
FLAGS = (SYN, SYN, SYN | ACK, RST, FIN, ACK)
_STEP = 3


class Heard(NamedTuple):
    """A packet that may be a step."""

    sender: str
    port: Ports
    at: float


def gate() -> Gate:
    """Make one that has heard nothing."""
    return Gate(RULES, enabled(RULES, (), now=NOW), Allowlist(()), replays=ReplayMemory())


def is_whole(heard: list[Heard], sender: str, wanted: tuple[Ports, ...]) -> bool:
    """Tell whether the last packets of a sender are a sequence, and recent."""
    last = [one for one in heard if one.sender == sender][-len(wanted) :]
    return [one.port for one in last] == list(wanted) and last[-1].at - last[0].at <= WITHIN


def hold(decision: Decision, heard: list[Heard], sender: str) -> None:
    """Hold what was decided against what was heard."""
    effect = decision.effect
    if isinstance(effect, Admit):
        expect(holds=is_whole(heard, sender, OPENS), what="what is no sequence opens")
        expect(holds=[one.source for one in effect.grants] == [host(ip_address(sender))], what="for somebody else")
    elif isinstance(effect, Revoke):
        expect(holds=is_whole(heard, sender, CLOSES), what="what is no sequence closes")


def history(data: bytes) -> None:
    """Send packets one after the other."""
    one, now = gate(), NOW
    heard: list[Heard] = []
    for start in range(0, len(data) - _STEP + 1, _STEP):
        who, what, pause = data[start : start + _STEP]
        version, sender = SENDERS[who % len(SENDERS)]
        port, flags = PORTS[what % len(PORTS)], FLAGS[what // len(PORTS) % len(FLAGS)]
        now += pause / 64
        is_udp = port.transport is UDP
        raw = (
            udp(b"", version=version, port=port.first, source=sender)
            if is_udp
            else tcp(flags, version=version, port=port.first, source=sender)
        )
        is_step = port in OPENS and (is_udp or flags == SYN)
        if is_step:
            heard.append(Heard(sender, port, now))
        decision = one.inspect(raw, now=now)
        if port in OPENS:
            expect(holds=decision.verdict is Verdict.ACCEPT, what="a port of a sequence looks otherwise than before")
        expect(holds=is_step or decision.effect is None, what="what is no step has an effect")
        hold(decision, heard, sender)


def as_it_is(data: bytes) -> None:
    """Take the bytes for a packet, as the last of a sequence whose first ones were sent."""
    one = gate()
    for port in OPENS[:-1]:
        raw = udp(b"", port=port.first) if port.transport is UDP else tcp(SYN, port=port.first)
        one.inspect(raw, now=NOW)
    effect = one.inspect(data, now=NOW).effect
    expect(holds=effect is None or ip_address(CLIENT[4]).packed in data, what="a packet of somebody else's opens")


def one_input(data: bytes) -> None:
    """Run one input of the fuzzer's."""
    if data[:1] == b"\xff":
        as_it_is(data[1:])
    else:
        history(data)


def seeds() -> list[bytes]:
    """Return inputs to begin with: a sequence, one that is too slow, two senders, a close, and whole packets."""
    opening = bytes([0, 0, 1, 0, 1, 1, 0, 2, 1])
    closing = bytes([0, 2, 1, 0, 1, 1, 0, 0, 1])
    slow = bytes([0, 0, 255, 0, 1, 255, 0, 2, 255])
    mixed = bytes([0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 2, 0, 1, 0, 2, 1, 1, 2, 1])
    last = tcp(SYN, port=OPENS[-1].first)
    whole = [b"\xff" + one for one in (last, last[:39], udp(b"", port=7000), b"", last + bytes(8))]
    return [b"", opening, closing, slow, mixed, opening + closing, opening * 3, *whole]


if __name__ == "__main__":
    fuzz(one_input, seeds())
