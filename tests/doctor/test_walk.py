"""Following a packet through rules, as iptables-save and nft print them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper.doctor import nft, saved
from gatekeeper.doctor.marks import Touch, touch
from gatekeeper.doctor.walk import Chain, Condition, Kind, Probe, Rule, TooLongError, walk
from gatekeeper.settings import Transport

SSH = Probe(version=4, transport=Transport.TCP, port=22)
RUNNING = Probe(version=4, transport=Transport.TCP, port=22, is_new=False)
KNOCK = Probe(version=4, transport=Transport.UDP, port=62201)
NFT = (Path(__file__).parent / "nft.json").read_text()
"""What nft 1.0.6 printed for rules of our own making, as firewalld and others write them."""


def met(rules: str, probe: Probe = SSH, policy: str = "ACCEPT") -> list[str]:
    """List the targets that a packet meets in INPUT, with a ? where it only may."""
    lines = rules.strip().splitlines()
    chains = {line.split()[1] for line in lines} - {"INPUT"}
    head = [f":INPUT {policy} [0:0]", *(f":{name} - [0:0]" for name in chains)]
    chains_of = saved.parse("\n".join(["*filter", *head, *lines, "COMMIT"]))["filter"]
    return [step.target + "?" * (not step.is_certain) for step in walk(chains_of, "INPUT", probe)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("-A INPUT -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -p tcp -m tcp --dport 20:25 -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -p tcp -m multiport --dports 80,20:25 -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -p tcp -m multiport ! --dports 80,443 -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -p tcp -m tcp ! --dport 22 -j ACCEPT", ["DROP"]),
        ("-A INPUT -p tcp -m tcp --dport 23 -j ACCEPT", ["DROP"]),
        ("-A INPUT -p udp -m udp --dport 22 -j ACCEPT", ["DROP"]),
        ("-A INPUT ! -p udp -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -i lo -j ACCEPT", ["DROP"]),
        ("-A INPUT ! -i lo -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -i eth0 -j ACCEPT", ["ACCEPT?", "DROP"]),
        ("-A INPUT ! -i docker0 -p tcp -m tcp --dport 22 -j DNAT --to-destination 172.17.0.2:22", ["DNAT"]),
        ("-A INPUT -s 192.0.2.0/24 -j ACCEPT", ["ACCEPT?", "DROP"]),
        ("-A INPUT -s 127.0.0.0/8 -j ACCEPT", ["DROP"]),
        ("-A INPUT -d 224.0.0.251/32 -p tcp -j ACCEPT", ["DROP"]),
        ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", ["DROP"]),
        ("-A INPUT -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -m conntrack ! --ctstate INVALID -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", ["DROP"]),
        ("-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT", ["ACCEPT"]),
        ("-A INPUT -m addrtype --dst-type BROADCAST -j ACCEPT", ["DROP"]),
        ("-A INPUT -m limit --limit 3/min -j LOG --log-prefix x", ["LOG?", "DROP"]),
        ('-A INPUT -m comment --comment "-j ACCEPT ! -p" -j LOG', ["LOG", "DROP"]),
        ("-A INPUT -m socket -j ACCEPT", ["ACCEPT?", "DROP"]),
        ("-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT", ["DROP"]),
        ("-A INPUT -j GKEEPER-IN", ["GKEEPER-IN"]),
        ("-A INPUT -j GKEEPER-RAW", ["DROP"]),
    ],
)
def test_what_a_rule_does_to_a_strangers_first_packet(rule: str, expected: list[str]) -> None:
    assert met(rule, policy="DROP") == expected


def test_a_packet_goes_through_chains_as_the_kernel_sends_it() -> None:
    rules = """
