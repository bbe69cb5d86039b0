"""What is read in the output of iptables-save."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from gatekeeper.firewall import names, ruleset, saved
from gatekeeper.firewall.members import RuleMembers, SetMembers
from gatekeeper.settings import Mode, Ports, Rules, Service, Transport, Via

RULES = Rules(
    services={"ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600)}, clients={}, via=frozenset({Via.UDP, Via.ICMP})
)
SAVED = (
    "*mangle\n:INPUT ACCEPT [0:0]\n:GKEEPER-IN - [0:0]\n:GKEEPER-PASS - [0:0]\n:THEIRS - [0:0]\n"
    "-A INPUT -j GKEEPER-IN\n-A INPUT -s 10.0.0.1/32 -g GKEEPER-IN\n-A INPUT -j THEIRS\n"
    "-A GKEEPER-IN -g GKEEPER-PASS\nCOMMIT\n"
)


def test_removal_names_only_what_is_ours() -> None:
    assert saved.removal_text({"mangle": SAVED, "raw": "*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"}) == (
        "*mangle\n-D INPUT -j GKEEPER-IN\n-D INPUT -s 10.0.0.1/32 -g GKEEPER-IN\n-F GKEEPER-IN\n-F GKEEPER-PASS\n"
        "-X GKEEPER-IN\n-X GKEEPER-PASS\nCOMMIT\n"
    )


def test_whose_rules_jump_to_ours() -> None:
    assert saved.foreign_jumps(SAVED) == ["INPUT -j GKEEPER-IN", "INPUT -s 10.0.0.1/32 -g GKEEPER-IN"]


def test_our_words_in_the_comment_of_a_foreign_rule_do_not_make_it_ours() -> None:
    """It could be a rule that keeps somebody out."""
    line = '-A INPUT -s 203.0.113.9/32 -m comment --comment "it\\"s -j GKEEPER-IN -g GKEEPER-IN" -j DROP'
    assert saved.foreign_jumps(line) == []
    assert saved.foreign_jumps('-A INPUT -m comment --comment "a -j DROP" -j GKEEPER-IN') == [
        'INPUT -m comment --comment "a -j DROP" -j GKEEPER-IN'
    ]
    assert saved.foreign_jumps('-A INPUT -m comment --comment "broken -j GKEEPER-IN') == []


def test_granted_sources_are_read_back_as_they_were_written() -> None:
    sources = [ip_network("192.0.2.7"), ip_network("192.0.2.0/24"), ip_network("192.0.2.7")]
    text = ruleset.iptables_text(RULES, 4, RuleMembers({"ssh": sources}))
    assert saved.granted(text, "GKEEPER-SRC-ssh") == sources
    assert saved.granted(text, "GKEEPER-DST-ssh") == sources
    assert saved.granted(text, "GKEEPER-SRC-web") == []


@pytest.mark.parametrize("mode", list(Mode))
def test_what_a_failed_load_has_changed_is_put_back_and_nothing_else(mode: Mode) -> None:
    """Chains, and jumps where they stood; what others did meanwhile stays."""
    jump = "-A INPUT -j GKEEPER-IN"
    theirs = "-A INPUT -s 203.0.113.9/32 -j DROP"
    both = f"{jump}\n{theirs}" if mode is Mode.GUARD else f"{theirs}\n{jump}"
    before = f"*mangle\n:INPUT ACCEPT [0:0]\n:GKEEPER-IN - [0:0]\n{both}\n-A GKEEPER-IN -i lo -j RETURN\nCOMMIT\n"
    now = f"*mangle\n:INPUT ACCEPT [0:0]\n:GKEEPER-IN - [0:0]\n:GKEEPER-IN-x - [0:0]\n{jump}\n{theirs}\nCOMMIT\n"
    assert saved.return_text({"mangle": before, "raw": "*raw\nCOMMIT\n"}, {"mangle": now, "raw": ""}).splitlines() == [
        "*mangle",
        ":GKEEPER-IN - [0:0]",
        "-D INPUT -j GKEEPER-IN",
        "-F GKEEPER-IN-x",
        "-X GKEEPER-IN-x",
        "-I INPUT 1 -j GKEEPER-IN" if mode is Mode.GUARD else "-A INPUT -j GKEEPER-IN",
        "-A GKEEPER-IN -i lo -j RETURN",
        "COMMIT",
    ]


def test_how_grants_are_kept_and_whether_anything_is_dropped_can_be_told() -> None:
    for members in (SetMembers(), RuleMembers()):
        guards = ruleset.iptables_text(RULES, 4, members)
        observes = ruleset.iptables_text(replace(RULES, mode=Mode.OBSERVE), 4, members)
        assert not saved.observes(guards), "that echo requests bypass the queue is something else"
        assert saved.observes(observes)
        assert saved.has_member_chains(guards) is isinstance(members, RuleMembers)


@pytest.mark.parametrize("hook", [one for one in names.HOOKS if one.table == "mangle"], ids=lambda one: one.chain)
def test_a_jump_of_ours_is_known_taken_out_and_put_back_wherever_it_hangs(hook: names.Hook) -> None:
    chains = f":{hook.base} ACCEPT [0:0]\n:{hook.chain} - [0:0]\n"
    theirs = f"-A {hook.base} -j THEIRS"
    for rules, back in (
        (f"-A {hook.jump}\n{theirs}", f"-I {hook.base} 1 -j {hook.chain}"),
        (f"{theirs}\n-A {hook.jump}", f"-A {hook.jump}"),
    ):
        text = f"*mangle\n{chains}{rules}\nCOMMIT\n"
        assert saved.foreign_jumps(text) == [hook.jump]
        assert f"-D {hook.jump}\n" in saved.removal_text({"mangle": text})
        assert back in saved.return_text({"mangle": text}, {"mangle": text}).splitlines()
