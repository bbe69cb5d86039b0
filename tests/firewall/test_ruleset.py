"""The text that is loaded: what must be in it, in which order, and what must never be."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gatekeeper.firewall import lanes, names, ruleset
from gatekeeper.firewall.lanes import Lane
from gatekeeper.firewall.members import Members, RuleMembers, SetMembers
from gatekeeper.settings import (
    Client,
    Established,
    FirewallSettings,
    FwknopKeys,
    Guard,
    Mode,
    Ports,
    Refuse,
    Rules,
    Sequences,
    Service,
    Transport,
    Via,
)

TCP, UDP = Transport.TCP, Transport.UDP
RULES = Rules(
    services={
        "ssh": Service("ssh", (Ports(TCP, 22),), 3600),
        "web": Service("web", (Ports(TCP, 443),), 3600, established=Established.CUT),
        "vpn": Service("vpn", (Ports(UDP, 51820),), None, established=Established.CUT),
        "dns": Service("dns", (Ports(TCP, 53), Ports(UDP, 53)), None),
    },
    clients={},
    knock_ports=(4000,),
    firewall=FirewallSettings(queue=7, mark=0x40),
)
LISTED = replace(
    RULES,
    services={
        "ssh": Service(
            "ssh",
            (Ports(TCP, 22),),
            3600,
            always=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/64")),
            never=(ip_network("203.0.113.0/24"), ip_network("198.51.100.7"), ip_network("2001:db8:bad::/48")),
        )
    },
    never=(ip_network("203.0.113.0/24"),),
)
KNOCKS_PORTS = {
    "cam": Client(
        name="cam",
        services=("ssh",),
        sequences=Sequences(opens=((Ports(UDP, 7000), Ports(TCP, 8000), Ports(TCP, 9000)),), within=5),
    )
}
HOST = (ip_address("10.0.0.2"), ip_address("fd00::2"))
PLACES = replace(
    RULES,
    services={
        "own": Service("own", (Ports(TCP, 22),), 60),
        "host": Service("host", (Ports(TCP, 22), Ports(UDP, 53)), 60, addresses=HOST, guard=Guard.FORWARD),
        "pub": Service("pub", (Ports(TCP, 80), Ports(UDP, 53)), 60, interfaces=("eth0",), guard=Guard.PUBLISHED),
        "named": Service(
            "named",
            (Ports(TCP, 8000, 8010),),
            60,
            established=Established.CUT,
            addresses=(ip_address("192.0.2.1"),),
            guard=Guard.PUBLISHED,
        ),
    },
)
SETS: Members = SetMembers()
BY_RULES: Members = RuleMembers({"ssh": [ip_network("192.0.2.7"), ip_network("2001:db8::7")]})
TAGGED = {"laptop": Client(name="laptop", services=("ssh",), keys=(b"k" * 32,))}
PLAIN = {"desk": Client(name="desk", services=("ssh",), open_key=b"open_sesame", close_key=b"close")}
KNOCKS, STRANGERS, OTHERS = (lanes.target(RULES, lane) for lane in Lane)
NEW = "-g GKEEPER-NEW"
EACH = "50/sec --hashlimit-burst 100 --hashlimit-mode srcip"
IN_ALL = "-m limit --limit 1000/sec --limit-burst 1000"
NOT_FULL = "-m limit --limit 5000/sec --limit-burst 5000"


def few(name: str, version: int = 4) -> str:
    mask = " --hashlimit-srcmask 64" if version == 6 else ""
    bucket = f"--hashlimit-name gatekeeper-{name}-{version} --hashlimit-htable-expire 3000"
    return f"-m hashlimit --hashlimit-upto {EACH}{mask} {bucket}"


def chain(name: str, version: int = 4, *, rules: Rules = RULES, members: Members = SETS) -> list[str]:
    lines = ruleset.iptables_text(rules, version, members).splitlines()
    return [line.removeprefix(f"-A {name} ") for line in lines if line.startswith(f"-A {name} ")]


@pytest.mark.parametrize("members", [SETS, BY_RULES], ids=["sets", "rules"])
@pytest.mark.parametrize("refuse", list(Refuse))
def test_nothing_bypasses_the_queue_and_nothing_is_accepted(members: Members, refuse: Refuse) -> None:
    """Without a worker nobody gets in; what we let through is still the host's own firewall's to decide."""
    rules = replace(RULES, via=frozenset({Via.UDP, Via.SYN}), refuse=refuse)
    for version in (4, 6):
        text = ruleset.iptables_text(rules, version, members)
        assert "bypass" not in text
        assert "-j ACCEPT" not in text
        assert "filter" not in text
        assert text.count(NEW) == 4, "one for each service"
        queued = [line for line in chain(names.NEW, version, rules=rules, members=members) if "NFQUEUE" in line]
        assert len(queued) == 2 + isinstance(members, SetMembers), "all of them bounded"


@pytest.mark.parametrize("version", [4, 6])
def test_a_service_is_passed_by_its_mark_then_by_its_set_then_queued(version: int) -> None:
    assert "-p tcp -m tcp --dport 22 -g GKEEPER-IN-ssh" in chain(names.IN, version)
    assert chain("GKEEPER-IN-ssh", version) == [
        "-p tcp -m tcp ! --syn -m connmark --mark 0x40/0x40 -j RETURN",
        "-i lo -j RETURN",
        f"-m set --match-set gatekeeper-{version}-ssh src -g GKEEPER-PASS",
        NEW,
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_strangers_meet_the_queue_as_far_as_there_is_room_and_who_has_just_knocked_always_does(version: int) -> None:
    """What was given back comes first: it was counted when it came. An IPv6 sender is a network of 64 bits."""
    more = few("knocked", version).replace("50/sec --hashlimit-burst 100", "200/sec --hashlimit-burst 400")
    assert chain(names.NEW, version) == [
        f"-m mark --mark 0x40/0x40 {STRANGERS}",
        f"-m set --match-set gatekeeper-k{version} src {more} {STRANGERS}",
        f"{few('new', version).replace('upto', 'above')} -j DROP",
        f"{IN_ALL} {STRANGERS}",
        "-j DROP",
    ]
    assert not any("match-set" in line for line in chain(names.NEW, version, members=BY_RULES))


def test_without_sets_each_grant_is_a_rule_in_a_chain_that_ends_as_its_services_would() -> None:
    assert chain("GKEEPER-IN-ssh", members=BY_RULES)[-1] == "-g GKEEPER-SRC-ssh"
    assert chain("GKEEPER-SRC-ssh", members=BY_RULES) == ["-s 192.0.2.7/32 -g GKEEPER-PASS", NEW]
    assert chain("GKEEPER-SRC-ssh", 6, members=BY_RULES) == ["-s 2001:db8::7/128 -g GKEEPER-PASS", NEW]
    assert chain("GKEEPER-OUT-ssh", members=BY_RULES)[-1] == "-g GKEEPER-DST-ssh"
    assert chain("GKEEPER-DST-ssh", members=BY_RULES) == ["-d 192.0.2.7/32 -j RETURN", "-j DROP"]
    assert "match-set" not in ruleset.iptables_text(LISTED, 4, BY_RULES)


def test_replacing_members_touches_only_their_chains() -> None:
    text = ruleset.members_text(RULES, 4, BY_RULES)
    touched = {line.split()[1] for line in text.splitlines() if line.startswith("-A")}
    assert touched == {f"GKEEPER-{side}-{name}" for side in ("SRC", "DST") for name in RULES.services}
    assert text.count(":GKEEPER-") == len(touched)
    assert text.endswith("COMMIT\n")


@pytest.mark.parametrize("rules", [RULES, LISTED, PLACES], ids=["rules", "listed", "places"])
def test_nothing_passes_by_its_flow_without_the_mark_nor_as_a_syn_nor_where_it_is_cut(rules: Rules) -> None:
    """What connection tracking says of a flow proves nothing."""
    for service in rules.services.values():
        for line in chain(names.in_chain(service.name), rules=rules):
            if line.endswith("-j RETURN") and line != "-i lo -j RETURN":
                assert "-m connmark --mark 0x40/0x40 " in line
                assert line.startswith("-p tcp -m tcp ! --syn "), "udp is always cut"
                assert service.established is Established.KEEP
    assert "ESTABLISHED" not in ruleset.iptables_text(rules, 4, SETS)


def test_tcp_ports_are_looked_for_first_then_come_loopback_and_knocks_then_other_services() -> None:
    """No knock is a TCP packet to one, and most packets are."""
    leading = [f"-p tcp -m tcp --dport {port} -g GKEEPER-IN-{name}" for name, port in (("ssh", 22), ("web", 443))]
    assert chain(names.IN, rules=replace(RULES, clients=TAGGED)) == [
        *leading,
        "-p tcp -m tcp --dport 53 -g GKEEPER-IN-dns",
        "-i lo -j RETURN",
        f"-p udp -m udp --dport 4000 -m mark --mark 0x40/0x40 {KNOCKS}",
        f"-p udp -m udp --dport 4000 -m conntrack --ctstate DNAT {few('knocks')} {IN_ALL} {OTHERS}",
        "-p udp -m udp --dport 4000 -j DROP",
        "-p udp -m udp --dport 51820 -g GKEEPER-IN-vpn",
        "-p udp -m udp --dport 53 -g GKEEPER-IN-dns",
    ]
    leaving = chain(names.OUT)
    assert leaving[2:4] == ["-p tcp -m tcp --sport 53 -g GKEEPER-OUT-dns", "-o lo -j RETURN"]


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("refuse", list(Refuse))
def test_nothing_is_asked_of_loopback_that_could_take_a_packet_away(mode: Mode, refuse: Refuse) -> None:
    """Behind the mark, which only lets go on, where nothing else came before; and first of all where it did."""
    plain, listed = (replace(rules, mode=mode, refuse=refuse, via=frozenset(Via)) for rules in (RULES, LISTED))
    for rules, name, at in ((plain, "ssh", 1), (plain, "web", 0), (listed, "ssh", 0 if mode is Mode.GUARD else 1)):
        assert chain(names.in_chain(name), rules=rules)[at] == "-i lo -j RETURN"
    if mode is Mode.OBSERVE:
        return
    aloud = refuse is Refuse.RESET
    for rules, name, at in ((plain, "ssh", 0 if aloud else 1), (plain, "web", 0), (listed, "ssh", 0)):
        assert chain(names.out_chain(name), rules=rules)[at] == "-o lo -j RETURN"
    for side in (names.in_chain, names.out_chain):
        assert not any("lo -j" in line for line in chain(side("vpn"), rules=plain)), "it comes behind loopback"


def test_a_protected_port_sends_to_granted_sources_and_marked_flows_only() -> None:
    assert chain(names.OUT)[0] == "-p tcp -m tcp --sport 22 -g GKEEPER-OUT-ssh"
    assert chain("GKEEPER-OUT-ssh") == [
        "-p tcp -m connmark --mark 0x40/0x40 -j RETURN",
        "-o lo -j RETURN",
        "-m set --match-set gatekeeper-4-ssh dst -j RETURN",
        "-j DROP",
    ]
    assert chain("GKEEPER-OUT-web") == [
        "-o lo -j RETURN",
        "-m set --match-set gatekeeper-4-web dst -j RETURN",
        "-p tcp -m tcp --tcp-flags RST RST -m connmark --mark 0x40/0x40 -j RETURN",
        "-j DROP",
    ]
    assert chain("GKEEPER-OUT-vpn") == ["-m set --match-set gatekeeper-4-vpn dst -j RETURN", "-j DROP"]


def test_ports_addresses_and_interfaces_are_matched_on_the_side_of_the_server() -> None:
    here = (ip_address("192.0.2.1"), ip_address("192.0.2.2"), ip_address("2001:db8::1"))
    ports = (Ports(TCP, 80), Ports(TCP, 6000, 6010))
    rules = replace(RULES, services={"x": Service("x", ports, 60, addresses=here, interfaces=("eth0", "wg+"))})
    arriving = [line for line in chain(names.IN, rules=rules) if line.endswith("-g GKEEPER-IN-x")]
    assert len(arriving) == 2 * 2 * 2
    assert arriving[0] == "-p tcp -m tcp --dport 80 -d 192.0.2.1 -i eth0 -g GKEEPER-IN-x"
    assert arriving[-1] == "-p tcp -m tcp --dport 6000:6010 -d 192.0.2.2 -i wg+ -g GKEEPER-IN-x"
    leaving = [line for line in chain(names.OUT, 6, rules=rules) if line.endswith("-g GKEEPER-OUT-x")]
    assert len(leaving) == 2 * 2
    assert leaving[0] == "-p tcp -m tcp --sport 80 -s 2001:db8::1 -o eth0 -g GKEEPER-OUT-x"


def test_a_service_of_ipv4_addresses_is_not_guarded_over_ipv6() -> None:
    rules = replace(RULES, services={"x": Service("x", (Ports(TCP, 80),), 60, addresses=(ip_address("192.0.2.1"),))})
    assert not any("GKEEPER-IN-x" in line for line in chain(names.IN, 6, rules=rules))


def test_never_goes_before_everything_and_always_needs_no_knock() -> None:
    assert chain("GKEEPER-IN-ssh", rules=LISTED)[1] == "-m set --match-set gatekeeper-n4-ssh src -j DROP"
    assert "-m set --match-set gatekeeper-a4-ssh src -g GKEEPER-PASS" in chain("GKEEPER-IN-ssh", rules=LISTED)
    assert chain("GKEEPER-OUT-ssh", rules=LISTED)[1] == "-m set --match-set gatekeeper-n4-ssh dst -j DROP"
    assert "-m set --match-set gatekeeper-a4-ssh dst -j RETURN" in chain("GKEEPER-OUT-ssh", rules=LISTED)
    by_rules = chain("GKEEPER-IN-ssh", rules=LISTED, members=BY_RULES)
    assert by_rules[1:3] == ["-s 203.0.113.0/24 -j DROP", "-s 198.51.100.7/32 -j DROP"]
    assert "-s 10.0.0.0/8 -g GKEEPER-PASS" in by_rules


def test_who_may_not_even_knock_is_dropped_before_the_queue() -> None:
    knocks = [line for line in chain(names.IN, rules=replace(LISTED, clients=TAGGED)) if "--dport 4000" in line]
    assert knocks == [
        "-p udp -m udp --dport 4000 -m set --match-set gatekeeper-n4 src -j DROP",
        f"-p udp -m udp --dport 4000 -m mark --mark 0x40/0x40 {KNOCKS}",
        f"-p udp -m udp --dport 4000 -m conntrack --ctstate DNAT {few('knocks')} {IN_ALL} {OTHERS}",
        "-p udp -m udp --dport 4000 -j DROP",
    ]
    assert not any("-n6" in line for line in chain(names.IN, 6, rules=LISTED)), "there is none of IPv6"


def test_where_refusals_are_told_never_is_told_too_and_our_resets_may_leave() -> None:
    """The packet goes to the queue, which drops it all the same."""
    aloud = replace(LISTED, refuse=Refuse.RESET)
    assert chain("GKEEPER-IN-ssh", rules=aloud)[1] == f"-m set --match-set gatekeeper-n4-ssh src {NEW}"
    leaving = chain("GKEEPER-OUT-ssh", rules=aloud)
    assert leaving[1] == "-p tcp -m tcp --tcp-flags RST RST -m mark --mark 0x40/0x40 -g GKEEPER-SENT"
    assert leaving[2] == "-m set --match-set gatekeeper-n4-ssh dst -j DROP"


def raw(clients: dict[str, Client], **changes: object) -> list[str]:
    rules = replace(RULES, clients=clients, knock_ports=(443,), **changes)  # type: ignore[arg-type]
    return chain(names.RAW, rules=rules)


def test_what_bears_no_tag_ends_before_connection_tracking_unless_some_knock_bears_none() -> None:
    knock, quick = "! -i lo -p udp -m udp --dport 443 -m addrtype --dst-type LOCAL", "-p tcp -j RETURN"
    tags, untracked = f"{knock} -j GKEEPER-TAGS", f"{knock} -j CT --notrack"
    ends = f"{knock} -m mark ! --mark 0x40/0x40 -j DROP"
    assert raw({}) == [quick, ends, untracked], "there is nobody to knock"
    assert raw(TAGGED) == [quick, tags, ends, untracked]
    assert raw(PLAIN) == [quick, untracked]
    assert raw(TAGGED | PLAIN) == [quick, tags, untracked]
    assert raw(TAGGED, refuse=Refuse.RESET) == [quick, tags, untracked], "a closed port answers whatever is sent to it"
    ping = "! -i lo -p icmp -m icmp --icmp-type 8 -m addrtype --dst-type LOCAL -j GKEEPER-TAGS"
    assert raw(TAGGED, via=frozenset(Via)) == [quick, tags, ends, untracked, ping]


@pytest.mark.parametrize("version", [4, 6])
def test_who_bears_a_tag_is_noted_and_its_datagram_marked(version: int) -> None:
    tagged = replace(RULES, clients=TAGGED)
    noted = [
        f"-j SET --add-set gatekeeper-b{version} src",
        f"-m set --match-set gatekeeper-b{version} src --packets-gt 4000 -j DROP",
        f"-j SET --add-set gatekeeper-k{version} src --exist --timeout 2",
    ]
    marked = ["-j MARK --set-xmark 0x40/0x40"]
    assert chain(names.TAGGED, version, rules=tagged) == noted + marked
    assert chain(names.TAGGED, version, rules=tagged, members=BY_RULES) == marked
    assert names.TAGS not in ruleset.iptables_text(RULES, version, SETS)


def test_knocks_without_a_tag_are_told_by_their_length_and_bounded_for_each_sender() -> None:
    """From the shortest key to the longest with a service's name behind it, whatever the IP header is like."""
    by_plain = [line for line in chain(names.IN, rules=replace(RULES, clients=PLAIN)) if "--dport 4000" in line]
    knock = "-p udp -m udp --dport 4000"
    assert by_plain == [f"{knock} -m length --length 33:85 {few('knocks')} {OTHERS}", f"{knock} -j DROP"]
    by_plain = [line for line in chain(names.IN, 6, rules=replace(RULES, clients=PLAIN)) if "--dport 4000" in line]
    assert by_plain[0] == f"{knock} -m length --length 53:129 {few('knocks', 6)} {OTHERS}"
    aloud = chain(names.IN, rules=replace(RULES, clients=TAGGED, refuse=Refuse.RESET))
    assert aloud[5] == f"{knock} {few('knocks')} {OTHERS}"


