"""What the rules of today say of the grants of yesterday."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from gatekeeper.entitled import sort
from gatekeeper.model import BY_HAND, Grant
from gatekeeper.settings import Client, Ports, Rules, Service, Transport

NOW = 1000.0
SSH = Service("ssh", (Ports(Transport.TCP, 22),), 3600, never=(ip_network("203.0.113.0/24"),))
LAPTOP = Client(name="laptop", services=("ssh",))
RULES = Rules(services={"ssh": SSH}, clients={"laptop": LAPTOP})
GRANT = Grant(ip_network("192.0.2.7"), "ssh", "laptop", NOW + 60)
GIVEN_BY_HAND = replace(GRANT, client=BY_HAND)


@pytest.mark.parametrize("grant", [GRANT, replace(GRANT, expires_at=None), GIVEN_BY_HAND])
def test_what_the_rules_give_is_kept_as_it_is(grant: Grant) -> None:
    assert sort([grant], RULES, now=NOW) == ([grant], [], [])


@pytest.mark.parametrize(
    "grant",
    [
        replace(GRANT, service="web"),
        replace(GIVEN_BY_HAND, service="web"),
        replace(GRANT, client="desk"),
        replace(GRANT, source=ip_network("192.0.2.0/24")),
        replace(GRANT, source=ip_network("203.0.113.7")),
        replace(GIVEN_BY_HAND, source=ip_network("203.0.113.7")),
    ],
)
def test_what_the_rules_do_not_give_is_an_orphan(grant: Grant) -> None:
    assert sort([grant], RULES, now=NOW) == ([], [], [grant])


@pytest.mark.parametrize("end", [NOW + 60, None])
def test_what_the_rules_give_for_less_time_is_kept_for_that(end: float | None) -> None:
    rules = replace(RULES, clients={"laptop": replace(LAPTOP, not_after=NOW + 30)})
    shorter = replace(GRANT, expires_at=NOW + 30)
    assert sort([replace(GRANT, expires_at=end)], rules, now=NOW) == ([shorter], [shorter], [])


def test_a_grant_of_a_client_whose_time_is_over_is_an_orphan_and_one_by_hand_is_not() -> None:
    rules = replace(RULES, clients={"laptop": replace(LAPTOP, not_after=NOW)})
    assert sort([GRANT, GIVEN_BY_HAND], rules, now=NOW) == ([GIVEN_BY_HAND], [], [GRANT])
