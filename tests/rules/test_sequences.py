"""Port sequences in rules.yaml: every way to write them, and each that makes no sense."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatekeeper import rules
from gatekeeper.problems import Problem, RulesError
from gatekeeper.rules.sequences import MAX_FILE, MOST_PORTS
from gatekeeper.settings import Flags, Ports, Rules, Sequences, Transport

TCP, UDP = Transport.TCP, Transport.UDP
S = "services: {ssh: {port: tcp/22}, games: {port: [tcp/6000-6010, udp/6000-6010]}}\n"
FILES = {
    "once": "# used from the top\n 7000,8000:udp,9000\n#1,2,3\n\n9000, 8000/tcp, udp/7000  # the second\r\n",
    "spaced": "7000/udp 8000  9000\n",
    "empty": "# nothing yet\n",
    "wrong": "7000,8000,9000\n7000,22\n7000,eight\n",
    "twice": "1,2,3\n3,2,1\n1,2,3\n",
    "many": "\n".join(f"{1 + number % 255},{1 + number // 255},{number + 1},{number + 2}" for number in range(1001)),
    "long": "7000,8000,9000\n" * 10_000,
}


def parse(clients: str, more: str = "") -> tuple[Rules, list[Problem]]:
    return rules.parse(f"{S}clients: {{{clients}}}\n{more}".encode(), file="rules.yaml", read_key=_read)


def _read(name: str) -> bytes:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory", name)
    return FILES[name].encode()


def read(its: str) -> Sequences:
    found, problems = parse(f"cam: {{{its}, services: [ssh]}}")
    assert problems == []
    assert found.has_sequences
    sequences = found.clients["cam"].sequences
    assert sequences is not None
    return sequences


def ports(*which: int | str) -> tuple[Ports, ...]:
    return tuple(Ports(UDP, int(one)) if isinstance(one, str) else Ports(TCP, one) for one in which)


def test_a_sequence_and_all_that_goes_with_it() -> None:
    its = "sequence: [7000/udp, 8000, 9000], close_sequence: [9000, 8000, 7000/udp], within: 5s, flags: [fin, '!ack']"
    found = read(its)
    assert found == Sequences(
        opens=(ports("7000", 8000, 9000),), closes=ports(9000, 8000, "7000"), within=5, flags=Flags(0x01, 0x10)
    )


def test_what_is_not_said_is_as_knockd_has_it() -> None:
    """But for the flags: without a word knockd takes any TCP packet."""
    found = read("sequence: [7000, 8000, 9000]")
    assert (found.within, found.flags, found.closes, found.once) == (25, Flags(on=0x02, off=0x10), (), False)


@pytest.mark.parametrize(
    "text",
    ["[7000, 8000/udp, 9000]", "[7000/tcp, 8000:udp, tcp/9000]", "'7000,8000:udp,9000'", "'7000, 8000:UDP, 9000'"],
)
def test_steps_may_be_written_as_knockd_has_them(text: str) -> None:
    assert read(f"sequence: {text}").opens == (ports(7000, "8000", 9000),)


@pytest.mark.parametrize("bits", [0x00, 0x02, 0x12, 0x3F])
def test_no_flags_are_any_packet(bits: int) -> None:
    """What knockd does without TCPFlags, and what `gatekeeper import knockd` writes for it."""
    assert read("sequence: [1, 2, 3], flags: []").flags.match(bits)


@pytest.mark.parametrize("text", ["'syn,!ack'", "[SYN, '!ACK']", "' syn , !ack '"])
def test_flags_may_be_written_as_knockd_has_them(text: str) -> None:
    assert read(f"sequence: [1, 2, 3], flags: {text}").flags == Flags()


def test_on_lines_of_their_own_nothing_needs_quotes() -> None:
    lines = ("cam:", "  sequence: 7000:udp, 8000,9000", "  flags: fin,!ack", "  services: [ssh]")
    text = f"{S}clients:\n" + "".join(f"  {line}\n" for line in lines)
    found, problems = rules.parse(text.encode(), file="rules.yaml", read_key=_read)
    assert problems == []
    its = found.clients["cam"].sequences
    assert its == Sequences(opens=(ports("7000", 8000, 9000),), flags=Flags(0x01, 0x10))


def test_steps_may_stand_apart_by_spaces_as_our_own_client_has_them() -> None:
    steps = ((Ports(UDP, 7000), Ports(TCP, 8000), Ports(TCP, 9000)),)
    assert read("sequence_file: spaced").opens == steps
    assert read("sequence: 7000/udp 8000 9000").opens == steps


def test_one_time_sequences_come_from_a_file() -> None:
    found = read("sequence_file: once, close_sequence: [1, 2, 3]")
    assert found.once
    assert found.opens == (ports(7000, "8000", 9000), ports(9000, 8000, "7000"))
    assert found.closes == ports(1, 2, 3)


def test_a_real_file_beside_the_rules_is_read_and_told_of_if_others_can_read_it(tmp_path: Path) -> None:
    file, text = tmp_path / "rules.yaml", f"{S}clients: {{cam: {{sequence_file: once.txt, services: [ssh]}}}}\n"
    file.write_text(text)
    file.chmod(0o600)
    (tmp_path / "once.txt").write_text("".join(f"{7000 + number},8000,9000\n" for number in range(600)))
    (tmp_path / "once.txt").chmod(0o644)
    found, problems = rules.load(file)
    assert len(found.clients["cam"].sequences.opens) == 600  # type: ignore[union-attr]
    assert [problem.file for problem in problems] == [str(tmp_path / "once.txt")]
    os.chmod(file, 0o644)  # noqa: PTH101
    assert len(rules.load(file)[1]) == 2


C = "services: [ssh]"


@pytest.mark.parametrize(
    ("clients", "message", "hint"),
    [
        (f"a: {{sequence: [7000], {C}}}", 'sequence of client "a" has one step', "at least two"),
        (f"a: {{sequence: [], {C}}}", 'sequence of client "a" is empty', "such as"),
        (f"a: {{sequence: {{x: 1}}, {C}}}", "must be a word, not a mapping", None),
        (f"a: {{sequence: [7000, [1], 3], {C}}}", "must be a word, not a list", None),
        (f"a: {{sequence: [{', '.join(map(str, range(101, 134)))}], {C}}}", "has 33 steps", "32 at most"),
        (f"a: {{sequence: [7000, ssh], {C}}}", '"ssh" is no step', "write 7000, or 7000/udp"),
        (f"a: {{sequence: [tcp/7000/udp, 1], {C}}}", '"tcp/7000/udp" is no step', None),
        (f"a: {{sequence: [7000, 8000/sctp], {C}}}", '"8000/sctp" is no step', None),
        (f"a: {{sequence: [7000, 65536], {C}}}", "port 65536 is out of range", "1 to 65535"),
        (f"a: {{sequence: [7000, 0], {C}}}", "port 0 is out of range", None),
        (f"a: {{sequence: [7000, 22], {C}}}", 'the step tcp/22 is a port of service "ssh"', "nothing here guards"),
        (f"a: {{sequence: [7000, 6005/udp], {C}}}", 'the step udp/6005 is a port of service "games"', None),
        (f"a: {{sequence: [7000, 62201/udp], {C}}}", "the step udp/62201 is a knock port", None),
        (
            f"a: {{sequence: [1, 2], close_sequence: [1, 2], {C}}}",
            'close_sequence of client "a" is sequence',
            "mean two",
        ),
        (f"a: {{sequence: [1, 2, 3], {C}}}, b: {{sequence: [1, 2, 3], {C}}}", 'is sequence of client "a" too', None),
        (f"a: {{sequence: [1, 2, 3], close_sequence: [1, 2], {C}}}", "close_sequence begins like", "never be knocked"),
        (f"a: {{sequence: [1, 2], close_sequence: [1, 2, 3], {C}}}", "close_sequence begins like", None),
        (f"a: {{close_sequence: [1, 2, 3], {C}}}", "has no sequence that opens", "add sequence:"),
        (f"a: {{within: 5s, {C}}}", "has no sequence that opens", "add sequence:"),
        (f"a: {{sequence: [1, 2, 3], sequence_file: once, {C}}}", "both sequence and sequence_file", "keep one"),
        (f"a: {{sequence: [1, 2, 3], within: 6m, {C}}}", "within goes from 1s to 5m", None),
        (f"a: {{sequence: [1, 2, 3], within: forever, {C}}}", "within goes from 1s to 5m", None),
        (f"a: {{sequence: [1, 2, 3], flags: ece, {C}}}", '"ece" is no TCP flag', "fin, syn, rst"),
        (f"a: {{sequence: [1, 2, 3], flags: 'syn,!syn', {C}}}", "cannot be there and not be there", None),
        (f"a: {{sequence: [1, 2, 3], open: secret, {C}}}", "has a port sequence, and open", "two clients"),
        (f"a: {{sequence: [1, 2, 3], bind: required, {C}}}", "has a port sequence, and bind", "two clients"),
        (f"a: {{sequence: [1, 2, 3], for_others: true, {C}}}", "has a port sequence, and for_others", None),
        ("a: {sequence: [1, 2, 3]}", "has no services", None),
        (f"a: {{sequence_file: nowhere, {C}}}", "cannot read nowhere: No such file", None),
        (f"a: {{sequence_file: empty, {C}}}", "there is no sequence in this file", "one a line"),
        (f"a: {{sequence_file: wrong, {C}}}", 'tcp/22 is a port of service "ssh" (sequence_file, line 2)', None),
        (f"a: {{sequence_file: wrong, {C}}}", '"eight" is no step (sequence_file, line 3)', None),
        (f"a: {{sequence_file: twice, {C}}}", 'line 3 of client "a" is sequence_file, line 1', "used once"),
        (f"a: {{sequence_file: many, {C}}}", "there are 1001 sequences", "1000 at most"),
        (f"a: {{sequence_file: long, {C}}}", f"the file is longer than {MAX_FILE} bytes", None),
    ],
)
def test_what_makes_no_sense_is_an_error_that_says_what_to_do(clients: str, message: str, hint: str | None) -> None:
    with pytest.raises(RulesError) as raised:
        parse(clients)
    found = [one for one in raised.value.problems if message in one.message]
    assert found, raised.value.problems
    assert hint is None or hint in (found[0].hint or "")


def test_so_many_ports_are_listened_to_and_no_more() -> None:
    def clients(number: int) -> str:
        each = (range(7000 + 32 * start, 7032 + 32 * start) for start in range(number))
        return ", ".join(f"c{its[0]}: {{sequence: [{', '.join(map(str, its))}], {C}}}" for its in each)

    assert parse(clients(MOST_PORTS // 32))[1] == []
    with pytest.raises(RulesError, match=f"have {MOST_PORTS + 32} ports"):
        parse(clients(MOST_PORTS // 32 + 1))


@pytest.mark.parametrize("its", ["[7000, 8000]", "[7000, 7000, 7000]"])
def test_what_a_scan_finds_by_chance_is_warned_about(its: str) -> None:
    _, problems = parse(f"a: {{sequence: {its}, {C}}}")
    assert [problem.message for problem in problems] == ['sequence of client "a" is easy to guess']


def test_one_that_begins_with_the_whole_of_anothers_is_warned_about() -> None:
    _, problems = parse(f"a: {{sequence: [1, 2, 3], {C}}}, b: {{sequence: [1, 2, 3, 4], {C}}}")
    words = 'sequence of client "b" begins with the whole sequence of client "a"'
    assert [problem.message for problem in problems] == [words]


def test_a_step_may_be_a_port_of_nothing_here_though_others_have_it_too() -> None:
    found, problems = parse(f"a: {{sequence: [1, 2, 3], {C}}}, b: {{sequence: [1, 3, 2], {C}}}")
    assert problems == []
    assert len(found.clients) == 2
