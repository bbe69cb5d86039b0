"""Command lines: what opens or closes a port for the knocker is understood, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.migrate.command import read


@pytest.mark.parametrize(
    ("command", "opens", "ports"),
    [
        ("/sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT", True, ["tcp/22"]),
        ("iptables -I INPUT 1 -s %IP%/32 -p tcp --dport 22 -j ACCEPT", True, ["tcp/22"]),
        ("iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT", False, ["tcp/22"]),
        ("iptables -A INPUT -s %IP% -p tcp --dport 22 -j DROP", False, ["tcp/22"]),
        ("iptables -D INPUT -s %IP% -p udp --dport 53 -j REJECT --reject-with icmp-port-unreachable", True, ["udp/53"]),
        ("sudo /usr/sbin/ip6tables -w 5 -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT", True, ["tcp/22"]),
        ("iptables-legacy -t filter -A INPUT --source=%IP% --protocol tcp --dport=22 --jump ACCEPT", True, ["tcp/22"]),
        ("iptables -A INPUT -s %IP% -p tcp -m tcp --syn --dport 6000:6010 -j ACCEPT", True, ["tcp/6000-6010"]),
        ("iptables -A INPUT -s %IP% -p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT", True,
         ["tcp/80", "tcp/443", "tcp/8000-8010"]),
        ("iptables -A INPUT -s %IP% -p tcp -m state --state NEW,ESTABLISHED --dport 22 -j ACCEPT", True, ["tcp/22"]),
        ('iptables -A INPUT -s %IP% -p tcp --dport 22 -m comment --comment "by; me" -j ACCEPT', True, ["tcp/22"]),
        ("iptables -A INPUT -s %IP% -p tcp --dport ssh -j ACCEPT", True, ["tcp/22"]),
        ("iptables -A INPUT -s %IP% --dport 22 -j ACCEPT", True, ["tcp/22"]),
        ("iptables -A INPUT -s %IP% -p tcp --syn -j ACCEPT", True, []),
        ("/usr/local/sbin/knock_add -i -c INPUT -p tcp -d 443 -f %IP%", True, ["tcp/443"]),
        ("/usr/sbin/knock_helper_ipt.sh -x -d 443 -f %IP%", False, ["tcp/443"]),
    ],
)  # fmt: skip
def test_an_accept_or_a_drop_for_the_knocker_is_understood(command: str, opens: bool, ports: list[str]) -> None:
    (action,) = read(command)
    assert (action.opens, [str(one) for one in action.ports]) == (opens, ports)


def test_several_commands_in_a_line_are_several_actions() -> None:
    one = "iptables -A INPUT -s %IP% -p tcp --dport 80 -j ACCEPT"
    found = read(f"{one} && {one.replace('80', '443')}; {one.replace('tcp', 'udp')} ;")
    assert [str(action.ports[0]) for action in found] == ["tcp/80", "tcp/443", "udp/80"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "it is empty"),
        ("/usr/bin/systemctl start ssh", "it runs 'systemctl', which is not iptables"),
        ("ipset add door %IP%", "it runs 'ipset'"),
        ("iptables -A INPUT -p tcp --dport 22 -j ACCEPT", "it does not name %IP%: it is for everybody"),
        ("iptables -A INPUT -s 192.0.2.1 -p tcp --dport 22 -j ACCEPT", "it is for '192.0.2.1', not for %IP%"),
        ("iptables -A INPUT -s %IP%/24 -p tcp --dport 22 -j ACCEPT", "it is for '%IP%/24', not for %IP%"),
        ("iptables -A FORWARD -s %IP% -p tcp --dport 22 -j ACCEPT", "it is about the chain FORWARD"),
        ("iptables -t nat -A PREROUTING -s %IP% -p tcp --dport 22 -j DNAT --to ::1", "it is about the table 'nat'"),
        ("iptables -A INPUT -s %IP% -p tcp --dport 22 -j LOG", "its target is 'LOG'"),
        ("iptables -A INPUT -s %IP% -p tcp ! --dport 22 -j ACCEPT", "its option '!' has no equal"),
        ("iptables -A INPUT -s %IP% -p tcp --sport 22 -j ACCEPT", "its option '--sport' has no equal"),
        ("iptables -A INPUT -s %IP% -m limit --limit 1/s -j ACCEPT", "its match 'limit' has no equal"),
        ("iptables -A INPUT -s %IP% -m state --state INVALID -j ACCEPT", "its match of a state other than NEW"),
        ("iptables -A INPUT -s %IP% -p icmp -j ACCEPT", "its protocol 'icmp' has no equal"),
        ("iptables -A INPUT -s %IP% -p tcp --dport 0 -j ACCEPT", "'0' is not a port"),
        ("iptables -A INPUT -s %IP% -p tcp --dport nosuch -j ACCEPT", "'nosuch' is no number of a port"),
        ("iptables -D INPUT 3", "it deletes whatever rule has a number"),
        ("iptables -A INPUT -s %IP%", "it neither adds nor deletes"),
        ("iptables -A", "its last option lacks a value"),
        ("iptables -A INPUT -D INPUT -s %IP% -j ACCEPT", "it adds and deletes at once"),
        ("iptables -A INPUT -s %IP% -j ACCEPT | tee x", "it needs a shell ('|')"),
        ("iptables -A INPUT -s %IP% -j ACCEPT > /dev/null", "it needs a shell ('>')"),
        ("iptables -A INPUT -s %IP% -j ACCEPT --comment `id`", "it needs a shell"),
        ("iptables -A INPUT -s %IP% -j ACCEPT --comment 'x", "it cannot be taken apart: no closing quotation"),
        ("knock_add -i -f %IP%", "it names no port"),
        ("x" * 5000, "it is too long"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_a_cause(command: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(command)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("command", "caution"),
    [
        ("iptables -A INPUT -s %IP% --dport 22 -j ACCEPT", "it names a port and no protocol"),
        ("iptables -A INPUT -i eth0 -s %IP% -p tcp --dport 22 -j ACCEPT", "it is for the interface 'eth0' only"),
        (
            "iptables -A INPUT -d 192.0.2.1 -s %IP% -p tcp --dport 22 -j ACCEPT",
            "it is for the address '192.0.2.1' only",
        ),
        ("iptables -A DOORS -s %IP% -p tcp --dport 22 -j ACCEPT", "the chain 'DOORS' is taken for a part of INPUT"),
    ],
)
def test_what_is_left_out_is_said(command: str, caution: str) -> None:
    (action,) = read(command)
    assert caution in action.cautions[0]


SOME = """
    iptables ip6tables knock_add sudo -A -I -D INPUT -s %IP% -p tcp udp --dport --dports 22 80,443 1:2 -j ACCEPT DROP
    -m multiport state --state NEW && ; -i eth0 -w ! -x -f -d ' " $
"""
WORDS = st.sampled_from(SOME.split())


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=20).map(" ".join)))
def test_whatever_the_command_is_it_is_understood_or_refused(command: str) -> None:
    try:
        assert read(command)
    except ValueError as error:
        assert str(error)
