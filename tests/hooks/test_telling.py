"""What is run when grants begin and end: once each, for whoever it is about, and told all of it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.hooks.telling import Event, Teller, decode, encode
from gatekeeper.model import BY_HAND, Grant, Outcome
from gatekeeper.settings import Ports, Rules, Service, Transport

NOW = 1_700_000_000.0
PORTS = (Ports(Transport.TCP, 22), Ports(Transport.UDP, 60000, 60010))
SERVICES = {
    "ssh": Service("ssh", PORTS, 3600, on_open=("/bin/told", "o"), on_close=("/bin/told", "c")),
    "web": Service("web", (Ports(Transport.TCP, 80),), 3600, on_close=("/bin/told",)),
    "db": Service("db", (Ports(Transport.TCP, 81),), 3600),
}
LAPTOP = Grant(ip_network("198.51.100.2/32"), "ssh", "laptop", NOW + 3599.5)


def teller() -> Teller:
    return Teller(Rules(SERVICES, {}, hook_timeout=7))


def note(one: Teller, reason: str, outcome: Outcome) -> list[tuple[str, str, str]]:
    events = one.note(reason, outcome, now=NOW)
    said = [event.environment for event in events]
    return [(its["GATEKEEPER_EVENT"], its["GATEKEEPER_REASON"], its["GATEKEEPER_CLIENT"]) for its in said]


def opened(*grants: Grant) -> Outcome:
    return Outcome(admitted=grants)


def ended(*grants: Grant) -> Outcome:
    return Outcome(ended=grants)


def test_a_program_is_told_all_that_is_known_and_nothing_else() -> None:
    (event,) = teller().note("opened", opened(LAPTOP), now=NOW)
    assert (event.argv, event.limit) == (("/bin/told", "o"), 7)
    assert event.environment == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/",
        "GATEKEEPER_EVENT": "open",
        "GATEKEEPER_REASON": "opened",
        "GATEKEEPER_CLIENT": "laptop",
        "GATEKEEPER_SOURCE": "198.51.100.2",
        "GATEKEEPER_SERVICE": "ssh",
        "GATEKEEPER_PORTS": "tcp/22 udp/60000-60010",
        "GATEKEEPER_AT": "2023-11-14T22:13:20Z",
        "GATEKEEPER_TTL": "3600",
        "GATEKEEPER_EXPIRES_AT": "2023-11-14T23:13:19Z",
    }


def test_until_closed_has_no_end_and_neither_has_a_close() -> None:
    one = teller()
    network = Grant(ip_network("2001:db8::/64"), "ssh", BY_HAND, None)
    (event,) = one.note("granted-elsewhere", opened(network), now=NOW)
    (close,) = one.note("revoked-elsewhere", ended(network), now=NOW)
    for its in (event.environment, close.environment):
        assert (its["GATEKEEPER_TTL"], its["GATEKEEPER_EXPIRES_AT"]) == ("", "")
        assert (its["GATEKEEPER_SOURCE"], its["GATEKEEPER_CLIENT"]) == ("2001:db8::/64", "(admin)")
    assert close.argv == ("/bin/told", "c")


def test_a_grant_opens_once_and_closes_once_however_often_it_is_renewed() -> None:
    one = teller()
    later = LAPTOP.__class__(LAPTOP.source, "ssh", "laptop", NOW + 7200)
    assert note(one, "opened", opened(LAPTOP)) == [("open", "opened", "laptop")]
    assert note(one, "opened", opened(later)) == []
    assert note(one, "expired", ended(later)) == [("close", "expired", "laptop")]
    assert note(one, "closed", ended(later)) == []
    assert note(one, "opened", opened(LAPTOP)) == [("open", "opened", "laptop")]


def test_two_clients_behind_one_address_are_two() -> None:
    one = teller()
    desk = Grant(LAPTOP.source, "ssh", "desk", None)
    assert note(one, "opened", opened(LAPTOP, desk)) == [("open", "opened", "laptop"), ("open", "opened", "desk")]
    assert note(one, "closed", ended(desk)) == [("close", "closed", "desk")]


def test_after_a_restart_what_lives_on_runs_nothing_and_what_has_ended_closes() -> None:
    """By time while nobody was there, or for a client is gone from the rules."""
    one = teller()
    desk = Grant(LAPTOP.source, "ssh", "desk", None)
    assert note(one, "restored", opened(LAPTOP)) == []
    assert note(one, "ended", ended(desk)) == [("close", "ended", "desk")]
    assert note(one, "opened", opened(LAPTOP)) == []
    assert note(one, "closed", ended(LAPTOP)) == [("close", "closed", "laptop")]


def test_a_service_without_a_hook_runs_none() -> None:
    one = teller()
    web, db, gone = (Grant(LAPTOP.source, name, "laptop", None) for name in ("web", "db", "gone"))
    assert note(one, "opened", opened(web, db, gone)) == []
    assert note(one, "closed", ended(web, db, gone)) == [("close", "closed", "laptop")]
    assert note(one, "ended", ended(db, gone)) == []


def test_what_is_about_one_grant_belongs_together() -> None:
    one = teller()
    (first,) = one.note("opened", opened(LAPTOP), now=NOW)
    (second,) = one.note("closed", ended(LAPTOP), now=NOW)
    (other,) = one.note("opened", opened(Grant(LAPTOP.source, "ssh", "desk", None)), now=NOW)
    assert first.whose == second.whose != other.whose


@given(st.lists(st.text(), min_size=1), st.integers(1, 600), st.dictionaries(st.text(), st.text()))
def test_what_is_sent_arrives(argv: list[str], limit: int, environment: dict[str, str]) -> None:
    event = Event(tuple(argv), limit, environment)
    assert decode(encode(event)) == event


@pytest.mark.parametrize("junk", [b"", b"\xff", b"[]", b"{}", b"[1,2,3]", b'[["/bin/x"],"x",{}]', b'[["a"],1,[]]'])
def test_what_is_no_event_is_an_error_that_says_so(junk: bytes) -> None:
    with pytest.raises(ValueError):
        decode(junk)