@pytest.mark.parametrize(("clients", "most"), [(1, 1000), (100, 1000), (200, 500), (1000, 100), (10_000, 50)])
def test_knocks_that_cost_a_look_at_many_keys_are_bounded_in_all_too(clients: int, most: int) -> None:
    keys = FwknopKeys(key=b"k", hmac_key=b"h")
    many = {f"c{one}": Client(name=f"c{one}", services=("ssh",), fwknop=keys) for one in range(clients)}
    rules = replace(RULES, clients=many | PLAIN)
    for version, length in ((4, "168:1568"), (6, "188:1612")):
        knock = "-p udp -m udp --dport 4000"
        plain, fwknop, last = (line for line in chain(names.IN, version, rules=rules) if "--dport 4000" in line)
        assert "limit --limit" not in plain
        assert fwknop.startswith(f"{knock} -m length --length {length} -m bpf --bytecode ")
        assert fwknop.endswith(f"{few('knocks', version)} -m limit --limit {most}/sec --limit-burst {most} {OTHERS}")
        assert last == f"{knock} -j DROP"
        aloud = replace(rules, refuse=Refuse.RESET)
        fwknop_too, beyond, all_else, _ = (line for line in chain(names.IN, version, rules=aloud) if "4000" in line)
        assert fwknop_too == fwknop
        assert beyond == fwknop[: fwknop.index(" -m hashlimit")] + " -j DROP"
        assert all_else == f"{knock} {few('knocks', version)} {OTHERS}"
        anyhow = replace(rules, via=frozenset({Via.ICMP, Via.SYN}))
        for name in (names.ECHO, "GKEEPER-IN-ssh"):
            (line,) = (one for one in chain(name, version, rules=anyhow) if OTHERS in one)
            assert f"--limit {most}/sec" in line
    costly = {"old": Client(name="old", services=("ssh",), fwknop=FwknopKeys(key=b"k", hmac="none"))}
    assert replace(RULES, clients=costly).untagged[0].tries == 8


