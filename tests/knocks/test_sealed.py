"""Sealed knocks at the gate: for how long, once only, and what junk costs."""

from __future__ import annotations

import os
from ipaddress import ip_network
from typing import Any

import pytest

from gatekeeper import terms
from gatekeeper.allowlist import Allowlist
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled, sealed
from gatekeeper.model import Admit, Knock, Reason
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys, wire
from gatekeeper.sealed.noise import Handshake
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport
from tests.knocks.door import AWAY, HOME, NOW, SECOND, SERVICES, Door, address, datagram, seal
from tests.packets import udp
from tests.vectors.sealed import make

# -- for how long


HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("service_ttl", "max_ttl", "client_ttl", "asked", "expected"),
    [
        (HOUR, None, 0, 0, HOUR),
        (HOUR, None, 0, 60, 60),
        (HOUR, None, 0, DAY, HOUR),
        (HOUR, None, 0, None, HOUR),
        (HOUR, DAY, 0, 0, HOUR),
        (HOUR, DAY, 0, 2 * HOUR, 2 * HOUR),
        (HOUR, DAY, 0, 2 * DAY, DAY),
        (HOUR, DAY, 0, None, DAY),
        (DAY, HOUR, 0, 0, HOUR),
        (None, None, 0, 0, None),
        (None, None, 0, 60, 60),
        (None, None, 0, None, None),
        (None, HOUR, 0, 0, HOUR),
        (None, HOUR, 0, None, HOUR),
        (HOUR, None, 60, 0, 60),
        (HOUR, None, 60, HOUR, 60),
        (HOUR, None, DAY, 0, DAY),
        (HOUR, None, DAY, None, DAY),
        (HOUR, DAY, 60, 0, 60),
        (HOUR, DAY, 60, HOUR, HOUR),
        (HOUR, DAY, 2 * DAY, 0, DAY),
        (HOUR, None, None, 0, None),
        (HOUR, None, None, 60, 60),
        (HOUR, None, None, None, None),
        (HOUR, DAY, None, 0, DAY),
        (HOUR, DAY, None, None, DAY),
    ],
)
def test_a_knock_opens_for_what_it_asks_and_no_longer_than_the_rules_allow(
    service_ttl: int | None, max_ttl: int | None, client_ttl: int | None, asked: int | None, expected: int | None
) -> None:
    service = Service("ssh", (Ports(Transport.TCP, 22),), service_ttl, max_ttl)
    assert terms.seconds(service, Client(name="laptop", services=("ssh",), ttl=client_ttl), asked) == expected


@pytest.mark.parametrize("ttl", [0, 1, 59, 61, wire.FOREVER - 1, wire.FOREVER])
def test_no_grant_outlives_its_client(ttl: int) -> None:
    end = NOW + 60
    guest = Client(name="guest", services=("ssh", "db"), keys=(make.CLIENT_PUBLIC,), not_after=end, ttl=None)
    effect = Door(guest).judge(seal(ttl=ttl)).effect
    assert isinstance(effect, Admit)
    for one in effect.grants:
        assert one.expires_at is not None
        assert one.expires_at <= end


# -- once, and only once


def test_a_knock_counts_once_from_whatever_address() -> None:
    """The replay is told from what a glance remembers, before anything is dissected."""
    door = Door()
    raw = seal()
    assert door.reason(raw) is Reason.OPENED
    found = door.format.glance(raw, now=NOW)
    assert isinstance(found, Knock)
    assert found.client == "laptop"
    for source in (HOME, AWAY, "2001:db8::66"):
        for later in (0.0, 1.0, 119.0):
            assert door.reason(raw, source, NOW + later) is Reason.REPLAYED
        assert door.reason(raw, source, NOW + 130) is Reason.CLOCK_SKEW


