"""Fuzzes the gate with knocks that are nearly good: no bytes make it raise, and none but a whole knock opens.

``scripts/fuzz`` runs it. The fuzzer's bytes are read in one of these ways (the first byte says which):

- as a datagram, or as a whole IP packet, as they are;
- over a good knock, so that most of it stays good; in a UDP packet of IPv4 or IPv6 too, where also its
  headers are changed;
- behind tags that are right and before a mac that is right, so that the seal alone stands in their way;
- inside a seal that is right, as a client that has a key may send them: what opens then was asked for.

The first three may open nothing but what the good knock is for: it names its address.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from tests.fuzz.harness import changed, expect, fuzz, instrumented

with instrumented(__name__):
    from gatekeeper.allowlist import Allowlist
    from gatekeeper.gate import Gate
    from gatekeeper.knocks import enabled
    from gatekeeper.model import Admit, Datagram, Decision, Reason, Revoke, Verdict
    from gatekeeper.networks import host
    from gatekeeper.replay import ReplayMemory
    from gatekeeper.sealed import keys, wire
    from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport

from tests.packets import CLIENT, udp

NOW = 1_800_000_000.0
SERVER_PRIVATE, CLIENT_PRIVATE = bytes(range(0x65, 0x85)), bytes(range(0x01, 0x21))
SERVER, SENDER = keys.public_of(SERVER_PRIVATE), keys.public_of(CLIENT_PRIVATE)
TAG_KEY = wire.tag_key(keys.exchange(CLIENT_PRIVATE, SERVER))
SEALER = wire.Sealer(CLIENT_PRIVATE, SERVER)
SERVICES = {
    "ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600, 86400),
    "web": Service("web", (Ports(Transport.TCP, 443),), None),
    "db": Service("db", (Ports(Transport.TCP, 5432),), None),
}
RULES = Rules(
    SERVICES,
    {
        "laptop": Client(name="laptop", services=("ssh", "web"), keys=(SENDER,), for_others=True),
        "desk": Client(name="desk", services=("db",), open_key=b"a plain key that nothing here contains"),
    },
    ack=True,
)
MAY = {"ssh", "web"}
REPLAYS = ReplayMemory()
GATE = Gate(RULES, enabled(RULES, (ServerKey(SERVER_PRIVATE),), now=NOW), Allowlist(()), replays=REPLAYS)
TARGET = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
REFUSALS = set(list(Reason)[list(Reason).index(Reason.NO_GRANT) :])


def knock(version: int) -> bytes:
    """Seal a good knock that names the address of the version's client."""
    said = wire.Payload(
        action=wire.OPEN,
        ttl=60,
        sent_at=int(NOW) * 10**9,
        address=wire.pack_address(ip_address(CLIENT[version]).packed),
        service=wire.service_id("ssh"),
    )
    return SEALER.seal(said, bytes([version]) * 32, now=NOW)[0]


GOOD = {version: knock(version) for version in (4, 6)}
PACKETS = {version: udp(GOOD[version], version=version) for version in (4, 6)}


def judge(payload: bytes, version: int) -> Decision:
    """Ask the gate about a datagram; nothing is spent before."""
    REPLAYS._lately.clear()  # nothing was spent before
    REPLAYS.replace(0, {})
    source, target = ip_address(CLIENT[version]), TARGET[version]
    return GATE.judge(Datagram(source, target, 40000, 62201, payload), now=NOW)


def inspect(raw: bytes) -> Decision:
    """Ask the gate about a packet; nothing is spent before."""
    REPLAYS._lately.clear()  # nothing was spent before
    REPLAYS.replace(0, {})
    return GATE.inspect(raw, now=NOW)