def test_tags_that_are_there_stay_until_others_are_known_and_nothing_else_does() -> None:
    tagged = replace(RULES, clients=TAGGED)
    line = f'-A {names.TAGS} -m bpf --bytecode "5,177 0 0 0,64 0 0 8,21 1 0 7,6 0 0 0,6 0 0 65535" -g {names.TAGGED}'
    saved = {"raw": f"*raw\n{line}\n-A {names.TAGS} -j {names.TAGGED}\nCOMMIT\n"}
    text = ruleset.iptables_text(tagged, 4, SETS, saved)
    assert [one for one in text.splitlines() if one.startswith(f"-A {names.TAGS} ")] == [line]
    text = ruleset.iptables_text(tagged, 4, SETS, saved, known_tags=[b"abcd"])
    assert line not in text
    assert f"21 1 0 {0x61626364}," in text


def test_echo_requests_go_on_without_a_worker_and_are_queued_only_where_knocks_come_by_them() -> None:
    by_echo = replace(RULES, via=frozenset({Via.ICMP}), clients=TAGGED | PLAIN)
    ping = "! -i lo -p icmp -m icmp --icmp-type 8"
    assert chain(names.ECHO, rules=by_echo) == [
        f"{ping} -m mark --mark 0x40/0x40 {KNOCKS} --queue-bypass",
        f"{ping} {NOT_FULL} {few('pings')} {IN_ALL} {OTHERS} --queue-bypass",
    ]
    assert len(chain(names.ECHO, 6, rules=replace(by_echo, clients=TAGGED))) == 1
    assert len(chain(names.ECHO, 6, rules=replace(by_echo, mode=Mode.OBSERVE))) == 1
    assert not any("--dport 4000" in line for line in chain(names.IN, rules=by_echo))
    assert chain(names.ECHO) == chain(names.ECHO, 6) == []


