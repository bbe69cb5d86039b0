"""Knocks of fwknop's clients at the gate: what opens, for whom, once; and why the others do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.allowlist import Allowlist
from gatekeeper.fwknop import cipher, envelope
from gatekeeper.fwknop.kinds import DIGESTS, MODES
from gatekeeper.fwknop.message import Kind
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled, stamp_keys
from gatekeeper.knocks.fwknop import FwknopKnocks
from gatekeeper.model import Admit, Datagram, Decision, Knock, Reason, Refusal
from gatekeeper.replay import ReplayMemory
from gatekeeper.settings import Client, FwknopKeys, Ports, Rules, Service, Transport
from tests.fwknop.written import HMAC_KEY, KEY, KEYS, around, b64, fields, packet, resealed
from tests.knocks.door import AWAY, HOME, NOW, SERVICES

OLD = Client(name="old", services=("ssh", "web"), fwknop=KEYS)
RANGE = Service("range", (Ports(Transport.TCP, 6000, 6010), Ports(Transport.UDP, 53)), 600)


class Door:
    """A gate with its memory, for clients of fwknop's."""

    def __init__(self, *clients: Client, skew: int = 120) -> None:
        known = {one.name: one for one in clients or (OLD,)}
        self.rules = Rules({**SERVICES, "range": RANGE}, known, skew=skew)
        formats = enabled(self.rules, (), now=NOW)
        self.format = next(one for one in formats if isinstance(one, FwknopKnocks))
        self.gate = Gate(self.rules, formats, Allowlist(()), replays=ReplayMemory(skew=skew))

    def judge(self, raw: bytes, source: str = HOME, now: float = NOW) -> Decision:
        return self.gate.judge(datagram(raw, source), now=now)

    def reason(self, raw: bytes, source: str = HOME, now: float = NOW) -> Reason:
        return self.judge(raw, source, now).reason


def datagram(raw: bytes, source: str = HOME) -> Datagram:
    return Datagram(ip_address(source), ip_address("192.0.2.1"), 40000, 62201, raw)


def opens(decision: Decision) -> list[tuple[str, str]]:
    assert isinstance(decision.effect, Admit), decision
    return [(str(one.source), one.service) for one in decision.effect.grants]


def until(decision: Decision) -> set[float | None]:
    assert isinstance(decision.effect, Admit), decision
    return {one.expires_at for one in decision.effect.grants}


# -- what opens


def test_it_opens_the_service_of_the_port_for_the_sender() -> None:
    decision = Door().judge(packet(NOW))
    assert opens(decision) == [(f"{HOME}/32", "ssh")]
    assert decision.client == "old"
    assert decision.reason is Reason.OPENED


def test_over_ipv6_it_opens_for_the_source_as_seen() -> None:
    assert opens(Door().judge(packet(NOW), "2001:db8::7")) == [("2001:db8::7/128", "ssh")]


@pytest.mark.parametrize(
    ("ports", "services"),
    [
        ("tcp/22", ["ssh"]),
        ("tcp/443,tcp/22", ["web", "ssh"]),
        ("tcp/22,tcp/22", ["ssh"]),
        ("tcp/6000,tcp/6010,udp/53", ["range"]),
        ("tcp/22,udp/53", ["ssh", "range"]),
    ],
)
def test_each_port_opens_the_service_that_guards_it(ports: str, services: list[str]) -> None:
    door = Door(replace(OLD, services=("ssh", "web", "range")))
    assert [service for _, service in opens(door.judge(packet(NOW, f"0.0.0.0,{ports}")))] == services


def test_a_port_that_two_of_its_services_guard_opens_both() -> None:
    """At different addresses, perhaps: the client does not say at which."""
    inner = Service("inner", (Ports(Transport.TCP, 22),), 600, addresses=(ip_address("192.0.2.2"),))
    client = replace(OLD, services=("ssh", "inner"))
    form = FwknopKnocks(Rules({**SERVICES, "inner": inner}, {"old": client}))
    knock = form.open(datagram(packet(NOW)), now=NOW)
    assert isinstance(knock, Knock)
    assert knock.services == ("ssh", "inner")


@pytest.mark.parametrize(("timeout", "seconds"), [(90, 90), (0, 3600), (9_999_999_999, 86400)])
def test_a_client_may_ask_for_how_long_up_to_what_the_service_allows(timeout: int, seconds: int) -> None:
    decision = Door().judge(packet(NOW, kind=Kind.TIMED_ACCESS, timeout=timeout))
    assert until(decision) == {NOW + seconds}


