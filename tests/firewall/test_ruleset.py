"""The text that is loaded: what must be in it, in which order, and what must never be."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gatekeeper.firewall import names, ruleset
from gatekeeper.model import Established, FirewallSettings, Rules, Service, Transport

RULES = Rules(
    services={
        "ssh": Service("ssh", Transport.TCP, 22, 3600),
        "web": Service("web", Transport.TCP, 443, 3600, established=Established.CUT),
        "vpn": Service("vpn", Transport.UDP, 51820, None, established=Established.CUT),
    },
    clients={},
    knock_port=4000,
    firewall=FirewallSettings(queue=7, mark=0x40),
)


def chain(name: str, version: int = 4) -> list[str]:
    lines = ruleset.iptables_text(RULES, version).splitlines()
    return [line.removeprefix(f"-A {name} ") for line in lines if line.startswith(f"-A {name} ")]


def test_nothing_bypasses_the_queue_and_nothing_is_accepted() -> None:
    """Without a worker nobody gets in; what we let through is still the host's own firewall's to decide."""
    text = ruleset.iptables_text(RULES, 4) + ruleset.iptables_text(RULES, 6)
    assert "bypass" not in text
    assert "-j ACCEPT" not in text
    assert "filter" not in text
    assert text.count("--queue-num 7") == 8


@pytest.mark.parametrize("version", [4, 6])
def test_a_service_is_passed_by_its_mark_then_by_its_set_then_queued(version: int) -> None:
    ssh = [line for line in chain(names.IN, version) if "--dport 22 " in line]
    assert ssh == [
        "-p tcp -m tcp --dport 22 ! --syn -m conntrack --ctstate ESTABLISHED -m connmark --mark 0x40/0x40 -j RETURN",
        f"-p tcp -m tcp --dport 22 -m set --match-set gatekeeper-{version}-ssh src -g GATEKEEPER-PASS",
        "-p tcp -m tcp --dport 22 -j NFQUEUE --queue-num 7",
    ]


def test_established_never_passes_without_the_mark_nor_where_it_is_cut() -> None:
    for line in chain(names.IN):
        if "ESTABLISHED" in line:
            assert "--mark 0x40/0x40" in line
            assert "--dport 22 " in line


def test_loopback_comes_first_then_knocks_then_services() -> None:
    arriving = chain(names.IN)
    assert arriving[0] == "-i lo -j RETURN"
    assert arriving[1] == "-p udp -m udp --dport 4000 -j NFQUEUE --queue-num 7"
    assert chain(names.OUT)[0] == "-o lo -j RETURN"


def test_a_protected_port_sends_to_granted_sources_and_marked_flows_only() -> None:
    leaving = chain(names.OUT)
    assert [line for line in leaving if "--sport 22 " in line][-1] == "-p tcp -m tcp --sport 22 -j DROP"
    cut = [line for line in leaving if "--sport 443 " in line]
    assert cut[1] == "-p tcp -m tcp --sport 443 --tcp-flags RST RST -m connmark --mark 0x40/0x40 -j RETURN"
    assert [line for line in leaving if "--sport 51820 " in line] == [
        "-p udp -m udp --sport 51820 -m set --match-set gatekeeper-4-vpn dst -j RETURN",
        "-p udp -m udp --sport 51820 -j DROP",
    ]


def test_knocks_are_not_tracked() -> None:
    assert chain(names.RAW) == ["! -i lo -p udp -m udp --dport 4000 -m addrtype --dst-type LOCAL -j CT --notrack"]


def test_jumps_that_are_there_already_are_replaced_in_the_same_step() -> None:
    jumps = "-A INPUT -j GATEKEEPER-IN\n-A INPUT -s 10.0.0.1 -g GATEKEEPER-IN\n"
    saved = f"*mangle\n:INPUT ACCEPT [0:0]\n{jumps}-A INPUT -j THEIRS\n"
    stale = {"mangle": ruleset.foreign_jumps(saved)}
    assert stale == {"mangle": ["INPUT -j GATEKEEPER-IN", "INPUT -s 10.0.0.1 -g GATEKEEPER-IN"]}
    mangle = ruleset.iptables_text(RULES, 4, stale).split("*mangle\n")[1]
    assert "-D INPUT -j GATEKEEPER-IN\n-D INPUT -s 10.0.0.1 -g GATEKEEPER-IN\n-I INPUT 1 -j GATEKEEPER-IN\n" in mangle
    assert mangle.count("COMMIT") == 1


def test_removal_names_only_what_is_ours() -> None:
    saved = (
        "*mangle\n:INPUT ACCEPT [0:0]\n:GATEKEEPER-IN - [0:0]\n:GATEKEEPER-PASS - [0:0]\n:THEIRS - [0:0]\n"
        "-A INPUT -j GATEKEEPER-IN\n-A INPUT -j THEIRS\n-A GATEKEEPER-IN -g GATEKEEPER-PASS\nCOMMIT\n"
    )
    assert ruleset.removal_text({"mangle": saved, "raw": "*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"}) == (
        "*mangle\n-D INPUT -j GATEKEEPER-IN\n-F GATEKEEPER-IN\n-F GATEKEEPER-PASS\n"
        "-X GATEKEEPER-IN\n-X GATEKEEPER-PASS\nCOMMIT\n"
    )


def test_members_are_replaced_in_one_step_with_the_time_they_have_left() -> None:
    members = {"ssh": {ip_network("192.0.2.7"): 60, ip_network("2001:db8::/64"): None}}
    assert ruleset.replace_members_text(members) == (
        "create gatekeeper-t4-ssh hash:net family inet hashsize 1024 maxelem 1048576 timeout 0 -exist\n"
        "flush gatekeeper-t4-ssh\n"
        "add gatekeeper-t4-ssh 192.0.2.7/32 timeout 60\n"
        "swap gatekeeper-t4-ssh gatekeeper-4-ssh\n"
        "destroy gatekeeper-t4-ssh\n"
        "create gatekeeper-t6-ssh hash:net family inet6 hashsize 1024 maxelem 1048576 timeout 0 -exist\n"
        "flush gatekeeper-t6-ssh\n"
        "add gatekeeper-t6-ssh 2001:db8::/64 timeout 0\n"
        "swap gatekeeper-t6-ssh gatekeeper-6-ssh\n"
        "destroy gatekeeper-t6-ssh\n"
    )


def test_no_name_is_longer_than_an_ipset_may_have() -> None:
    longest = "a" * 16
    assert len(names.fresh_set_name(longest, 6)) <= 31


@pytest.mark.parametrize(("seconds", "timeout"), [(None, 0), (0, 1), (1, 1), (3600, 3600), (10**9, 2_147_483)])
def test_kernel_timeouts(seconds: int | None, timeout: int) -> None:
    """Nothing becomes 0 by accident: that would be a grant for ever."""
    assert ruleset.kernel_timeout(seconds) == timeout
