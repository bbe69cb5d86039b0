"""The kernel's own counters, told by the reasons of the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from gatekeeper.firewall import drops, ruleset
from gatekeeper.firewall.members import RuleMembers, SetMembers
from gatekeeper.settings import Client, Ports, Rules, Service, Transport

NEVER = (ip_network("203.0.113.0/24"), ip_network("2001:db8:bad::/48"))
RULES = Rules(
    services={"ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600, never=NEVER)},
    clients={"laptop": Client(name="laptop", services=("ssh",), keys=(b"k" * 32,))},
    never=NEVER,
)
PLAIN = replace(RULES, clients={"desk": Client(name="desk", services=("ssh",), open_key=b"open_sesame")})


def counted(lines: str) -> Iterator[str]:
    """Give each rule a counter of its own: powers of two."""
    number = 1
    for line in lines.splitlines():
        if line.startswith("-A GKEEPER-") and line.endswith("-j DROP"):
            yield f"[{number}:{number * 60}] {line}"
            number *= 2
        else:
            yield line


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("rules", [RULES, PLAIN], ids=["sealed", "plain"])
def test_each_rule_that_drops_what_arrives_is_counted_once_by_its_reason(rules: Rules, version: int) -> None:
    text = "\n".join(counted(ruleset.iptables_text(rules, version, SetMembers())))
    arriving = [line for line in text.splitlines() if line.startswith("[") and "GKEEPER-OUT" not in line]
    assert sum(drops.read(text).values()) == sum(int(line[1:].split(":")[0]) for line in arriving)
    names = {drops.NO_TAG, drops.TOO_MANY_STRANGERS, drops.NEVER}
    assert set(drops.read(text)) == (names | {drops.TOO_MANY_TAGGED} if rules is RULES else names)


def test_without_sets_and_without_counters_nothing_is_made_up() -> None:
    assert drops.read(ruleset.iptables_text(RULES, 4, RuleMembers())) == {}


def test_every_reason_of_the_kernels_is_explained() -> None:
    text = (Path(__file__).parents[2] / "docs/reasons.md").read_text()
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))
    assert {drops.NO_TAG, drops.TOO_MANY_TAGGED, drops.TOO_MANY_STRANGERS, drops.NEVER} <= explained