@pytest.mark.parametrize("kind", [Kind.LOCAL_NAT, Kind.TIMED_LOCAL_NAT])
@pytest.mark.parametrize(("text", "service"), [("0.0.0.0,tcp/50022", "ssh"), ("0.0.0.0,tcp/443", "web")])
def test_local_nat_opens_the_service_of_the_port_or_of_where_it_leads(kind: Kind, text: str, service: str) -> None:
    timeout = 60 if kind is Kind.TIMED_LOCAL_NAT else None
    decision = Door().judge(packet(NOW, text, kind=kind, nat="127.0.0.1,22", timeout=timeout))
    assert opens(decision) == [(f"{HOME}/32", service)]


@pytest.mark.parametrize("kind", DIGESTS)
@pytest.mark.parametrize("mode", MODES)
def test_each_kind_of_hmac_and_mode_is_read(kind: str, mode: str) -> None:
    keys = replace(KEYS, hmac=kind, mode=mode)
    assert Door(replace(OLD, fwknop=keys)).reason(packet(NOW, keys=keys)) is Reason.OPENED


@pytest.mark.parametrize("digest", DIGESTS)
def test_each_kind_of_digest_is_read(digest: str) -> None:
    assert Door().reason(packet(NOW, digest=digest)) is Reason.OPENED


def test_among_clients_of_all_kinds_each_is_known_by_its_keys() -> None:
    """Also where two share an HMAC key, and where some have none."""
    those = {
        **{kind: FwknopKeys(key=KEY, hmac_key=HMAC_KEY + kind.encode(), hmac=kind) for kind in DIGESTS},
        "shared": FwknopKeys(key=b"another", hmac_key=HMAC_KEY + b"sha256"),
        "none": FwknopKeys(key=b"of long ago", hmac="none"),
        "none2": FwknopKeys(key=b"of long before", hmac="none", mode="cfb"),
    }
    door = Door(*(Client(name=name, services=("ssh",), fwknop=keys) for name, keys in those.items()))
    for name, keys in those.items():
        assert door.judge(packet(NOW, keys=keys)).client == name


# -- why not


@pytest.mark.parametrize(
    ("said", "reason", "note"),
    [
        ({"text": "0.0.0.0,tcp/25"}, Reason.SERVICE_NOT_ALLOWED, "tcp/25"),
        ({"text": "0.0.0.0,tcp/22,tcp/25"}, Reason.SERVICE_NOT_ALLOWED, "tcp/25"),
        ({"text": "0.0.0.0,udp/22"}, Reason.SERVICE_NOT_ALLOWED, "udp/22"),
        ({"text": "0.0.0.0,tcp/5432"}, Reason.SERVICE_NOT_ALLOWED, "tcp/5432"),
        ({"text": "0.0.0.0,tcp/25", "kind": Kind.LOCAL_NAT, "nat": "127.0.0.1,24"}, Reason.SERVICE_NOT_ALLOWED, "25"),
        ({"text": "0.0.0.0,tcp/25", "kind": Kind.LOCAL_NAT, "nat": "somewhere"}, Reason.BAD_FIELDS, "no IPv4 address"),
        ({"text": "0.0.0.0"}, Reason.BAD_FIELDS, "no port"),
        ({"text": "2001:db8::7,tcp/22"}, Reason.BAD_FIELDS, "no IPv4 address"),
        ({"text": f"{AWAY},tcp/22"}, Reason.ADDRESS_MISMATCH, AWAY),
        ({"text": "0.0.0.0,id", "kind": Kind.COMMAND}, Reason.UNSUPPORTED, "command"),
        ({"kind": Kind.NAT, "nat": "192.168.10.2,22"}, Reason.UNSUPPORTED, "NAT access"),
        ({"kind": Kind.TIMED_NAT, "nat": "192.168.10.2,22", "timeout": 60}, Reason.UNSUPPORTED, "NAT access"),
    ],
)
def test_what_is_not_done_is_said(said: dict[str, Any], reason: Reason, note: str) -> None:
    text = said.pop("text", "0.0.0.0,tcp/22")
    decision = Door().judge(packet(NOW, text, **said))
    assert (decision.reason, decision.effect, decision.client) == (reason, None, "old")
    assert decision.note is not None
    assert note in decision.note


def test_a_user_that_the_rules_name_must_be_that_one() -> None:
    door = Door(replace(OLD, fwknop=replace(KEYS, user="alice")))
    decision = door.judge(packet(NOW, user="älice"))
    assert (decision.reason, decision.note) == (Reason.USER_NOT_ALLOWED, 'it says that it is from "älice"')
    assert door.reason(packet(NOW, user="alice")) is Reason.OPENED