def test_what_lets_packets_go_on_comes_behind_everybodys_rules_and_what_guards_before_them() -> None:
    """For what the queue lets go on skips the rest of the table: also the host's own rules."""
    guards, observes = (
        ruleset.iptables_text(replace(RULES, mode=mode, via=frozenset(Via)), 4, SETS)
        for mode in (Mode.GUARD, Mode.OBSERVE)
    )
    for text in (guards, observes):
        assert "\n-A INPUT -j GKEEPER-ECHO\n" in text
        assert "bypass" not in "".join(line for line in text.splitlines() if "GKEEPER-IN" in line) or text is observes
    assert "\n-I INPUT 1 -j GKEEPER-IN\n" in guards
    assert "\n-A INPUT -j GKEEPER-IN\n" in observes


def test_no_packet_keeps_our_mark_which_others_may_copy_to_its_connection() -> None:
    assert chain(names.PASS)[-1] == chain(names.SENT)[-1] == "-j MARK --set-xmark 0x0/0x40"


@pytest.mark.parametrize("version", [4, 6])
def test_only_a_syn_that_bears_data_and_was_not_seen_is_queued_as_a_knock(version: int) -> None:
    by_syn = replace(RULES, via=frozenset({Via.SYN}))
    first = chain("GKEEPER-IN-ssh", version, rules=by_syn)[2]
    assert first.startswith('-p tcp -m tcp --syn -m mark ! --mark 0x40/0x40 -m bpf --bytecode "10,')
    assert first.endswith(f" {NOT_FULL} {few('syn', version)} {IN_ALL} {OTHERS}")
    assert not any("bpf" in line for line in chain("GKEEPER-IN-vpn", version, rules=by_syn))


