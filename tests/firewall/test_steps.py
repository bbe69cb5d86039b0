"""What leads packets to the ports of sequences to a process: which, from whom, and that they go on in any case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatekeeper import steps
from gatekeeper.firewall import ruleset, sets
from gatekeeper.firewall.members import Members, RuleMembers, SetMembers
from gatekeeper.firewall.names import BEGIN, GO_ON, STEPS
from gatekeeper.firewall.steps import show_flags
from gatekeeper.settings import Client, Flags, Mode, Ports, Rules, Sequences, Service, Steps, Transport

TCP, UDP = Transport.TCP, Transport.UDP
WAYS: list[Members] = [SetMembers(), RuleMembers()]


def ports(*which: int | str) -> Steps:
    return tuple(Ports(UDP, int(one)) if isinstance(one, str) else Ports(TCP, one) for one in which)


def rules(*sequences: Sequences, **more: object) -> Rules:
    clients = {f"c{i}": Client(name=f"c{i}", services=("ssh",), sequences=one) for i, one in enumerate(sequences)}
    return Rules({"ssh": Service("ssh", (Ports(TCP, 22),), 60)}, clients, **more)  # type: ignore[arg-type]


CAM = Sequences(opens=(ports("7000", 8000, 9000),), closes=ports(9000, 8000, "7000"), within=5)
FIN = Sequences(opens=(ports(8000, 1000),), flags=Flags(0x01, 0x10), within=60)


def chain(name: str, its: Rules, members: Members = WAYS[0], version: int = 4) -> list[str]:
    text = ruleset.iptables_text(its, version, members)
    return [line.removeprefix(f"-A {name} ") for line in text.splitlines() if line.startswith(f"-A {name} ")]


def test_without_sequences_there_is_nothing_of_it() -> None:
    for members in WAYS:
        text = ruleset.iptables_text(rules(), 4, members)
        assert not any(name in text for name in (STEPS, BEGIN, GO_ON))
    assert "gatekeeper-s" not in sets.create_text(rules())


@pytest.mark.parametrize("members", WAYS, ids=["sets", "rules"])
@pytest.mark.parametrize("mode", list(Mode))
def test_packets_go_on_behind_everybodys_rules_and_never_wait_for_a_process(members: Members, mode: Mode) -> None:
    its = rules(CAM, mode=mode)
    text = ruleset.iptables_text(its, 4, members)
    assert f"-A INPUT -j {STEPS}" in text.splitlines()
    for name in (STEPS, BEGIN, GO_ON):
        assert not any("DROP" in line or "REJECT" in line for line in chain(name, its, members))
        assert all("--queue-bypass" in line for line in chain(name, its, members) if "NFQUEUE" in line)


def test_all_go_to_one_worker() -> None:
    """For IPv4 a queue is picked by the protocol too."""
    text = ruleset.iptables_text(rules(CAM, workers=4), 4, SetMembers())
    lines = [line for line in text.splitlines() if line.startswith(f"-A {GO_ON}")]
    assert [line for line in lines if "NFQUEUE" in line] == lines != []
    assert all("--queue-num 6252 " in line and "balance" not in line for line in lines)


def test_what_begins_comes_first_and_each_packet_has_the_flags_that_its_clients_want() -> None:
    lines = [line for line in chain(STEPS, rules(CAM, FIN)) if " -g " in line]
    syn, fin = "-p tcp -m tcp --tcp-flags SYN,ACK SYN", "-p tcp -m tcp --tcp-flags FIN,ACK FIN"
    assert lines == [
        f"! -i lo -p udp -m multiport --dports 7000 -g {BEGIN}",
        f"! -i lo {syn} -m multiport --dports 9000 -g {BEGIN}",
        f"! -i lo {fin} -m multiport --dports 8000 -g {BEGIN}",
        f"! -i lo {syn} -m multiport --dports 1000,8000,9000 -g {GO_ON}",
        f"! -i lo {fin} -m multiport --dports 1000,8000,9000 -g {GO_ON}",
        f"! -i lo -p udp -m multiport --dports 7000 -g {GO_ON}",
    ]


def test_many_ports_take_several_rules() -> None:
    many = Sequences(opens=(ports(*range(1000, 1032)),))
    lines = [line for line in chain(STEPS, rules(many)) if GO_ON in line]
    assert [line.count(",") for line in lines] == [1 + 14, 1 + 14, 1 + 1]


def test_flags_are_written_as_iptables_does() -> None:
    assert show_flags(Flags()) == "SYN,ACK SYN"
    assert show_flags(Flags(0x01, 0x12)) == "FIN,SYN,ACK FIN"
    assert show_flags(Flags(0, 0x10)) == "ACK NONE"
    assert show_flags(Flags(0, 0)) == "NONE NONE"


@pytest.mark.parametrize("within", [1, 5, 25, 300])
def test_no_more_begin_than_there_is_room_for(within: int) -> None:
    """Neither in the kernel's set nor in the format's memory, which is for both IP versions."""
    bound = steps.bound(rules(replace(CAM, within=within)))
    assert bound.per_second >= 20
    assert bound.per_second * within + bound.at_once <= steps.IN_KERNEL
    assert 2 * steps.IN_KERNEL <= steps.MOST
    assert f"maxelem {steps.IN_KERNEL} " in sets.create_text(rules(CAM))


def test_who_begins_is_noted_for_the_longest_time_and_only_who_was_noted_goes_on() -> None:
    begin, go_on = chain(BEGIN, rules(CAM, FIN)), chain(GO_ON, rules(CAM, FIN))
    note = "-j SET --add-set gatekeeper-s4 src --exist --timeout 60"
    assert begin == [
        f"-m set --match-set gatekeeper-s4 src {note}",
        f"-m set ! --match-set gatekeeper-s4 src -m limit --limit 134/sec --limit-burst 100 {note}",
        f"-g {GO_ON}",
    ]
    assert len(go_on) == 1
    assert go_on[0].startswith("-m set --match-set gatekeeper-s4 src -m hashlimit --hashlimit-upto 20/sec ")


def test_who_scans_is_not_listened_to() -> None:
    lines = [line for line in chain(STEPS, rules(CAM), version=6) if line.endswith("-j RETURN")]
    assert lines == chain(STEPS, rules(CAM), version=6)[:2]
    for line, what in zip(
        lines, ("-p tcp -m tcp --tcp-flags SYN,ACK SYN ", "-p udp -m conntrack --ctstate NEW "), strict=True
    ):
        assert line.startswith(f"{what}-m set --match-set gatekeeper-s6 src -m hashlimit --hashlimit-above ")


def test_without_ipset_there_is_a_bound_for_all_together_in_front_of_that_for_each() -> None:
    """The kernel drops what finds no place in a hashlimit's table: this one is never full."""
    its = rules(CAM)
    lines = [*chain(BEGIN, its, RuleMembers()), *chain(GO_ON, its, RuleMembers())]
    assert len(lines) == 2
    assert all(line.startswith("-m limit --limit ") and " -m hashlimit --hashlimit-upto " in line for line in lines)
    assert not any("--match-set" in line or "RETURN" in line for line in chain(STEPS, its, RuleMembers()))