def test_who_must_name_the_address_cannot_leave_it_to_the_server() -> None:
    door = Door(replace(OLD, must_bind=True))
    assert door.reason(packet(NOW)) is Reason.ADDRESS_MISSING
    assert door.reason(packet(NOW, f"{HOME},tcp/22")) is Reason.OPENED


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1"])
def test_who_may_open_for_others_may_not_for_an_address_that_is_nobodys(address: str) -> None:
    door = Door(replace(OLD, for_others=True))
    assert opens(door.judge(packet(NOW, f"{AWAY},tcp/22"))) == [(f"{AWAY}/32", "ssh")]
    assert door.reason(packet(NOW, f"{address},tcp/22")) is Reason.BAD_ADDRESS


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (replace(KEYS, key=b"another"), Reason.BAD_SEAL),
        (replace(KEYS, mode="ctr"), Reason.BAD_SEAL),
        (replace(KEYS, hmac_key=b"another"), Reason.UNKNOWN_CLIENT),
        (replace(KEYS, hmac="sha512"), Reason.UNKNOWN_CLIENT),
        (replace(KEYS, hmac="sha3_256"), Reason.UNKNOWN_CLIENT),
        (replace(KEYS, hmac_key=None), Reason.UNKNOWN_CLIENT),
    ],
)
def test_wrong_keys_open_nothing(keys: FwknopKeys, reason: Reason) -> None:
    assert Door().reason(packet(NOW, keys=keys)) is reason


def test_nothing_is_decrypted_before_an_hmac_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    door, raw = Door(), packet(NOW)

    def never(*_: object) -> bytes:
        raise AssertionError("it was decrypted")

    with monkeypatch.context() as patch:
        patch.setattr(cipher, "decrypt", never)
        assert door.reason(packet(NOW, keys=replace(KEYS, hmac_key=b"another"))) is Reason.UNKNOWN_CLIENT
        for place in range(0, len(raw), 7):
            changed = raw[:place] + (b"A" if raw[place] != ord("A") else b"B") + raw[place + 1 :]
            assert door.reason(changed) in {Reason.UNKNOWN_CLIENT, Reason.UNKNOWN_KEY}
    assert door.reason(raw) is Reason.OPENED