def is_for(decision: Decision, address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an effect is that of the good knock, for its address."""
    effect = decision.effect
    return isinstance(effect, Admit) and [(one.source, one.service, one.client) for one in effect.grants] == [
        (host(address), "ssh", "laptop")
    ]


def opens_only_what_it_names(raw: bytes) -> None:
    """Hand the gate a packet: where that opens, a good knock is in it, and its address is the one that is let in."""
    decision = inspect(raw)
    if decision.effect is not None:
        whole = [version for version, good in GOOD.items() if good in raw]
        expect(holds=any(is_for(decision, ip_address(CLIENT[one])) for one in whole), what="a packet has an effect")
    else:
        expect(holds=decision.reason in REFUSALS, what="a packet without effect is not refused")


def as_it_is(data: bytes, version: int) -> None:
    """Take the bytes for a datagram, and for a packet."""
    decision = judge(data, version)
    expect(holds=decision.effect is None or data in GOOD.values(), what="junk has an effect")
    opens_only_what_it_names(data)


def over_a_knock(data: bytes, version: int) -> None:
    """Change a good knock; whatever differs has no effect."""
    payload = changed(GOOD[version], data)
    decision = judge(payload, version)
    if payload == GOOD[version]:
        expect(holds=is_for(decision, ip_address(CLIENT[version])), what="a good knock is not opened")
    else:
        expect(holds=decision.effect is None, what="a changed knock has an effect")
        expect(holds=decision.reason in REFUSALS, what="a changed knock is not refused")
    inspected = inspect(udp(payload, version=version))
    expect(holds=(inspected.effect is None) is (decision.effect is None), what="a packet is judged otherwise")


def over_a_packet(data: bytes, version: int) -> None:
    """Change a packet with a good knock, headers and all: it opens for the address that it names, or nothing."""
    opens_only_what_it_names(changed(PACKETS[version], data))


def behind_tags(data: bytes, version: int) -> None:
    """Put the bytes where the seal is, with tags and a mac that are right."""
    body = data[:96].ljust(96, b"\0") if data[:1] < b"\x80" else changed(GOOD[version][12:108], b"\x80" + data)
    payload = GOOD[version][:12] + body
    payload += wire.mac(TAG_KEY, payload)
    decision = judge(payload, version)
    if payload != GOOD[version]:
        expect(holds=decision.effect is None, what="a broken seal has an effect")
        expect(holds=decision.reason in {Reason.BAD_SEAL, Reason.LOW_ORDER}, what="a broken seal is not told")


def inside_a_seal(data: bytes, version: int) -> None:
    """Seal the bytes: a client that has a key gets what it may, and nothing else."""
    inside = (wire.Payload(action=1, sent_at=int(NOW) * 10**9).pack() if data[:1] < b"\x80" else bytes(48)).ljust(48)
    mixed = bytes(a ^ b for a, b in zip(inside, data[1:49].ljust(48, b"\0"), strict=True))
    said = wire.Payload.unpack(mixed)
    decision = judge(SEALER.seal(said, bytes(range(32)), now=NOW)[0], version)
    effect = decision.effect
    if effect is None:
        expect(holds=decision.reason in REFUSALS, what="a knock without effect is not refused")
        return
    expect(holds=said.flags == said.reserved == 0, what="unknown fields have an effect")
    expect(holds=abs(said.sent_at / 1e9 - NOW) <= RULES.skew, what="a knock of another time has an effect")
    expect(holds=decision.client == "laptop", what="a knock is another client's")
    if isinstance(effect, Revoke):
        expect(holds=said.action == wire.CLOSE, what="a close was not asked for")
        expect(holds=effect.services is not None and set(effect.services) <= MAY, what="a close of others")
        expect(holds=effect.client == "laptop", what="a close of another's grants")
    else:
        expect(holds=said.action == wire.OPEN, what="an opening was not asked for")
        expect(holds={grant.service for grant in effect.grants} <= MAY, what="a service of others is opened")
        sources = {grant.source for grant in effect.grants}
        named = ip_address(wire.unpack_address(said.address))
        own = ip_address(CLIENT[version]) if said.address == wire.ANY_ADDRESS else named
        expect(holds=sources == {host(own)}, what="opened for an address that was not named")
        ends = [grant.expires_at for grant in effect.grants if grant.service == "ssh"]
        expect(holds=all(end is not None and end <= NOW + 86400 for end in ends), what="open for too long")
    expect(holds=decision.verdict is Verdict.DROP, what="a knock is let through")
    if decision.answer is not None:
        expect(holds=len(decision.answer.write(bytes(range(32)))) == wire.ANSWER_SIZE, what="an answer's size")


WAYS = (as_it_is, over_a_knock, over_a_packet, behind_tags, inside_a_seal)


def one_input(data: bytes) -> None:
    """Run one input of the fuzzer's."""
    if len(data) < 3:
        as_it_is(data, 4)
        return
    WAYS[data[0] % len(WAYS)](data[2:], 4 if data[1] & 1 else 6)


def seeds() -> list[bytes]:
    """Return inputs to begin with: good knocks, packets and payloads."""
    start = [bytes([way, version]) for way in range(len(WAYS)) for version in (0, 1)]
    fields = struct.pack("!BBHIQ", 3, 0, 0, 60, 1) + bytes(32)
    tails = [b"\x80", b"\x00" + fields, b"\x80" + fields, b"\xc0\x05\x01", *GOOD.values(), *PACKETS.values()]
    return [head + tail for head in start for tail in tails]


if __name__ == "__main__":
    fuzz(one_input, seeds())