@pytest.mark.parametrize("members", [SETS, BY_RULES], ids=["sets", "rules"])
def test_a_ruleset_that_observes_has_nothing_that_drops(members: Members) -> None:
    rules = replace(LISTED, mode=Mode.OBSERVE, via=frozenset(Via))
    for version in (4, 6):
        text = ruleset.iptables_text(rules, version, members)
        assert "DROP" not in text
        assert "notrack" not in text
        assert "GKEEPER-OUT-ssh " not in "".join(chain(names.OUT, version, rules=rules))
        for line in text.splitlines():
            assert "NFQUEUE" not in line or line.endswith("--queue-bypass")


def test_jumps_that_are_there_already_are_replaced_in_the_same_step() -> None:
    jumps = "-A INPUT -j GKEEPER-IN\n-A INPUT -s 10.0.0.1 -g GKEEPER-IN\n"
    saved = f"*mangle\n:INPUT ACCEPT [0:0]\n{jumps}-A INPUT -j THEIRS\n"
    mangle = ruleset.iptables_text(RULES, 4, SETS, {"mangle": saved}).split("*mangle\n")[1]
    assert "-D INPUT -j GKEEPER-IN\n-D INPUT -s 10.0.0.1 -g GKEEPER-IN\n-I INPUT 1 -j GKEEPER-IN\n" in mangle
    assert mangle.count("COMMIT") == 1