def test_the_hmacs_are_looked_at_once_for_each_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a glance finds whose it is, and opening needs it."""
    door = Door(OLD, replace(OLD, name="other", fwknop=replace(KEYS, hmac_key=b"another")))
    count = 0
    right = envelope.is_right

    def counted(*parts: Any) -> bool:
        nonlocal count
        count += 1
        return right(*parts)

    monkeypatch.setattr(envelope, "is_right", counted)
    raw = packet(NOW)
    assert door.reason(raw) is Reason.OPENED
    assert count == 2
    assert door.reason(raw) is Reason.REPLAYED
    assert count == 2, "a replay costs no HMAC at all"


# -- once


def test_it_counts_once_whoever_sends_it_and_from_wherever() -> None:
    door, raw = Door(), packet(NOW)
    assert door.reason(raw) is Reason.OPENED
    for source in (HOME, AWAY, "2001:db8::7"):
        assert door.reason(raw, source) is Reason.REPLAYED
    assert door.reason(raw, now=NOW + 119) is Reason.REPLAYED
    assert door.reason(raw, now=NOW + 121) is Reason.CLOCK_SKEW


def test_it_counts_once_however_often_it_is_read_in_between() -> None:
    """What was read before is kept in mind, but not for ever; what was spent is."""
    door, raw = Door(), packet(NOW)
    assert door.reason(raw) is Reason.OPENED
    for number in range(1100):
        assert door.reason(packet(NOW, f"0.0.0.0,tcp/{1000 + number}")) is Reason.SERVICE_NOT_ALLOWED
    assert door.reason(raw) is Reason.REPLAYED
    assert len(door.format._read) == 1024


def test_the_same_message_counts_once_however_it_was_written() -> None:
    """With another salt, by who has the keys; without an HMAC, in other letters by anybody."""
    door = Door()
    sent = fields(NOW)
    assert door.reason(around(sent)) is Reason.OPENED
    assert door.reason(around(sent)) is Reason.REPLAYED
    keys = FwknopKeys(key=KEY, hmac="none")
    door, raw = Door(replace(OLD, fwknop=keys)), packet(NOW, keys=keys)
    assert door.reason(raw) is Reason.OPENED
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    same = [raw[:-1] + bytes([last]) for last in alphabet if last != raw[-1]]
    assert {door.reason(one) for one in same} <= {Reason.REPLAYED, Reason.UNKNOWN_CLIENT}


def test_two_messages_of_one_second_both_count() -> None:
    door = Door()
    assert [door.reason(packet(NOW)) for _ in range(50)] == [Reason.OPENED] * 50


def test_devices_that_share_a_key_do_not_shut_each_other_out_whatever_their_clocks() -> None:
    door = Door()
    for offset in (119, -119, 0, 118, -118, -119, 119):
        assert door.reason(packet(NOW + offset)) is Reason.OPENED


@pytest.mark.parametrize(("offset", "reason"), [(-122, Reason.CLOCK_SKEW), (-119, Reason.OPENED), (119, Reason.OPENED)])
def test_it_must_be_of_these_minutes(offset: int, reason: Reason) -> None:
    assert Door().reason(packet(NOW + offset)) is reason
    assert Door().reason(packet(NOW + 122)) is Reason.CLOCK_SKEW


def test_with_the_prefix_put_back_it_is_no_knock() -> None:
    door, raw = Door(), packet(NOW)
    assert door.reason(envelope.PREFIX + raw) is Reason.UNKNOWN_KEY
    assert door.reason(raw) is Reason.OPENED
    assert door.reason(envelope.PREFIX + raw) is Reason.UNKNOWN_KEY


CHANGES: list[Callable[[bytes], bytes]] = [
    lambda raw: raw + b"A",
    lambda raw: raw + b"\n",
    lambda raw: raw + b"\0",
    lambda raw: raw + b"=",
    lambda raw: raw + raw,
    lambda raw: b"+" + raw,
    lambda raw: b"8" * 64 + raw,
    lambda raw: b"\0" + raw,
    lambda raw: raw[:-1],
    lambda raw: raw[1:],
    lambda raw: raw[:-43],
    lambda raw: raw + b"A" * 2000,
    lambda raw: raw[:100] + b"\0" + raw[101:],
    lambda raw: raw.lower(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_altered_appended_or_prepended_opens_nothing_and_spends_nothing(
    change: Callable[[bytes], bytes],
) -> None:
    door, raw = Door(), packet(NOW)
    assert door.reason(change(raw)) in {Reason.UNKNOWN_KEY, Reason.UNKNOWN_CLIENT}
    assert door.reason(raw) is Reason.OPENED


@pytest.mark.parametrize(
    "raw",
    [
        around(b"x" * 60),
        around(b"x" * 1000),
        around(fields(NOW, text=b64("0.0.0.0,tcp/22" + ",tcp/22" * 60))[:-3]),
        around(fields(NOW, user=b64("x" * 600))),
        around(fields(NOW, user=b64("a\0b"))),
        around(fields(NOW, time=b"-1")),
        around(fields(NOW, kind=b"3") + b":-1"),
        around(fields(NOW, text=b64("0.0.0.0,tcp/-22"))),
        around(fields(NOW, text=b64("0.0.0.0,tcp/22\0"))),
    ],
)
def test_fields_that_make_no_sense_are_refused(raw: bytes) -> None:
    decision = Door().judge(raw)
    assert (decision.reason, decision.client) == (Reason.BAD_FIELDS, "old")
    assert decision.note
    assert len(decision.note) < 120


@pytest.mark.parametrize("raw", [around(fields(NOW), digest=False), resealed(b"8" * 161)])
def test_what_has_the_hmac_and_cannot_be_decrypted_is_refused(raw: bytes) -> None:
    assert Door().reason(raw) is Reason.BAD_SEAL


@given(st.binary(max_size=400))
def test_whatever_the_bytes_nothing_is_raised_and_nothing_opens(raw: bytes) -> None:
    door = Door()
    for payload in (raw, packet(NOW)[:161] + raw, around(raw), around(fields(NOW, text=b64(raw)))):
        assert door.judge(payload).effect is None


# -- its place


def test_what_is_not_of_this_format_is_told_by_a_glance() -> None:
    form = Door().format
    for payload in (b"", b"open_sesame", bytes(116), b"+" * 139, b"A" * 204, b"+" * 1501, b"+" + b"\xff" * 203):
        assert form.glance(payload, now=NOW) is False
    assert form.glance(b"+" * 204, now=NOW) == Refusal(Reason.UNKNOWN_CLIENT)
    assert form.glance(packet(NOW), now=NOW) is True


def test_without_such_clients_nothing_is() -> None:
    assert FwknopKnocks(Rules({}, {})).glance(packet(NOW), now=NOW) is False


def test_where_replays_are_remembered_a_client_is_known_by_its_keys_alone() -> None:
    assert stamp_keys(OLD) == stamp_keys(replace(OLD, name="new", fwknop=replace(KEYS, mode="ctr", user="alice")))
    others = (replace(KEYS, key=b"another"), replace(KEYS, hmac_key=b"another"), FwknopKeys(key=KEY, hmac="none"))
    assert len({stamp_keys(replace(OLD, fwknop=keys)) for keys in (KEYS, *others)}) == 4
    assert KEY not in stamp_keys(OLD)[0]


def test_a_grant_is_as_wide_as_the_rules_have_it() -> None:
    decision = Door(replace(OLD, prefixes=(24, 56))).judge(packet(NOW))
    assert isinstance(decision.effect, Admit)
    assert decision.effect.grants[0].source == ip_network("192.0.2.0/24")