@pytest.mark.parametrize(
    ("said", "source", "reason"),
    [
        ({"address": address(HOME)}, AWAY, Reason.ADDRESS_MISMATCH),
        ({}, AWAY, Reason.ADDRESS_MISSING),
        ({"address": address("192.0.2.8")}, "192.0.2.9", Reason.ADDRESS_MISMATCH),
        ({"address": address("203.0.113.5")}, "203.0.113.5", Reason.SOURCE_NOT_ALLOWED),
        ({"address": address(HOME), "service": wire.service_id("db")}, HOME, Reason.SERVICE_NOT_ALLOWED),
    ],
)
def test_a_knock_that_is_refused_for_its_address_or_service_uses_nothing_up(
    said: dict[str, Any], source: str, reason: Reason
) -> None:
    """Not its own stamp, so that who replays it first from elsewhere takes nothing away; and no other."""
    networks = (ip_network("192.0.2.0/24"), ip_network("198.51.100.0/24"))
    known = ("laptop", ("ssh", "web"), (make.CLIENT_PUBLIC,))
    door = Door(Client(name=known[0], services=known[1], keys=known[2], must_bind=True, sources=networks))
    raw = seal(**said)
    for _ in range(3):
        assert door.reason(raw, source) is reason
    assert door.memory() == {}
    if said == {"address": address(HOME)}:
        assert door.reason(raw, HOME) is Reason.OPENED
        assert door.reason(raw, source) is Reason.REPLAYED
    assert door.reason(seal(-1, address=address(HOME)), HOME) is Reason.OPENED


def test_no_flipped_bit_of_a_knock_has_an_effect_or_does_harm() -> None:
    door = Door()
    raw = seal(address=address(HOME))
    number = int.from_bytes(raw)
    reasons = set()
    for bit in range(wire.SIZE * 8):
        decision = door.judge((number ^ 1 << bit).to_bytes(wire.SIZE))
        assert decision.effect is None, f"bit {bit}"
        reasons.add(decision.reason)
    assert reasons <= {Reason.UNKNOWN_KEY, Reason.WRONG_EPOCH, Reason.UNKNOWN_CLIENT, Reason.BAD_MAC}
    assert door.memory() == {}
    assert door.reason(raw) is Reason.OPENED


def test_no_flipped_bit_behind_a_right_mac_has_an_effect() -> None:
    """As if the mac were worth nothing: the seal alone holds."""
    door = Door()
    raw = seal(address=address(HOME))
    key = wire.tag_key(keys.exchange(make.CLIENT, make.SERVER_PUBLIC))
    number = int.from_bytes(raw[12:108])
    for bit in range(96 * 8):
        changed = raw[:12] + (number ^ 1 << bit).to_bytes(96)
        decision = door.judge(changed + wire.mac(key, changed))
        if decision.effect is not None:  # X25519 ignores the highest bit of e, but the seal covers it
            pytest.fail(f"bit {bit} opened")
        assert decision.reason is Reason.BAD_SEAL
    assert door.memory() == {}
    assert door.reason(raw) is Reason.OPENED


def test_knocks_that_overtake_each_other_within_ten_seconds_are_both_accepted() -> None:
    for apart in (1e-9, 0.001, 1.0, 9.999):
        door = Door()
        first, second = seal(-apart), seal()
        assert door.reason(second) is Reason.OPENED
        assert door.reason(first) is Reason.OPENED
        assert door.reason(first) is Reason.REPLAYED
        assert door.reason(second) is Reason.REPLAYED


def test_a_knock_that_comes_ten_seconds_late_is_too_late() -> None:
    door = Door()
    first, second = seal(-10), seal()
    assert door.reason(second) is Reason.OPENED
    assert door.reason(first) is Reason.REPLAYED