def test_chains_that_are_not_needed_any_more_go_in_the_same_step() -> None:
    saved = "*mangle\n:INPUT ACCEPT [0:0]\n:GKEEPER-IN - [0:0]\n:GKEEPER-IN-old - [0:0]\n:THEIRS - [0:0]\nCOMMIT\n"
    mangle = ruleset.iptables_text(RULES, 4, SETS, {"mangle": saved}).split("*mangle\n")[1]
    assert "-F GKEEPER-IN-old\n-X GKEEPER-IN-old\n" in mangle
    assert "-F GKEEPER-IN\n" not in mangle
    assert "THEIRS" not in mangle


def test_no_chain_has_a_longer_name_than_the_kernel_takes() -> None:
    longest = "a" * 16
    for name in (names.in_chain, names.out_chain, names.from_chain, names.to_chain):
        assert len(name(longest)) <= 28


# -- where it is guarded


def test_a_host_behind_is_guarded_where_packets_are_forwarded() -> None:
    """What it sends is looked at first, and returns: it may be for another host behind."""
    assert [line for line in chain(names.FWD, rules=PLACES) if "ctstate" not in line] == [
        "-p tcp -m tcp --sport 22 -s 10.0.0.2 -j GKEEPER-OUT-host",
        "-p udp -m udp --sport 53 -s 10.0.0.2 -j GKEEPER-OUT-host",
        "-p tcp -m tcp --dport 22 -d 10.0.0.2 -g GKEEPER-IN-host",
        "-p udp -m udp --dport 53 -d 10.0.0.2 -g GKEEPER-IN-host",
        "-p tcp -m tcp --dport 22 -m addrtype --dst-type LOCAL -j DROP",
        "-p udp -m udp --dport 53 -m addrtype --dst-type LOCAL -j DROP",
    ]
    assert chain(names.FWD, 6, rules=PLACES)[2] == "-p tcp -m tcp --dport 22 -d fd00::2 -g GKEEPER-IN-host"
    assert sum("host" in line for line in chain(names.FWD, 6, rules=PLACES)) == 4
    assert not any("host" in line for line in chain(names.IN, rules=PLACES) + chain(names.OUT, rules=PLACES))


