"""The Scapy layers: what the shell shows, and that what it builds is what the server reads."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from gatekeeper.allowlist import Allowlist
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.model import Admit, Decision, Grant, Reason
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys, wire
from gatekeeper.sealed.layer import SealedKnock, SealedPayload
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport
from tests.packets import CLIENT, SERVER, udp
from tests.vectors.sealed import make

NOW = 1_800_000_000.0
WORKED = make.VECTORS["open-worked"].datagram("open-worked")
SAID = {"ttl": 1800, "sent_at": int(NOW) * 10**9 + 42, "address": "::ffff:192.0.2.7", "service": wire.service_id("ssh")}


def inspect(raw: bytes, now: float = NOW) -> Decision:
    laptop = Client(name="laptop", services=("ssh",), keys=(make.CLIENT_PUBLIC,), open_key=b"open_sesame")
    rules = Rules({"ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600)}, {"laptop": laptop})
    replays = ReplayMemory()
    formats = enabled(rules, (ServerKey(make.SERVER),), now=now)
    return Gate(rules, formats, Allowlist(()), replays=replays).inspect(raw, now=now)


def seal(payload: SealedPayload, now: float | None = NOW) -> SealedKnock:
    return SealedKnock.seal(payload, private=make.CLIENT, server=make.SERVER_PUBLIC, now=now)


def test_a_knock_is_shown_field_by_field() -> None:
    shown = SealedKnock(WORKED).show(dump=True)
    for name, value in {"door_tag": "409477fd", "client_tag": "02cb562e5a99a46f", "mac": "b7628e61e7"}.items():
        line = next(line for line in shown.splitlines() if line.split("=")[0].strip() == name)
        assert value in line.replace(" ", "")


def test_the_worked_vector_is_taken_apart_and_put_together_again() -> None:
    knock = SealedKnock(WORKED)
    assert bytes(knock) == WORKED
    fields = (knock.door_tag, knock.client_tag, knock.e, knock.ciphertext, knock.mac)
    assert [len(one) for one in fields] == [4, 8, 32, 64, 8]
    assert bytes(
        SealedKnock(**dict(zip(("door_tag", "client_tag", "e", "ciphertext", "mac"), fields, strict=True)))
    ) == (WORKED)


def test_the_seal_is_opened_and_what_is_inside_is_shown() -> None:
    inside = SealedKnock(WORKED).unseal(private=make.SERVER, client=make.CLIENT_PUBLIC)
    assert {name: getattr(inside, name) for name in SAID} == SAID | {"address": "::ffff:192.0.2.7"}
    shown = inside.show(dump=True)
    assert "action" in shown
    assert "= open" in shown
    assert "192.0.2.7" in shown
    assert "1800" in shown
    assert bytes(inside) == make.payload(ttl=1800, sent_at=int(NOW) * 10**9 + 42, address="192.0.2.7", service="ssh")


def test_the_worked_vector_is_sealed() -> None:
    knock = SealedKnock.seal(
        SealedPayload(**SAID), private=make.CLIENT, server=make.SERVER_PUBLIC, ephemeral=make.EPHEMERAL, now=NOW
    )
    assert bytes(knock) == WORKED


def test_the_seal_is_opened_for_nobody_else() -> None:
    for private, client in ((make.OTHER_SERVER, make.CLIENT_PUBLIC), (make.SERVER, make.OTHER_CLIENT_PUBLIC)):
        with pytest.raises(ValueError):
            SealedKnock(WORKED).unseal(private=private, client=client)


def test_a_changed_field_gets_a_mac_that_fits_and_is_then_refused_by_its_seal() -> None:
    knock = SealedKnock(WORKED)
    knock.ciphertext = bytes(64)
    assert inspect(udp(bytes(knock))).reason is Reason.BAD_MAC
    assert inspect(udp(bytes(knock.remac(private=make.CLIENT, server=make.SERVER_PUBLIC)))).reason is Reason.BAD_SEAL
    same = SealedKnock(WORKED).remac(private=make.CLIENT, server=make.SERVER_PUBLIC)
    assert bytes(same) == WORKED


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_of_these_layers_opens(version: int) -> None:
    ip = IP if version == 4 else IPv6
    knock = seal(SealedPayload(sent_at=int(NOW) * 10**9, ttl=60))
    raw = bytes(ip(src=CLIENT[version], dst=SERVER[version]) / UDP(sport=40000, dport=62201) / knock)
    decision = inspect(raw)
    assert decision.reason is Reason.OPENED
    assert isinstance(decision.effect, Admit)
    assert decision.effect.grants == (Grant(ip_network(CLIENT[version]), "ssh", "laptop", NOW + 60),)
    inner = ip(raw)[SealedKnock]
    assert inner.unseal(private=make.SERVER, client=make.CLIENT_PUBLIC).ttl == 60


def test_a_knock_without_a_time_is_sent_now_and_each_one_anew() -> None:
    payload = SealedPayload(address=str(ip_address(CLIENT[6])))
    before = time.time_ns()
    knocks = [seal(payload, None) for _ in range(2)]
    inside = [one.unseal(private=make.SERVER, client=make.CLIENT_PUBLIC) for one in knocks]
    assert before <= inside[0].sent_at < inside[1].sent_at <= time.time_ns()
    assert inspect(udp(bytes(knocks[0]), version=6), now=time.time()).reason is Reason.OPENED


def test_fields_that_no_client_writes_can_be_crafted() -> None:
    knock = seal(SealedPayload(action=7, flags=255, reserved=65535, sent_at=1))
    inside = knock.unseal(private=make.SERVER, client=make.CLIENT_PUBLIC)
    assert (inside.action, inside.flags, inside.reserved, inside.sent_at) == (7, 255, 65535, 1)


def test_other_knocks_are_still_read_where_these_layers_are_loaded() -> None:
    """They are bound to the knock port; what is no sealed knock survives being taken apart."""
    assert inspect(udp(b"open_sesame")).reason is Reason.OPENED
    for payload in (b"", b"x", b"open_sesame", bytes(115), bytes(117), bytes(1000)):
        assert bytes(IP(udp(payload))) == udp(payload)
        packet = IP(src=CLIENT[4], dst=SERVER[4]) / UDP(sport=1, dport=62201) / Raw(payload)
        assert bytes(packet).endswith(payload)


def test_what_is_too_short_is_not_unsealed() -> None:
    for length in (0, 1, 12, 44, 60, 107):
        with pytest.raises(ValueError):
            SealedKnock(WORKED[:length]).unseal(private=make.SERVER, client=make.CLIENT_PUBLIC)


def test_no_key_is_shown() -> None:
    shown = SealedKnock(WORKED).show(dump=True) + repr(seal(SealedPayload(sent_at=1)))
    assert keys.show(make.CLIENT) not in shown
