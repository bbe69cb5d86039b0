"""The gate: verdict, reason and effect for every kind of packet, as a table; and no packet makes it raise."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.allowlist import Allowlist
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.model import Admit, Grant, Reason, Revoke, Verdict
from gatekeeper.networks import Source
from gatekeeper.replay import ReplayMemory
from gatekeeper.settings import Client, Guard, Ports, Rules, Service, Transport
from tests.packets import ACK, CLIENT, RST, SERVER, SYN, ip, tcp, udp

NOW = 1_800_000_000.0
RULES = Rules(
    services={
        "ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600),
        "vpn": Service("vpn", (Ports(Transport.UDP, 51820),), None),
    },
    clients={
        "laptop": Client(name="laptop", services=("ssh", "vpn"), open_key=b"open_sesame", close_key=b"close_sesame")
    },
)


def source(version: int) -> Source:
    return ip_network(CLIENT[version])


def gate(*grants: Grant) -> Gate:
    replays = ReplayMemory()
    return Gate(RULES, enabled(RULES, (), now=NOW), Allowlist(grants), replays=replays)


PACKETS = [
    ("open", lambda v: udp(b"open_sesame", version=v), Verdict.DROP, Reason.OPENED),
    ("close", lambda v: udp(b"close_sesame", version=v), Verdict.DROP, Reason.CLOSED),
    ("junk", lambda v: udp(b"junk", version=v), Verdict.DROP, Reason.UNKNOWN_KEY),
    ("empty", lambda v: udp(b"", version=v), Verdict.DROP, Reason.UNKNOWN_KEY),
    ("service not allowed", lambda v: udp(b"open_sesame db", version=v), Verdict.DROP, Reason.SERVICE_NOT_ALLOWED),
    ("bad checksum", lambda v: udp(b"open_sesame", version=v, good=False), Verdict.DROP, Reason.BAD_CHECKSUM),
    ("syn", lambda v: tcp(SYN, version=v), Verdict.HOLD, Reason.NO_GRANT),
    ("ack", lambda v: tcp(ACK, version=v), Verdict.DROP, Reason.NO_GRANT_MIDSTREAM),
    ("rst", lambda v: tcp(RST, version=v), Verdict.DROP, Reason.NO_GRANT_MIDSTREAM),
    ("udp service", lambda v: udp(b"hello", version=v, port=51820), Verdict.HOLD, Reason.NO_GRANT),
    ("another port", lambda v: tcp(SYN, version=v, port=23), Verdict.DROP, Reason.NOT_GUARDED),
    ("another transport", lambda v: udp(b"open_sesame", version=v, port=22), Verdict.DROP, Reason.NOT_GUARDED),
    ("knock by tcp", lambda v: tcp(SYN, version=v, port=62201), Verdict.DROP, Reason.NOT_GUARDED),
    ("cut short", lambda v: tcp(SYN, version=v)[:30], Verdict.DROP, Reason.MALFORMED),
    ("icmp", lambda v: ip(v, 1, b"\x08\x00" + b"\x00" * 20), Verdict.DROP, Reason.NOT_GUARDED),
]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("name", "packet", "verdict", "reason"), PACKETS, ids=[row[0] for row in PACKETS])
def test_without_a_grant(version: int, name: str, packet: object, verdict: Verdict, reason: Reason) -> None:
    decision = gate().inspect(packet(version), now=NOW)  # type: ignore[operator]
    assert (decision.verdict, decision.reason) == (verdict, reason), name
    assert (decision.effect is not None) is (reason in {Reason.OPENED, Reason.CLOSED})


@pytest.mark.parametrize("version", [4, 6])
def test_a_knock_opens_all_that_its_client_may_for_its_source(version: int) -> None:
    decision = gate().inspect(udp(b"open_sesame", version=version), now=NOW)
    expected = (Grant(source(version), "ssh", "laptop", NOW + 3600), Grant(source(version), "vpn", "laptop", None))
    assert decision.effect == Admit(expected)
    assert decision.client == "laptop"


def test_a_knock_that_names_a_service_opens_and_closes_that_one() -> None:
    opened = gate().inspect(udp(b"open_sesame vpn"), now=NOW)
    assert opened.effect == Admit((Grant(source(4), "vpn", "laptop", None),))
    closed = gate().inspect(udp(b"close_sesame vpn"), now=NOW)
    assert closed.effect == Revoke(source(4), "laptop", ("vpn",))


@pytest.mark.parametrize("version", [4, 6])
def test_a_granted_source_is_given_back_and_never_accepted(version: int) -> None:
    """Not even an allowlist that is out of date can let a packet in: the kernel judges it again."""
    open_gate = gate(Grant(source(version), "ssh", "laptop", NOW + 1))
    for flags in (SYN, ACK):
        decision = open_gate.inspect(tcp(flags, version=version), now=NOW)
        assert (decision.verdict, decision.reason) == (Verdict.REPEAT, Reason.GRANTED)
    late = open_gate.inspect(tcp(SYN, version=version), now=NOW + 1)
    assert late.verdict is Verdict.HOLD
    other = open_gate.inspect(udp(b"x", version=version, port=51820), now=NOW)
    assert other.verdict is Verdict.HOLD


@pytest.mark.parametrize("address", ["fe80::77", "169.254.7.7"])
def test_a_link_local_sender_is_refused(address: str) -> None:
    """The kernel's sets know no interfaces: its grant would also be its namesake's on every other link."""
    raw = udp(b"open_sesame", version=6 if ":" in address else 4, source=address)
    decision = gate().inspect(raw, now=NOW)
    assert (decision.reason, decision.effect) == (Reason.LINK_LOCAL, None)


@given(st.binary(max_size=150))
def test_no_bytes_make_the_gate_raise_or_open(raw: bytes) -> None:
    decision = gate().inspect(raw, now=NOW)
    assert decision.effect is None


@given(st.binary(max_size=80), st.sampled_from([4, 6]), st.sampled_from([6, 17]), st.sampled_from([22, 51820, 62201]))
def test_no_bytes_behind_our_ports_make_the_gate_raise_or_open(
    body: bytes, version: int, protocol: int, port: int
) -> None:
    raw = ip(version, protocol, body[:2] + port.to_bytes(2) + body[2:])
    decision = gate().inspect(raw, now=NOW)
    assert decision.effect is None
    assert decision.verdict in {Verdict.DROP, Verdict.HOLD}


@given(st.integers(0, 8 * 47), st.sampled_from([4, 6]))
def test_no_flipped_bit_of_a_knock_opens_for_another_than_its_sender(bit: int, version: int) -> None:
    """A knock with one bit flipped is refused: by its key, its headers or its checksum."""
    raw = bytearray(udp(b"open_sesame", version=version))
    bit %= len(raw) * 8
    raw[bit // 8] ^= 1 << bit % 8
    decision = gate().inspect(bytes(raw), now=NOW)
    if decision.effect is not None:  # a bit that no checksum of UDP's covers, and that means nothing to us
        assert isinstance(decision.effect, Admit)
        assert {grant.source for grant in decision.effect.grants} == {source(version)}


@pytest.mark.parametrize("guard", [Guard.FORWARD, Guard.PUBLISHED])
def test_what_has_no_socket_here_is_entered_by_a_syn_alone(guard: Guard) -> None:
    """Whatever is granted: a stream that was cut has nothing else that would keep it from going on."""
    places = tuple(ip_address(one) for one in SERVER.values()) if guard is Guard.FORWARD else ()
    service = Service("ssh", (Ports(Transport.TCP, 22), Ports(Transport.UDP, 53)), 60, addresses=places, guard=guard)
    rules = replace(RULES, services={"ssh": service})
    for version in (4, 6):
        allowlist = Allowlist([Grant(source(version), "ssh", "laptop", None)])
        one = Gate(rules, enabled(rules, (), now=NOW), allowlist, replays=ReplayMemory())
        assert one.inspect(tcp(ACK, version=version), now=NOW).reason is Reason.NO_GRANT_MIDSTREAM
        assert one.inspect(tcp(SYN, version=version), now=NOW).reason is Reason.GRANTED
        assert one.inspect(udp(b"x", port=53, version=version), now=NOW).reason is Reason.GRANTED
