"""knockd.conf: doors become clients with the same effect, and each line that has no equal is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.errors import ConversionError
from gatekeeper.migrate.knockd import DIRECTIVES
from gatekeeper.settings import Ports, Transport
from tests.migrate.files import SSH, from_knockd

OPEN = "iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"
CLOSE = OPEN.replace("-A", "-D")


def door(name: str, sequence: str, command: str, *more: str) -> str:
    return "\n".join([f"[{name}]", f"sequence = {sequence}", f"command = {command}", *more, ""])


PAIR = door("openSSH", "7000,8000:udp,9000", OPEN, "seq_timeout = 10", "tcpflags = syn") + door(
    "closeSSH", "9000,8000:udp,7000", CLOSE, "seq_timeout = 10", "tcpflags = syn"
)


def fields(text: str) -> dict[str, str]:
    """Return the fields of the only client, as the file has them."""
    found = from_knockd(text)
    if "one_time" not in text:
        found.must_load()
    (client,) = found.draft.clients.values()
    return client.fields


def test_a_door_that_opens_and_one_that_closes_are_one_client() -> None:
    found = from_knockd(PAIR)
    found.must_load()
    assert found.notes == []
    assert list(found.draft.clients) == ["ssh"]
    assert found.draft.clients["ssh"].fields == {
        "sequence": "[7000, 8000/udp, 9000]",
        "close_sequence": "[9000, 8000/udp, 7000]",
        "flags": "[syn]",
        "within": "10s",
        "services": "[ssh]",
        "ttl": "forever",
    }
    assert "# /etc/knockd.conf:1 [openSSH], closed by [closeSSH]" in found.text


def test_a_stop_command_is_a_ttl() -> None:
    stop = f"stop_command = {CLOSE}"
    assert fields(door("a", "1,2", OPEN, "cmd_timeout = 90", stop))["ttl"] == "1m30s"
    assert fields(door("a", "1,2", OPEN, stop))["ttl"] == "10s", "knockd's default"
    assert fields(door("a", "1,2", OPEN, "cmd_timeout = 90"))["ttl"] == "forever", "nothing closes it"


def test_what_a_door_does_not_say_is_as_knockd_has_it() -> None:
    found = fields(door("a", "1,2", OPEN))
    assert (found["within"], found["flags"]) == ("25s", "[]")


def test_one_time_sequences_stay_in_their_file() -> None:
    text = f"[once]\none_time_sequences = once.txt\nstart_command = {OPEN}\n"
    found = from_knockd(text, files={"/etc/once.txt": "#7000,8000,9000\n 7001,8001:udp,9001\n 7002,8002,9002\n"})
    assert found.draft.clients["once"].fields["sequence_file"] == "'/etc/once.txt'"
    found.must_load()


def test_ipv6_has_what_its_command_does() -> None:
    assert "from" not in fields(door("a", "1,2", OPEN))
    assert "from" not in fields(door("a", "1,2", OPEN, f"command_6 = {OPEN.replace('iptables', 'ip6tables')}"))
    assert fields(door("a", "1,2", OPEN, "command_6 ="))["from"] == "[0.0.0.0/0]"
    only = f"[a]\nsequence = 1,2\nstart_command_6 = {OPEN.replace('iptables', 'ip6tables')}\n"
    assert fields(only)["from"] == "['::/0']"


def test_doors_of_one_sequence_are_one_client_with_several_services() -> None:
    text = door("a", "1,2", OPEN) + door("b", "1,2", OPEN.replace("22", "80"))
    assert fields(text)["services"] == "[ssh, http]"


def test_of_several_doors_that_close_the_one_with_the_name_belongs_to_it() -> None:
    text = door("closeB", "5,6", CLOSE) + door("openA", "1,2", OPEN) + door("openB", "3,4", OPEN)
    found = from_knockd(text + door("closeA", "7,8", CLOSE))
    assert {name: one.fields["close_sequence"] for name, one in found.draft.clients.items()} == {
        "a": "[7, 8]",
        "b": "[5, 6]",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (door("a", "1,2", "/bin/true"), "3: Start_Command: it runs 'true', which is not iptables"),
        (door("a", "1,2", OPEN.replace("-p tcp --dport 22", "-p tcp")), "3: Start_Command: it opens all tcp ports"),
        ("[a]\nsequence = 1,2\n", "1: it has no command"),
        (f"[a]\ncommand = {OPEN}\n", "1: it has no sequence"),
        (door("a", "1", OPEN), "2: Sequence: it has one port"),
        (door("a", "1,x", OPEN), "2: Sequence: 'x' is no port"),
        (door("a", "1,70000", OPEN), "2: Sequence: '70000' is no port"),
        (door("a", ",".join(map(str, range(1, 34))), OPEN), "2: Sequence: it has 33 ports, more than 32"),
        (door("a", "1,2", OPEN, "tcpflags = syn,xmas"), "4: TCPFlags: 'xmas' is no flag"),
        (door("a", "1,2", f"{OPEN}; {CLOSE}"), "3: Start_Command: it opens and closes at once"),
        (door("a", "1,2", CLOSE), "1: it closes what no sequence opens"),
        (f"[a]\none_time_sequences = x\ncommand = {CLOSE}\n", "1: its sequence cannot close"),
    ],
)
def test_a_door_that_has_no_equal_is_left_out_and_says_why(text: str, expected: str) -> None:
    found = from_knockd(text)
    assert any(f"/etc/knockd.conf:{expected}" in note for note in found.notes), found.notes
    assert found.draft.clients == {}
    assert "left out" in found.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[options]\ninterface = eth1\n{PAIR}", "2: Interface: sequences are heard at all interfaces"),
        (f"[options]\nnonsense = 1\n{PAIR}", "2: 'NONSENSE' is no option"),
        (f"x = 1\n{PAIR}", "1: 'x' stands in no section"),
        (door("a", "1,2", OPEN, "colour = red"), "4: 'colour' is no directive of a door"),
        (door("a", "1,2", OPEN, "target = 192.0.2.1"), "4: Target: a sequence may go to any address"),
        (door("a", "1,2", OPEN, "seq_timeout = 600"), "4: Seq_Timeout: a sequence may take 300 s at most"),
        (door("a", "1,2", OPEN, "seq_timeout = soon"), "4: Seq_Timeout: 'soon' is no time; 1 s is taken"),
        (door("a", "1,2", OPEN, "stop_command = /bin/true"), "4: Stop_Command: it runs 'true'"),
        (door("a", "1,2", OPEN, f"stop_command = {OPEN}"), "4: Stop_Command: it does not close what was opened"),
        (door("a", "1,2", OPEN, f"command_6 = {OPEN.replace('22', '80')}"), "4: Start_Command_6: it is about other"),
        (door("a", "1,2", OPEN) + door("b", "1,2", OPEN, "seq_timeout = 3"), "4: its sequence is that of"),
        (door("a", "1,2", OPEN) + door("b", "3,4", CLOSE, "seq_timeout = 3"), "4: its TCPFlags and Seq_Timeout"),
        (door("a", "1,2", OPEN) + door("b", "1,2", CLOSE), "4: its sequence cannot close: it opens, too"),
        (door("a", "1,2", OPEN) + door("b", "3,4", OPEN.replace("22", "20:30")), "6: tcp/20-30 is a part of another"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_named_with_its_line_and_the_rest_is_taken_over(text: str, expected: str) -> None:
    found = from_knockd(text)
    found.must_load()
    assert any(f"/etc/knockd.conf:{expected}" in note for note in found.notes), found.notes
    assert "[ssh]" in next(iter(found.draft.clients.values())).fields["services"]


def test_services_that_are_named_stand_for_all_ports() -> None:
    text = door("a", "1,2", OPEN.replace("-p tcp --dport 22", "-p tcp"))
    found = from_knockd(text, wanted={**SSH, "time": Ports(Transport.UDP, 123)})
    assert found.draft.clients["a"].fields["services"] == "[ssh]", "what was opened was tcp"


NAMES = st.sampled_from([*sorted(DIRECTIVES), "command", "[a]", "[b]", "[options]", "interface", "#"])
VALUES = st.one_of(
    st.sampled_from([OPEN, CLOSE, "1,2", "3:udp,4", "7000,8000", "syn", "fin,!ack", "10", "/etc/x", ""]),
    st.text(max_size=30),
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=25))
def test_whatever_stands_there_gives_a_draft_or_a_reason(entries: list[tuple[str, str]]) -> None:
    text = "".join(f"{name}\n" if name.startswith("[") else f"{name} = {value}\n" for name, value in entries)
    try:
        found = from_knockd(text.encode(errors="replace").decode())
    except ConversionError:
        return
    assert found.text.isascii() or found.text
    assert all(line.isprintable() for line in found.text.split("\n"))
