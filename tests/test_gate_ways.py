"""The gate, where knocks come by echo requests and SYNs, at hours, for networks, or from where nobody is let in."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper import schedule
from gatekeeper.allowlist import Allowlist
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.model import Admit, Decision, Grant, Reason, Revoke, Verdict
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys, wire
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport, Via
from tests.packets import ACK, CLIENT, SYN, echo, ip, tcp, udp

WEDNESDAY = 1_795_564_800.0  # 2026-11-25 00:00 UTC
NOW = WEDNESDAY + 9 * 3600
KEY, CLOSE = b"open_sesame", b"close_sesame"
SSH = Service("ssh", (Ports(Transport.TCP, 22),), 3600)
WEB = Service("web", (Ports(Transport.TCP, 80, 89),), 3600)
LAPTOP = Client(name="laptop", services=("ssh",), open_key=KEY, close_key=CLOSE)
RULES = Rules(services={"ssh": SSH, "web": WEB}, clients={"laptop": LAPTOP}, via=frozenset(Via))


def gate(rules: Rules = RULES, *grants: Grant) -> Gate:
    return Gate(rules, enabled(rules, (), now=NOW), Allowlist(grants), replays=ReplayMemory())


def of(
    *, services: Mapping[str, object] | None = None, client: Mapping[str, object] | None = None, **more: object
) -> Gate:
    """Build a gate with other fields of ssh, of the laptop, or of the rules."""
    ssh = replace(SSH, **(services or {}))  # type: ignore[arg-type]
    laptop = replace(LAPTOP, **(client or {}))  # type: ignore[arg-type]
    return gate(replace(RULES, services={"ssh": ssh, "web": WEB}, clients={"laptop": laptop}, **more))  # type: ignore[arg-type]


def shown(decision: Decision) -> tuple[Verdict, Reason]:
    return decision.verdict, decision.reason


def granted(version: int, service: str = "ssh") -> Grant:
    return Grant(ip_network(CLIENT[version]), service, "laptop", None)


# -- echo requests


@pytest.mark.parametrize("version", [4, 6])
def test_an_echo_request_goes_on_whatever_it_bears(version: int) -> None:
    opened = gate().inspect(echo(KEY, version=version), now=NOW)
    assert shown(opened) == (Verdict.ACCEPT, Reason.OPENED)
    assert opened.effect == Admit((replace(granted(version), expires_at=NOW + 3600),))
    closed = gate().inspect(echo(bytes(16) + CLOSE * 5, version=version), now=NOW)
    assert shown(closed) == (Verdict.ACCEPT, Reason.CLOSED)
    assert isinstance(closed.effect, Revoke)
    for data in (b"", b"x" * 56, bytes(range(56)), b"open_sesamE", KEY[:-1]):
        assert shown(gate().inspect(echo(data, version=version), now=NOW)) == (Verdict.ACCEPT, Reason.ECHO)


@pytest.mark.parametrize("version", [4, 6])
def test_a_damaged_echo_request_opens_nothing_and_goes_on(version: int) -> None:
    decision = gate().inspect(echo(KEY, version=version, good=False), now=NOW)
    assert shown(decision) == (Verdict.ACCEPT, Reason.BAD_CHECKSUM)
    assert decision.effect is None


@pytest.mark.parametrize("version", [4, 6])
def test_where_the_rules_do_not_ask_for_them_they_are_not_ours(version: int) -> None:
    only_udp = gate(replace(RULES, via=frozenset({Via.UDP})))
    assert shown(only_udp.inspect(echo(KEY, version=version), now=NOW)) == (Verdict.DROP, Reason.NOT_GUARDED)
    syn = only_udp.inspect(tcp(SYN, version=version, payload=KEY), now=NOW)
    assert shown(syn) == (Verdict.HOLD, Reason.NO_GRANT)
    not_udp = gate(replace(RULES, via=frozenset({Via.ICMP}), knock_ports=()))
    assert shown(not_udp.inspect(udp(KEY, version=version), now=NOW)) == (Verdict.DROP, Reason.NOT_GUARDED)


# -- SYNs


@pytest.mark.parametrize("version", [4, 6])
def test_a_syn_with_a_key_is_given_back_once_it_is_carried_out(version: int) -> None:
    opened = gate().inspect(tcp(SYN, version=version, payload=KEY), now=NOW)
    assert shown(opened) == (Verdict.REPEAT, Reason.OPENED)
    assert opened.effect == Admit((replace(granted(version), expires_at=NOW + 3600),))
    back = gate().inspect(tcp(SYN, version=version, payload=KEY), now=NOW, is_back=True)
    assert shown(back) == (Verdict.HOLD, Reason.NO_GRANT)
    assert back.effect is None
    closed = gate().inspect(tcp(SYN, version=version, payload=CLOSE), now=NOW)
    assert shown(closed) == (Verdict.DROP, Reason.CLOSED)


@pytest.mark.parametrize("version", [4, 6])
def test_junk_in_a_syn_is_no_reason_to_treat_it_otherwise(version: int) -> None:
    junk = tcp(SYN, version=version, payload=b"GET /")
    assert shown(gate().inspect(junk, now=NOW)) == (Verdict.HOLD, Reason.NO_GRANT)
    assert shown(gate(RULES, granted(version)).inspect(junk, now=NOW)) == (Verdict.REPEAT, Reason.GRANTED)


@pytest.mark.parametrize("version", [4, 6])
def test_a_key_in_any_other_segment_is_no_knock(version: int) -> None:
    for packet in (
        tcp(ACK, version=version, payload=KEY),
        tcp(SYN | ACK, version=version, payload=KEY),
        tcp(SYN, version=version, payload=KEY, port=9),
    ):
        assert gate().inspect(packet, now=NOW).effect is None


def test_a_refused_knock_in_a_syn_does_not_keep_out_who_is_let_in() -> None:
    """A SYN that the network has doubled looks like a replay."""
    packet = tcp(SYN, payload=b"open_sesame nosuch")
    assert shown(gate().inspect(packet, now=NOW)) == (Verdict.DROP, Reason.SERVICE_NOT_ALLOWED)
    assert shown(gate(RULES, granted(4)).inspect(packet, now=NOW)) == (Verdict.REPEAT, Reason.GRANTED)


def test_a_syn_with_a_wrong_checksum_opens_nothing() -> None:
    raw = bytearray(tcp(SYN, payload=KEY))
    raw[36] ^= 1
    assert shown(gate().inspect(bytes(raw), now=NOW)) == (Verdict.DROP, Reason.BAD_CHECKSUM)


@given(st.binary(max_size=120), st.sampled_from([4, 6]), st.sampled_from([1, 6, 58]))
def test_no_bytes_make_the_gate_raise_or_open(body: bytes, version: int, protocol: int) -> None:
    decision = gate().inspect(ip(version, protocol, body), now=NOW)
    assert decision.effect is None
    if protocol == 6 and len(body) > 3:
        raw = ip(version, protocol, body[:2] + struct.pack("!H", 22) + body[4:])
        assert gate().inspect(raw, now=NOW).effect is None


# -- hours, networks, prefixes


@pytest.mark.parametrize("whose", ["service", "client"])
def test_outside_the_hours_nothing_opens_and_closing_goes_on(whose: str) -> None:
    hours = {"hours": (schedule.parse("Mon-Fri 10:00-18:00 UTC"),)}
    closed_now = of(services=hours) if whose == "service" else of(client=hours)
    assert shown(closed_now.inspect(udp(KEY), now=NOW)) == (Verdict.DROP, Reason.OUTSIDE_HOURS)
    assert closed_now.inspect(udp(KEY), now=NOW).client == "laptop"
    assert closed_now.inspect(udp(CLOSE), now=NOW).reason is Reason.CLOSED
    effect = closed_now.inspect(udp(KEY), now=WEDNESDAY + 17.5 * 3600).effect
    assert isinstance(effect, Admit)
    assert effect.grants[0].expires_at == WEDNESDAY + 18 * 3600


def test_a_knock_that_is_refused_for_the_hour_spends_nothing_and_can_come_again() -> None:
    later = of(services={"hours": (schedule.parse("Mon-Fri 10:00-18:00 UTC"),)})
    assert later.inspect(udp(KEY), now=NOW).effect is None
    assert later.inspect(udp(KEY), now=NOW + 3600).effect is not None


def test_of_several_services_those_open_whose_hours_it_is() -> None:
    both = {"services": ("ssh", "web")}
    some = of(services={"hours": (schedule.parse("Mon-Fri 10:00-18:00 UTC"),)}, client=both)
    effect = some.inspect(udp(KEY), now=NOW).effect
    assert isinstance(effect, Admit)
    assert [grant.service for grant in effect.grants] == ["web"]
    assert some.inspect(udp(KEY + b" ssh"), now=NOW).reason is Reason.OUTSIDE_HOURS


@pytest.mark.parametrize("version", [4, 6])
def test_who_is_never_let_in_can_neither_knock_nor_pass(version: int) -> None:
    banned = (ip_network(CLIENT[version]),)
    everywhere = of(services={"never": banned}, never=banned)
    for packet in (udp(KEY, version=version), udp(CLOSE, version=version)):
        assert shown(everywhere.inspect(packet, now=NOW)) == (Verdict.DROP, Reason.NEVER)
    assert everywhere.inspect(echo(KEY, version=version), now=NOW).effect is None
    assert shown(everywhere.inspect(tcp(SYN, version=version), now=NOW)) == (Verdict.DROP, Reason.NEVER)
    assert shown(everywhere.inspect(tcp(SYN, version=version, payload=KEY), now=NOW)) == (Verdict.DROP, Reason.NEVER)


def test_a_service_that_never_lets_someone_in_does_not_shut_the_others() -> None:
    some = of(services={"never": (ip_network(CLIENT[4]),)}, client={"services": ("ssh", "web")})
    effect = some.inspect(udp(KEY), now=NOW).effect
    assert isinstance(effect, Admit)
    assert [grant.service for grant in effect.grants] == ["web"]
    assert some.inspect(udp(KEY + b" ssh"), now=NOW).reason is Reason.NEVER
    assert some.inspect(udp(CLOSE), now=NOW).reason is Reason.CLOSED, "what was open before can be closed"


@pytest.mark.parametrize(("version", "expected"), [(4, "198.51.100.0/24"), (6, "2001:db8:c::/56")])
def test_a_prefix_opens_and_closes_the_network_of_the_sender(version: int, expected: str) -> None:
    wide = of(client={"prefixes": (24, 56)})
    opened = wide.inspect(udp(KEY, version=version), now=NOW).effect
    assert isinstance(opened, Admit)
    assert opened.grants[0].source == ip_network(expected)
    closed = wide.inspect(udp(CLOSE, version=version), now=NOW).effect
    assert isinstance(closed, Revoke)
    assert closed.source == ip_network(expected)


# -- what a sealed knock names


SERVER_KEY, DEVICE = keys.generate(), keys.generate()
OTHER = "192.0.2.99"


def sealed(*, address: str | None = None, way: Via = Via.UDP, **client: object) -> Decision:
    """Have a gate decide about a sealed knock, from the client's usual address."""
    laptop = Client(name="laptop", services=("ssh",), keys=(keys.public_of(DEVICE),), **client)  # type: ignore[arg-type]
    services = {"ssh": replace(SSH, never=(ip_network("203.0.113.0/24"),)), "web": WEB}
    rules = replace(RULES, clients={"laptop": laptop}, services=services, ack=True)
    the_gate = Gate(rules, enabled(rules, (ServerKey(SERVER_KEY),), now=NOW), Allowlist(()), replays=ReplayMemory())
    payload = wire.Payload(
        action=wire.OPEN,
        ttl=0,
        sent_at=int(NOW * 1e9),
        address=wire.ANY_ADDRESS if address is None else wire.pack_address(ip_address(address).packed),
        service=wire.ANY_SERVICE,
    )
    raw, _ = wire.Sealer(DEVICE, keys.public_of(SERVER_KEY)).seal(payload, keys.generate(), now=NOW)
    packets = {Via.UDP: udp(raw), Via.ICMP: echo(raw), Via.SYN: tcp(SYN, payload=raw)}
    return the_gate.inspect(packets[way], now=NOW)