def test_a_published_port_is_guarded_before_the_translation_and_its_flows_behind_it() -> None:
    assert chain(names.PRE, rules=PLACES) == [
        "-i lo -j RETURN",
        "-p tcp -m tcp --dport 80 -m addrtype --dst-type LOCAL -i eth0 -g GKEEPER-IN-pub",
        "-p udp -m udp --dport 53 -m addrtype --dst-type LOCAL -i eth0 -g GKEEPER-IN-pub",
        "-p tcp -m tcp --dport 8000:8010 -d 192.0.2.1 -g GKEEPER-IN-named",
    ]
    flow = "-m conntrack --ctstate DNAT --ctdir REPLY"
    assert chain(names.POST, rules=PLACES) == [
        "-o lo -j RETURN",
        "-p tcp -m tcp --sport 80 -m addrtype --src-type LOCAL -o eth0 -g GKEEPER-OUT-pub",
        "-p udp -m udp --sport 53 -m addrtype --src-type LOCAL -o eth0 -g GKEEPER-OUT-pub",
        f"-p tcp {flow} --ctorigdstport 80 -o eth0 -g GKEEPER-OUT-pub",
        f"-p udp {flow} --ctorigdstport 53 -o eth0 -g GKEEPER-OUT-pub",
        "-p tcp -m tcp --sport 8000:8010 -s 192.0.2.1 -g GKEEPER-OUT-named",
        f"-p tcp {flow} --ctorigdst 192.0.2.1 --ctorigdstport 8000:8010 -g GKEEPER-OUT-named",
    ]
    assert not any("named" in line for line in chain(names.PRE, 6, rules=PLACES) + chain(names.POST, 6, rules=PLACES))


