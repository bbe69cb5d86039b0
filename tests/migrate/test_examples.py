"""The examples in the manual pages of knockd and fwknop.

They are written anew: what they do is a fact, and their text is somebody else's.
"""

from __future__ import annotations

import pytest

from tests.migrate.files import SSH, from_fwknop, from_knockd

DOORS = {
    "open and close": (
        """
        [openSSH]
        sequence = 7000,8000,9000
        tcpflags = syn
        command = /sbin/iptables -A INPUT -s %IP% --dport 22 -j ACCEPT
        [closeSSH]
        sequence = 9000,8000,7000
        tcpflags = syn
        command = /sbin/iptables -D INPUT -s %IP% --dport 22 -j ACCEPT
        """,
        {"ssh": "[ssh]"},
        ["6: Start_Command: it names a port and no protocol", "10: Start_Command: it names a port and no protocol"],
    ),
    "a timeout": (
        """
        [opencloseSSH]
        sequence = 2222:udp,3333:tcp,4444:udp
        tcpflags = syn,ack
        start_command = /usr/sbin/iptables -A INPUT -s %IP% -p tcp --syn -j ACCEPT
        cmd_timeout = 5
        stop_command = /usr/sbin/iptables -D INPUT -s %IP% -p tcp --syn -j ACCEPT
        """,
        {"ssh": "[ssh]"},
        ["6: Start_Command: it opens all tcp ports, which has no equal; those of --service are taken"],
    ),
    "one-time sequences, both versions of IP": (
        """
        [opencloseSMTP]
        one_time_sequences = /etc/knockd/smtp_sequences
        tcpflags = fin,!ack
        start_command = /usr/sbin/iptables -A INPUT -s %IP% -p tcp --dport 25 -j ACCEPT
        start_command_6 = /usr/sbin/ip6tables -A INPUT -s %IP% -p tcp --dport 25 -j ACCEPT
        cmd_timeout = 5
        stop_command = /usr/sbin/iptables -D INPUT -s %IP% -p tcp --dport 25 -j ACCEPT
        stop_command_6 = /usr/sbin/ip6tables -D INPUT -s %IP% -p tcp --dport 25 -j ACCEPT
        """,
        {"smtp": "[smtp]"},
        [],
    ),
}


@pytest.mark.parametrize("example", DOORS)
def test_the_examples_of_knockds_manual_page(example: str) -> None:
    text, clients, notes = DOORS[example]
    found = from_knockd(f"[options]\nlogfile = /var/log/knockd.log{text}", wanted=SSH)
    assert {name: one.fields["services"] for name, one in found.draft.clients.items()} == clients
    assert len(found.notes) == len(notes)
    for note, expected in zip(sorted(found.notes), sorted(notes), strict=True):
        assert expected.partition(": ")[2] in note


def test_the_example_of_fwknops_manual_page() -> None:
    """Keys that the client has made, and the stanza that its user is told to write."""
    keys = "KEY_BASE64 HvUtIOramehLGKimD4ECXOzinaH4h3U8H1WXum7b54Q=\nHMAC_KEY_BASE64 DLeLf93a3yBT2vhEpM+dWg==\n"
    found = from_fwknop(f"SOURCE ANY\nREQUIRE_SOURCE_ADDRESS Y\n{keys}")
    assert found.client.services == ("ssh",)
    assert found.client.must_bind


def test_the_legacy_mode_of_fwknops_manual_page() -> None:
    found = from_fwknop("SOURCE ANY\nKEY some_key\nENCRYPTION_MODE\tlegacy\nOPEN_PORTS tcp/22\n")
    assert found.client.fwknop is not None
    assert (found.client.fwknop.mode, found.client.fwknop.hmac_key) == ("legacy", None)
