"""What a knock gets: how wide, for how long, and when at all."""

from __future__ import annotations

import math
from ipaddress import ip_address, ip_network

import pytest

from gatekeeper import schedule, terms
from gatekeeper.settings import Client, Ports, Rules, Service, Transport

OFFICE = (schedule.parse("Mon-Fri 08:00-18:00 UTC"),)
MORNING = (schedule.parse("Mon-Fri 06:00-12:00 UTC"),)
WEDNESDAY = 1_795_564_800.0  # 2026-11-25 00:00 UTC
HOUR = 3600
SSH = Service("ssh", (Ports(Transport.TCP, 22),), 3600)


def client(**more: object) -> Client:
    return Client(name="laptop", services=("ssh",), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prefixes", "sources", "address", "expected"),
    [
        ((32, 128), (), "192.0.2.7", "192.0.2.7/32"),
        ((24, 56), (), "192.0.2.7", "192.0.2.0/24"),
        ((24, 56), (), "2001:db8:0:0102::7", "2001:db8:0:100::/56"),
        ((24, 56), ("192.0.2.0/25",), "192.0.2.7", "192.0.2.0/25"),
        ((24, 56), ("192.0.0.0/16",), "192.0.2.7", "192.0.2.0/24"),
        ((24, 56), ("192.0.2.0/28", "192.0.2.0/26"), "192.0.2.7", "192.0.2.0/26"),
        ((24, 56), ("192.0.2.0/28", "192.0.0.0/16"), "192.0.2.7", "192.0.2.0/24"),
        ((24, 56), ("192.0.2.7/32", "2001:db8::/32"), "192.0.2.7", "192.0.2.7/32"),
    ],
)
def test_a_grant_is_as_wide_as_the_prefix_and_never_wider_than_from(
    prefixes: tuple[int, int], sources: tuple[str, ...], address: str, expected: str
) -> None:
    the_client = client(prefixes=prefixes, sources=tuple(map(ip_network, sources)))
    assert terms.source_around(the_client, ip_address(address)) == ip_network(expected)


@pytest.mark.parametrize(
    ("fields", "source", "expected"),
    [
        ({}, "192.0.2.7", True),
        ({}, "192.0.2.0/24", False),
        ({"prefixes": (24, 56)}, "192.0.2.0/24", True),
        ({"prefixes": (24, 56)}, "192.0.2.7", False),
        ({"prefixes": (24, 64)}, "2001:db8::/56", False),
        ({"sources": ("192.0.2.0/28",)}, "192.0.2.7", True),
        ({"sources": ("198.51.100.0/24",)}, "192.0.2.7", False),
        ({"prefixes": (24, 56), "sources": ("192.0.2.0/28",)}, "192.0.2.0/24", False),
        ({"prefixes": (24, 56), "sources": ("192.0.2.0/28",)}, "192.0.2.0/28", True),
        ({"for_others": True, "sources": ("198.51.100.0/24",)}, "192.0.2.7", True),
        ({"for_others": True}, "192.0.2.0/24", False),
    ],
)
def test_a_grant_that_the_rules_would_not_make_is_told(fields: dict[str, object], source: str, expected: bool) -> None:
    if "sources" in fields:
        fields = {**fields, "sources": tuple(map(ip_network, fields["sources"]))}  # type: ignore[call-overload]
    assert terms.can_have(client(**fields), ip_network(source)) is expected


@pytest.mark.parametrize(
    ("of_client", "of_service", "not_after", "hour", "until"),
    [
        ((), (), None, 3, math.inf),
        (OFFICE, (), None, 9, 18),
        ((), OFFICE, None, 9, 18),
        (OFFICE, MORNING, None, 9, 12),
        (OFFICE, MORNING, None, 13, None),
        (OFFICE, MORNING, None, 7, None),
        (OFFICE, (), WEDNESDAY + 10 * HOUR, 9, 10),
        (OFFICE, (), WEDNESDAY + 10 * HOUR, 10, None),
        (OFFICE, (), None, 18, None),
    ],
)
def test_a_grant_lasts_to_the_end_of_the_hours_of_both(
    of_client: tuple[schedule.Hours, ...],
    of_service: tuple[schedule.Hours, ...],
    not_after: float | None,
    hour: int,
    until: float | None,
) -> None:
    service = Service("ssh", SSH.ports, 3600, hours=of_service)
    the_client = client(hours=of_client, not_after=not_after)
    found = terms.allowed_until(the_client, service, now=WEDNESDAY + hour * HOUR)
    assert found == (until if until in {None, math.inf} else WEDNESDAY + until * HOUR)


def test_of_several_services_those_open_that_may_now() -> None:
    services = {"ssh": SSH, "web": Service("web", SSH.ports, 60, hours=OFFICE)}
    rules = Rules(services=services, clients={})
    assert terms.open_for(rules, client(), ("ssh", "web"), now=WEDNESDAY) == {"ssh": math.inf}
    assert set(terms.open_for(rules, client(), ("ssh", "web"), now=WEDNESDAY + 9 * HOUR)) == {"ssh", "web"}


def test_a_deadline_is_the_earlier_of_both_ends() -> None:
    assert terms.deadline(60, math.inf, now=100.0) == 160.0
    assert terms.deadline(60, 130.0, now=100.0) == 130.0
    assert terms.deadline(None, 130.0, now=100.0) == 130.0
    assert terms.deadline(None, math.inf, now=100.0) is None
