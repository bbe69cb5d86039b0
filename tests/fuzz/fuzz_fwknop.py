"""Fuzzes the gate with knocks of fwknop's that are nearly good: no bytes make it raise, and none but a whole one opens.

``scripts/fuzz`` runs it. The fuzzer's bytes are read in one of these ways (the first byte says which):

- as a datagram, or as a whole IP packet, as they are;
- over a good knock, so that most of it stays good;
- as a body, with an HMAC behind it that is right: only the encryption stands in their way;
- as a message, encrypted, with an HMAC that is right: only the digest does;
- as fields, with a digest that is right: as a client that has the keys may write them. What opens then was asked for.
"""

from __future__ import annotations

import base64
from ipaddress import ip_address

from tests.fuzz.harness import changed, expect, fuzz, instrumented

with instrumented(__name__):
    from gatekeeper.allowlist import Allowlist
    from gatekeeper.fwknop import envelope
    from gatekeeper.fwknop.message import Kind, Message, pack
    from gatekeeper.fwknop.text import unpadded
    from gatekeeper.gate import Gate
    from gatekeeper.knocks import enabled
    from gatekeeper.model import Admit, Datagram, Decision, Reason, Verdict
    from gatekeeper.networks import host
    from gatekeeper.replay import ReplayMemory
    from gatekeeper.settings import Client, FwknopKeys, Ports, Rules, Service, Transport

from tests.fwknop.written import HMAC_KEY, KEY, KEYS, around, fields, resealed
from tests.packets import CLIENT, udp

NOW = 1_800_000_000.0
SERVICES = {
    "ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600, 86400),
    "web": Service("web", (Ports(Transport.TCP, 443), Ports(Transport.UDP, 5000, 5010)), None),
    "db": Service("db", (Ports(Transport.TCP, 5432),), None),
}
MAY = {"ssh", "web"}
OTHER = FwknopKeys(key=b"without an HMAC", hmac="none", mode="ctr")
RULES = Rules(
    SERVICES,
    {
        "old": Client(name="old", services=("ssh", "web"), fwknop=KEYS, for_others=True),
        "older": Client(name="older", services=("db",), fwknop=OTHER),
    },
)
REPLAYS = ReplayMemory()
GATE = Gate(RULES, enabled(RULES, (), now=NOW), Allowlist(()), replays=REPLAYS)
SOURCE = ip_address(CLIENT[4])
SAID = Message("alice", int(NOW), Kind.TIMED_ACCESS, f"{SOURCE},tcp/22", None, 60, "1234567890123456")
GOOD = envelope.seal(SAID, KEYS, salt=bytes(8))
PLAINTEXT = pack(SAID)
REFUSALS = set(list(Reason)[list(Reason).index(Reason.NO_GRANT) :])


def judge(payload: bytes) -> Decision:
    """Ask the gate about a datagram, and about a packet with it; nothing is spent before, and both say the same."""
    REPLAYS._lately.clear()
    REPLAYS.replace(0, {})
    decision = GATE.judge(Datagram(SOURCE, ip_address("192.0.2.1"), 40000, 62201, payload), now=NOW)
    REPLAYS._lately.clear()
    REPLAYS.replace(0, {})
    inspected = GATE.inspect(udp(payload), now=NOW)
    expect(holds=(inspected.effect is None) is (decision.effect is None), what="a packet is judged otherwise")
    expect(holds=decision.verdict is Verdict.DROP, what="a knock is let through")
    if decision.effect is None:
        expect(holds=decision.reason in REFUSALS, what="a knock without effect is not refused")
    return decision


def is_good(decision: Decision) -> bool:
    """Tell whether an effect is that of the good knock."""
    effect = decision.effect
    return isinstance(effect, Admit) and [(one.source, one.service, one.client) for one in effect.grants] == [
        (host(SOURCE), "ssh", "old")
    ]


def as_it_is(data: bytes) -> None:
    """Take the bytes for a datagram, and for a packet."""
    expect(holds=judge(data).effect is None or data == GOOD, what="junk has an effect")
    REPLAYS.replace(0, {})
    decision = GATE.inspect(data, now=NOW)
    expect(holds=decision.effect is None or GOOD in data, what="a packet of junk has an effect")


def over_a_knock(data: bytes) -> None:
    """Change a good knock; whatever differs has no effect."""
    payload = changed(GOOD, data)
    decision = judge(payload)
    expect(holds=is_good(decision) if payload == GOOD else decision.effect is None, what="a changed knock")


def as_a_body(data: bytes) -> None:
    """Put an HMAC that is right behind them: in base64 and as they are, and behind a salt."""
    body = GOOD[: len(GOOD) - 43]
    for one in (data, unpadded(b"Salted__" + data).removeprefix(envelope.PREFIX), changed(body, data)):
        decision = judge(resealed(one))
        expect(holds=decision.effect is None or (one == body and is_good(decision)), what="a broken body opens")


def as_a_message(data: bytes) -> None:
    """Encrypt them, also over a good message: the digest does not fit."""
    for one in (data, changed(PLAINTEXT, data)):
        decision = judge(around(one, digest=False))
        expect(holds=decision.effect is None or one == PLAINTEXT, what="a message without its digest opens")


def as_fields(data: bytes) -> None:
    """Write them as who has the keys may: what opens is what may be had."""
    whole = PLAINTEXT.rpartition(b":")[0]
    for one in (
        data,
        changed(whole, data),
        fields(NOW, text=unpadded(data)),
        fields(NOW, text=unpadded(b"0.0.0.0," + data)),
    ):
        decision = judge(around(one))
        effect = decision.effect
        if effect is None:
            continue
        expect(holds=isinstance(effect, Admit), what="something else than an opening")
        assert isinstance(effect, Admit)  # for the type checker
        expect(holds=decision.client == "old", what="another client's")
        expect(holds={grant.service for grant in effect.grants} <= MAY, what="a service of others is opened")
        expect(holds=all(grant.source.num_addresses == 1 for grant in effect.grants), what="wider than asked for")
        ends = [grant.expires_at for grant in effect.grants if grant.service == "ssh"]
        expect(holds=all(end is not None and end <= NOW + 86400 for end in ends), what="open for too long")


WAYS = (as_it_is, over_a_knock, as_a_body, as_a_message, as_fields)


def one_input(data: bytes) -> None:
    """Run one input of the fuzzer's."""
    if len(data) < 2:
        as_it_is(data)
        return
    WAYS[data[0] % len(WAYS)](data[1:])


def seeds() -> list[bytes]:
    """Return inputs to begin with: good knocks, bodies, messages and fields."""
    salted = base64.b64decode(envelope.PREFIX + GOOD[:181] + b"==", validate=False)
    texts = [b"0.0.0.0,tcp/22", b"192.0.2.7,tcp/22,udp/5003", b"tcp/443", PLAINTEXT, PLAINTEXT.rpartition(b":")[0]]
    tails = [b"\x80", b"\x80\x05\x01", b"\xc0\x05\x01", b"\x03AAA", GOOD, salted, KEY + HMAC_KEY, udp(GOOD), *texts]
    return [bytes([way]) + tail for way in range(len(WAYS)) for tail in tails]


if __name__ == "__main__":
    fuzz(one_input, seeds())