@pytest.mark.parametrize("version", [4, 6])
def test_what_was_translated_and_is_not_marked_ends_where_it_arrives(version: int) -> None:
    """Behind all services' rules, by the interface it came by; not where addresses are named, nor observing."""
    flow = "-m conntrack --ctstate DNAT --ctdir ORIGINAL --ctorigdstport"
    end = "-m connmark ! --mark 0x40/0x40 -i eth0 -j DROP"
    for name in (names.IN, names.FWD):
        assert chain(name, version, rules=PLACES)[-2:] == [f"-p tcp {flow} 80 {end}", f"-p udp {flow} 53 {end}"]
        assert "8000:8010" not in "".join(chain(name, version, rules=PLACES))
        assert "ctorigdstport" not in "".join(chain(name, version, rules=replace(PLACES, mode=Mode.OBSERVE)))
    many = "-p udp -m udp --dport 53 -m addrtype ! --dst-type LOCAL -i eth0 -g GKEEPER-IN-pub"
    assert many in chain(names.IN, version, rules=PLACES)
    for name, has_it in (("pub", True), ("named", False)):
        alone = replace(PLACES, services={name: PLACES.services[name]})
        assert (names.FWD in [one.hook.chain for one in ruleset.jumps(alone)]) is has_it
        alone = replace(alone, mode=Mode.OBSERVE)
        assert names.FWD not in [one.hook.chain for one in ruleset.jumps(alone)]


def test_where_there_is_no_socket_of_ours_a_connection_is_let_in_by_its_syn_alone() -> None:
    """Else a stream that was cut would go on under a later grant."""
    midstream = "-p tcp -m tcp ! --syn -m connmark ! --mark 0x40/0x40"
    for name, at in (("host", 1), ("pub", 1), ("named", 0)):
        assert chain(f"GKEEPER-IN-{name}", rules=PLACES)[at] == f"{midstream} -j DROP"
    assert midstream not in "".join(chain("GKEEPER-IN-own", rules=PLACES))
    aloud = replace(PLACES, refuse=Refuse.RESET)
    assert chain("GKEEPER-IN-host", rules=aloud)[1] == f"{midstream} {NEW}", "a worker tells its sender"
    listed = replace(PLACES.services["host"], always=(ip_network("10.1.0.0/16"),))
    first = chain("GKEEPER-IN-host", rules=replace(PLACES, services={"host": listed}))
    assert "gatekeeper-a4-host src -g GKEEPER-PASS" in first[1], "who needs no grant loses none"


def test_our_resets_in_the_name_of_a_host_behind_lose_their_mark() -> None:
    reset = "-p tcp -m tcp --sport 22 -s 10.0.0.2 --tcp-flags RST RST -m mark --mark 0x40/0x40 -g GKEEPER-SENT"
    assert reset in chain(names.OUT, rules=replace(PLACES, refuse=Refuse.RESET))
    assert reset not in chain(names.OUT, rules=PLACES)


ALWAYS_THERE = [("PREROUTING", names.RAW), ("INPUT", names.IN), ("OUTPUT", names.OUT)]


def test_only_the_hooks_that_are_needed_are_there() -> None:
    def there(rules: Rules) -> list[tuple[str, str, bool]]:
        return [(one.hook.base, one.hook.chain, one.is_first) for one in ruleset.jumps(rules)]

    assert there(RULES) == [(base, name, True) for base, name in ALWAYS_THERE]
    assert there(replace(RULES, via=frozenset(Via)))[-1] == ("INPUT", names.ECHO, False), "where pings may be knocks"
    text = ruleset.iptables_text(RULES, 4, SETS)
    assert not any(name in text for name in (names.FWD, names.PRE, names.POST, names.ECHO, "FORWARD"))
    assert names.STEPS not in text
    last = {names.ECHO, names.STEPS}
    places = replace(PLACES, via=frozenset(Via), clients=KNOCKS_PORTS)
    every = [(hook.base, hook.chain, hook.chain not in last) for hook in names.HOOKS]
    assert there(places) == every
    observed = [(base, name, name in {names.RAW, names.OUT}) for base, name, _ in every if name != names.POST]
    assert there(replace(places, mode=Mode.OBSERVE)) == observed


@pytest.mark.parametrize("mode", list(Mode))
def test_each_hook_is_loaded_at_the_end_where_it_is_said_to_stand(mode: Mode) -> None:
    rules = replace(PLACES, mode=mode)
    text = ruleset.iptables_text(rules, 4, SETS)
    for one in ruleset.jumps(rules):
        table = text.split(f"*{one.hook.table}\n")[1].split("COMMIT")[0].splitlines()
        assert f":{one.hook.chain} - [0:0]" in table
        assert f"-A {one.hook.jump}" in [line.replace(f"-I {one.hook.base} 1", f"-A {one.hook.base}") for line in table]
        assert (f"-I {one.hook.base} 1 -j {one.hook.chain}" in table) is one.is_first
    assert ("DROP" in text) is (mode is Mode.GUARD)