def source_of(decision: Decision) -> str:
    assert isinstance(decision.effect, Admit)
    (grant,) = decision.effect.grants
    return str(grant.source)


def test_only_knocks_by_udp_are_answered() -> None:
    """An answer needs a port to go to."""
    assert sealed().answer is not None
    for way in (Via.ICMP, Via.SYN):
        decision = sealed(way=way)
        assert decision.effect is not None
        assert decision.answer is None


def test_a_prefix_is_for_the_sender_and_not_for_another_whom_a_knock_names() -> None:
    wide: dict[str, Any] = {"prefixes": (24, 56), "for_others": True}
    assert source_of(sealed(**wide)) == "198.51.100.0/24"
    assert source_of(sealed(address=CLIENT[4], **wide)) == "198.51.100.0/24", "its own address, named"
    assert source_of(sealed(address=OTHER, **wide)) == f"{OTHER}/32"


def test_a_knock_for_another_opens_nothing_for_whom_the_rules_never_let_in() -> None:
    assert sealed(address="203.0.113.7", for_others=True).reason is Reason.NEVER


# -- what is no knock


def test_data_to_a_udp_service_is_no_knock() -> None:
    vpn = Service("vpn", (Ports(Transport.UDP, 51820),), None)
    decision = gate(replace(RULES, services={"ssh": SSH, "vpn": vpn})).inspect(udp(KEY, port=51820), now=NOW)
    assert shown(decision) == (Verdict.HOLD, Reason.NO_GRANT)


def test_where_knocks_do_not_come_by_udp_their_port_is_like_any_other() -> None:
    by_echo = gate(replace(RULES, via=frozenset({Via.ICMP})))
    assert shown(by_echo.inspect(udp(KEY), now=NOW)) == (Verdict.DROP, Reason.NOT_GUARDED)


def test_a_syn_with_a_knock_that_is_refused_does_not_keep_out_who_needs_none() -> None:
    always = of(services={"always": (ip_network(CLIENT[4]),)})
    assert shown(always.inspect(tcp(SYN, payload=KEY + b" nosuch"), now=NOW)) == (Verdict.REPEAT, Reason.GRANTED)


def test_a_ping_of_which_the_queue_has_the_beginning_only_is_not_looked_at() -> None:
    assert shown(gate().inspect(echo(KEY * 355), now=NOW)) == (Verdict.ACCEPT, Reason.ECHO)