def test_an_opening_from_before_a_close_is_refused_and_a_second_close_is_not() -> None:
    """Closes for IPv4 and IPv6 overtake each other; an opening that was held back must not undo them."""
    door = Door()
    held_back, other_close, close = seal(-2), seal(-1, action=wire.CLOSE), seal(action=wire.CLOSE)
    assert door.reason(close) is Reason.CLOSED
    assert door.reason(held_back) is Reason.BEFORE_CLOSE
    assert door.reason(other_close) is Reason.CLOSED
    assert door.reason(held_back) is Reason.BEFORE_CLOSE
    assert door.reason(other_close) is Reason.REPLAYED
    assert door.reason(seal(1e-9)) is Reason.OPENED


# -- what junk and replays cost


def test_an_exact_replay_costs_no_second_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    honest = Handshake.read_first

    def counted(self: Handshake, *arguments: object) -> bytes:
        nonlocal calls
        calls += 1
        return honest(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Handshake, "read_first", counted)
    door = Door()
    raw = seal(address=address(HOME))
    for source in (AWAY, AWAY, HOME, HOME, AWAY):  # refused, refused, opened, replayed, replayed
        door.judge(raw, source)
    assert door.reason(raw) is Reason.REPLAYED
    assert calls == 1


def test_junk_of_the_right_size_costs_no_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    raw = seal()
    other = wire.Sealer(make.CLIENT, make.OTHER_SERVER_PUBLIC)
    stray = other.seal(wire.Payload(action=1, sent_at=1), os.urandom(32), now=NOW)[0]

    def never(_key: bytes, _datagram: bytes) -> bytes:
        raise AssertionError

    monkeypatch.setattr(wire, "mac", never)
    for _ in range(200):
        assert door.reason(os.urandom(wire.SIZE)) is Reason.UNKNOWN_KEY
        assert door.reason(raw[:4] + os.urandom(wire.SIZE - 4)) is Reason.UNKNOWN_CLIENT
    assert door.reason(stray) is Reason.UNKNOWN_KEY


def test_what_is_remembered_of_opened_knocks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_MAX_OPENED", 5)
    door = Door()
    knocks = [seal(number / 10) for number in range(20)]
    for raw in knocks:
        assert door.reason(raw) is Reason.OPENED
    assert len(door.format._opened) == 5
    assert {door.reason(raw) for raw in knocks} == {Reason.REPLAYED}


def test_a_key_of_the_past_is_told_by_its_name() -> None:
    door = Door(until=NOW + 10)
    assert door.reason(seal(), now=NOW) is Reason.OPENED
    decision = door.judge(seal(1), now=NOW + 10)
    assert (decision.reason, decision.client) == (Reason.OLD_SERVER_KEY, "laptop")


def test_a_client_may_have_many_keys_and_a_server_too() -> None:
    """Each pair has tags of its own, and the stamps of two keys know nothing of each other."""
    mine, old = [keys.generate() for _ in range(3)], keys.generate()
    one = Client(name="laptop", services=("ssh",), keys=tuple(map(keys.public_of, mine)))
    rules = Rules(SERVICES, {"laptop": one})
    replays = ReplayMemory()
    formats = enabled(rules, (ServerKey(make.SERVER), ServerKey(old, NOW + 5)), now=NOW)
    gate = Gate(rules, formats, Allowlist(()), replays=replays)
    for number, server in enumerate((make.SERVER_PUBLIC, keys.public_of(old))):
        for private in mine:
            said = wire.Payload(action=wire.OPEN, sent_at=int(NOW) * SECOND + number)
            raw = wire.Sealer(private, server).seal(said, os.urandom(32), now=NOW)[0]
            assert gate.judge(datagram(raw), now=NOW).reason is Reason.OPENED
            assert gate.judge(datagram(raw), now=NOW).reason is Reason.REPLAYED


def test_a_whole_packet_opens_for_the_address_that_it_comes_from() -> None:
    for version in (4, 6):
        decision = Door().gate.inspect(udp(seal(), version=version), now=NOW)
        assert decision.reason is Reason.OPENED
    assert Door().gate.inspect(udp(seal(), good=False), now=NOW).reason is Reason.BAD_CHECKSUM
