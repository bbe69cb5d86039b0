"""The text for ``ipset restore``: what is in the sets, and that nothing is ever half done."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gatekeeper.firewall import names, sets
from gatekeeper.settings import Ports, Rules, Service, Transport

SSH = Service(
    "ssh",
    (Ports(Transport.TCP, 22),),
    3600,
    always=(ip_network("10.0.0.0/8"),),
    never=(ip_network("::/0"), ip_network("192.0.2.0/24")),
)
RULES = Rules(services={"ssh": SSH}, clients={}, never=(ip_network("192.0.2.0/24"),))


def test_members_are_replaced_in_one_step_with_the_time_they_have_left() -> None:
    members = {"ssh": {ip_network("192.0.2.7"): 60, ip_network("2001:db8::/64"): None}}
    lines = sets.replace_members_text(members).splitlines()
    options = "hashsize 1024 maxelem 1048576 timeout 0 -exist"
    assert lines == [
        line
        for family, version, entry in (("inet", 4, "192.0.2.7/32 timeout 60"), ("inet6", 6, "2001:db8::/64 timeout 0"))
        for line in (
            f"create gatekeeper-{version}-ssh hash:net family {family} {options}",
            f"create gatekeeper-t{version}-ssh hash:net family {family} {options}",
            f"flush gatekeeper-t{version}-ssh",
            f"add gatekeeper-t{version}-ssh {entry} -exist",
            f"swap gatekeeper-t{version}-ssh gatekeeper-{version}-ssh",
            f"destroy gatekeeper-t{version}-ssh",
        )
    ]


def test_creating_leaves_members_as_they_are_and_fills_the_networks_of_the_rules() -> None:
    lines = sets.create_text(RULES).splitlines()
    assert not [line for line in lines if line.startswith(("flush gatekeeper-t4-ssh", "swap gatekeeper-t4-ssh"))]
    assert "add gatekeeper-ta4-ssh 10.0.0.0/8 timeout 0 -exist" in lines
    assert "add gatekeeper-tn4-ssh 192.0.2.0/24 timeout 0 -exist" in lines
    assert "add gatekeeper-tn4 192.0.2.0/24 timeout 0 -exist" in lines


def test_everything_is_two_halves_for_a_set_holds_no_prefix_of_length_0() -> None:
    added = [line.split()[2] for line in sets.create_text(RULES).splitlines() if line.startswith("add gatekeeper-tn6")]
    assert added == ["::/1", "8000::/1"]


def test_the_sets_that_rules_need_are_those_that_are_made() -> None:
    made = {line.split()[1] for line in sets.create_text(RULES).splitlines() if line.startswith("create")}
    assert {name for name in made if "-t" not in name} == sets.names_of(RULES)


def test_no_name_is_longer_than_an_ipset_may_have() -> None:
    longest = "a" * 16
    for name in (names.set_name(longest, 6), names.always_set(longest, 6), names.never_set(longest, 6)):
        assert len(names.fresh_set(name)) <= 31


@pytest.mark.parametrize(("seconds", "timeout"), [(None, 0), (0, 1), (1, 1), (3600, 3600), (10**9, 2_147_483)])
def test_kernel_timeouts(seconds: int | None, timeout: int) -> None:
    """Nothing becomes 0 by accident: that would be a grant for ever."""
    assert sets.kernel_timeout(seconds) == timeout
