"""Who is granted what by a start: what they lack, and no more."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gatekeeper.firewall.adopt import Peer
from gatekeeper.lockout import missing
from gatekeeper.model import BY_HAND, Grant
from gatekeeper.settings import Ports, Service, Transport

NOW = 1000.0
HOME = ip_address("2001:db8::7")
SSH = Service(
    "ssh", (Ports(Transport.TCP, 22),), ttl=600, always=(ip_network("192.0.2.0/24"), ip_network("2001:db8:a::/48"))
)


def ends(peer: Peer, *live: Grant, at_most_ttl: bool = False) -> list[float | None]:
    return [one.expires_at for one in missing([peer, peer], live, now=NOW, at_most_ttl=at_most_ttl)]


def test_an_address_gets_an_hour_by_hand_and_not_its_network() -> None:
    assert missing([Peer(SSH, HOME)], [], now=NOW) == [Grant(ip_network(HOME), "ssh", BY_HAND, NOW + 3600)]


@pytest.mark.parametrize(
    ("limits", "at_most_ttl", "expected"),
    [((600, None), True, 600), ((600, 300), True, 300), ((600, 300), False, 300), ((None, None), True, 3600)],
)
def test_it_is_no_longer_than_the_rules_allow(
    limits: tuple[int | None, int | None], at_most_ttl: bool, expected: int
) -> None:
    service = Service("ssh", SSH.ports, ttl=limits[0], max_ttl=limits[1])
    assert ends(Peer(service, HOME), at_most_ttl=at_most_ttl) == [NOW + expected]


def test_who_has_enough_gets_nothing() -> None:
    """From anybody, for a network too; what is shorter, or for something else, is not enough."""
    here, wide, other = ip_network(HOME), ip_network("2001:db8::/64"), ip_network("2001:db8:1::/64")
    peer = Peer(SSH, HOME)
    for enough in (
        Grant(here, "ssh", BY_HAND, NOW + 3600),
        Grant(here, "ssh", "laptop", None),
        Grant(wide, "ssh", "laptop", NOW + 9999),
    ):
        assert ends(peer, enough) == []
    for little in (
        Grant(here, "ssh", BY_HAND, NOW + 3599),
        Grant(here, "web", BY_HAND, None),
        Grant(other, "ssh", BY_HAND, None),
    ):
        assert ends(peer, little) == [NOW + 3600]
    for always in ("192.0.2.9", "2001:db8:a::1"):
        assert ends(Peer(SSH, ip_address(always))) == []