-A INPUT -j logging
-A INPUT -j users
-A INPUT -p tcp -g end
-A INPUT -j ACCEPT
-A logging -j LOG
-A users -p tcp -m tcp --dport 22 -j RETURN
-A users -j DROP
-A end -m conntrack --ctstate ESTABLISHED -j ACCEPT
"""
    assert met(rules, policy="DROP") == ["LOG", "DROP"]
    assert met(rules, RUNNING, policy="DROP") == ["LOG", "ACCEPT"]
    assert met(rules, KNOCK, policy="ACCEPT") == ["LOG", "DROP"]
    assert met("-A INPUT -i eth0 -j some\n-A some -j DROP\n-A INPUT -s 192.0.2.1 -j RETURN") == ["DROP?", "ACCEPT"]


def test_chains_that_cannot_be_followed_to_the_end_are_given_up() -> None:
    maybe = (Condition(Kind.OTHER),)
    chains = {str(n): Chain((Rule("", maybe, str(n + 1)),) * 10) for n in range(8)}
    with pytest.raises(TooLongError):
        walk({**chains, "8": Chain()}, "0", SSH)


def test_a_rule_has_the_same_signature_before_and_after_the_kernel_had_it() -> None:
    before = "-A X -p tcp -m tcp --syn -m set --match-set gatekeeper-4-ssh src -g Y"
    after = "-A X -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m set --match-set gatekeeper-4-ssh src -g Y"
    one, other = (saved.parse(f"*mangle\n{text}\n")["mangle"]["X"].rules[0] for text in (before, after))
    assert saved.signature(one) == saved.signature(other)
    changed = saved.parse(f"*mangle\n{after.replace('-4-', '-6-')}\n")["mangle"]["X"].rules[0]
    assert saved.signature(one) != saved.signature(changed)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("CONNMARK --set-xmark 0x20000000/0x20000000", Touch.SETS),
        ("CONNMARK --set-xmark 0x30000000/0xffffffff", Touch.SETS),
        ("CONNMARK --set-xmark 0x1/0xffffffff", Touch.CLEARS),
        ("CONNMARK --set-xmark 0x1/0xff", None),
        ("CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff", Touch.COPIES),
        ("CONNMARK --save-mark", Touch.COPIES),
        ("CONNMARK --save-mark --nfmask 0xff --ctmask 0xff", None),
        ("CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff", None),
        ("MARK --set-xmark 0x1/0xffffffff", None),
        ("MARK --set-xmark 0x20000000/0x20000000", Touch.ON_PACKETS),
        ("ACCEPT", None),
    ],
)
def test_who_touches_our_mark(rule: str, expected: Touch | None) -> None:
    (one,) = saved.parse(f"*mangle\n-A PREROUTING -j {rule}\n")["mangle"]["PREROUTING"].rules
    assert touch(one, 0x2000_0000) is expected


def test_nftables_rules_are_read_as_iptables_are() -> None:
    (table,) = nft.parse(NFT)  # iptables' own tables are left out: iptables-save shows them
    assert (table.family, table.name, table.versions) == ("inet", "firewalld", (4, 6))
    places = {(base.chain, base.hook, base.priority) for base in table.bases}
    assert places >= {("pre", "prerouting", -100), ("in", "input", 10), ("marks2", "prerouting", -350)}

    def targets(start: str, probe: Probe) -> list[str]:
        steps = walk(table.chains, start, probe)
        return [step.target + "?" * (not step.is_certain) for step in steps]

    web = Probe(version=4, transport=Transport.TCP, port=8080)
    assert targets("pre", web) == ["DNAT?", "ACCEPT"]
    assert targets("pre", KNOCK) == ["REDIRECT"]
    assert targets("in", SSH)[-1] == "ACCEPT"  # by the named set
    assert targets("in", web)[-1] == "REJECT"
    assert targets("in", RUNNING) == ["ACCEPT"]  # by the verdict map
    assert targets("marks2", SSH)[-1] == "DROP"
    touched = [touch(rule, 0x2000_0000) for chain in ("marks", "marks2") for rule in table.chains[chain].rules]
    assert [one for one in touched if one] == [Touch.COPIES, Touch.SETS]
