"""Live grants in memory: who is covered, until when, and who ends next."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.allowlist import Allowlist
from gatekeeper.model import Grant


def grant(source: str, service: str = "ssh", client: str = "laptop", end: float | None = 100.0) -> Grant:
    return Grant(ip_network(source), service, client, end)


def covers(allowlist: Allowlist, address: str, service: str = "ssh", now: float = 50.0) -> bool:
    return allowlist.covers(ip_address(address).packed, service, now=now)


def test_an_address_and_its_service_are_covered_and_no_others() -> None:
    allowlist = Allowlist([grant("192.0.2.7"), grant("2001:db8::7")])
    assert covers(allowlist, "192.0.2.7")
    assert covers(allowlist, "2001:db8::7")
    assert not covers(allowlist, "192.0.2.8")
    assert not covers(allowlist, "192.0.2.7", "web")
    assert not covers(allowlist, "::ffff:192.0.2.7")


def test_networks_cover_their_addresses() -> None:
    allowlist = Allowlist([grant("192.0.2.0/24"), grant("2001:db8:1::/48"), grant("198.51.100.0/30")])
    assert covers(allowlist, "192.0.2.255")
    assert covers(allowlist, "198.51.100.3")
    assert covers(allowlist, "2001:db8:1:ffff::1")
    assert not covers(allowlist, "198.51.100.4")
    assert not covers(allowlist, "2001:db8:2::1")


def test_a_grant_ends_at_its_deadline() -> None:
    allowlist = Allowlist([grant("192.0.2.7")])
    assert covers(allowlist, "192.0.2.7", now=99.9)
    assert not covers(allowlist, "192.0.2.7", now=100.0)
    assert covers(Allowlist([grant("192.0.2.7", end=None)]), "192.0.2.7", now=1e12)


def test_another_clients_grant_keeps_the_source_covered() -> None:
    allowlist = Allowlist([grant("192.0.2.7"), grant("192.0.2.7", client="desk", end=200.0)])
    allowlist.end(grant("192.0.2.7"))
    assert covers(allowlist, "192.0.2.7", now=150.0)
    allowlist.end(grant("192.0.2.7", client="desk"))
    assert not covers(allowlist, "192.0.2.7")
    allowlist.end(grant("192.0.2.7", client="desk"))
    assert len(allowlist) == 0


def test_the_last_word_of_a_client_counts() -> None:
    allowlist = Allowlist([grant("192.0.2.7", end=None)])
    allowlist.admit(grant("192.0.2.7", end=60.0))
    assert not covers(allowlist, "192.0.2.7", now=70.0)
    assert allowlist.next_expiry() == 60.0
    assert list(allowlist) == [grant("192.0.2.7", end=60.0)]


def test_the_next_expiry_skips_what_was_replaced_or_ended() -> None:
    allowlist = Allowlist([grant("192.0.2.7", end=10.0), grant("2001:db8::1", end=10.0), grant("192.0.2.8", end=30.0)])
    allowlist.admit(grant("192.0.2.7", end=20.0))
    allowlist.end(grant("2001:db8::1"))
    assert allowlist.next_expiry() == 20.0
    allowlist.replace([grant("192.0.2.9", end=None)])
    assert allowlist.next_expiry() is None


_grants = st.builds(
    Grant,
    st.sampled_from([ip_network(text) for text in ("10.0.0.1", "10.0.0.0/30", "10.0.0.0/8", "fd00::1", "fd00::/64")]),
    st.sampled_from(["ssh", "web"]),
    st.sampled_from(["laptop", "desk"]),
    st.one_of(st.none(), st.floats(0, 100)),
)


@given(st.lists(st.tuples(st.booleans(), _grants), max_size=30), st.floats(0, 110))
def test_it_agrees_with_a_plain_list(steps: list[tuple[bool, Grant]], now: float) -> None:
    """After any steps, an address is covered exactly if some grant in a simple model covers it."""
    allowlist = Allowlist()
    model: dict[tuple[object, str, str], Grant] = {}
    for is_admit, one in steps:
        key = (one.source, one.service, one.client)
        if is_admit:
            allowlist.admit(one)
            model[key] = one
        else:
            allowlist.end(one)
            model.pop(key, None)
    assert len(allowlist) == len(model)
    ends = [one.expires_at for one in model.values() if one.expires_at is not None]
    assert allowlist.next_expiry() == min(ends, default=None)
    for text in ("10.0.0.1", "10.0.0.2", "10.9.0.0", "11.0.0.0", "fd00::1", "fd00::2", "fd01::"):
        address = ip_address(text)
        expected = any(
            one.service == "ssh"
            and one.is_live(now)
            and address.version == one.source.version
            and address in one.source
            for one in model.values()
        )
        assert allowlist.covers(address.packed, "ssh", now=now) is expected
