"""What gatekeeper explain says of captures: the gate's own decisions, as of when each packet was captured."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from gatekeeper import cli
from gatekeeper.reasons import WHY
from tests.explain.captures import COOKED, COOKED_2, EN10MB, NULL, RAW_IP, explained, framed, reasons_of, write
from tests.explain.conftest import NOW, Place
from tests.packets import ACK, CLIENT, SYN, echo, tcp, udp

Capsys = pytest.CaptureFixture[str]


@pytest.mark.parametrize("ending", ["pcap", "pcapng"])
@pytest.mark.parametrize("link", [RAW_IP, NULL, EN10MB, COOKED, COOKED_2])
def test_a_session_from_knock_to_close(tmp_path: Path, place: Place, capsys: Capsys, link: int, ending: str) -> None:
    knock = place.seal()
    packets = [
        (tcp(SYN), NOW - 5),
        (udp(knock), NOW),
        (tcp(SYN), NOW + 1),
        (tcp(ACK), NOW + 1.1),
        (udp(knock), NOW + 2),
        (udp(place.seal(at=NOW + 3, close=True)), NOW + 3),
        (tcp(ACK), NOW + 3.1),
        (tcp(SYN), NOW + 4),
        (tcp(SYN, port=80), NOW + 5),
    ]
    answers = explained(capsys, *place.options, write(tmp_path / f"one.{ending}", packets, link=link))
    expected = [
        *("no-grant", "opened", "granted", "granted", "replayed", "closed"),
        *("no-grant-midstream", "no-grant", "not-guarded"),
    ]
    assert reasons_of(answers) == expected
    verdicts = [answer["verdict"] for answer in answers]
    assert verdicts == ["drop", "drop", "repeat", "repeat", "drop", "drop", "drop", "drop", "accept"]
    assert [answer["number"] for answer in answers] == list(range(1, 10))
    opened = answers[1]
    assert opened["time"] == "2027-01-15T08:00:00.000000Z"
    assert (opened["client"], opened["opens"]) == ("laptop", [f"ssh to {CLIENT[4]} for 1h"])
    assert (opened["source"], opened["source_port"], opened["destination_port"]) == (CLIENT[4], 40000, 62201)
    assert answers[5]["closes"] == [f"ssh to {CLIENT[4]} for 59m57s"]


@pytest.mark.parametrize("writer", [wrpcap, wrpcapng])
def test_what_scapy_writes_is_read(
    tmp_path: Path, place: Place, capsys: Capsys, writer: Callable[[str, list[Any]], None]
) -> None:
    packet = Ether(framed(EN10MB, udp(place.seal())))
    packet.time = NOW
    writer(str(tmp_path / "one"), [packet])
    assert reasons_of(explained(capsys, *place.options, tmp_path / "one")) == ["opened"]


@pytest.mark.parametrize("version", [4, 6])
def test_a_checksum_that_was_left_to_a_network_card_is_as_good_as_right(
    tmp_path: Path, place: Place, capsys: Capsys, version: int
) -> None:
    """Also where it is of odd length. What is damaged is called so."""
    knock = place.seal()
    start = 26 if version == 4 else 46
    for payload, reason in ((knock, "opened"), (b"open_sesame_long_enough", "opened")):
        raw = bytearray(udp(payload, version=version))
        pseudo = (raw[12:20] if version == 4 else raw[8:40]) + struct.pack("!II", 8 + len(payload), 17)
        total = sum(word for (word,) in struct.iter_unpack("!H", pseudo))
        raw[start : start + 2] = ((total & 0xFFFF) + (total >> 16)).to_bytes(2)
        damaged = udp(payload, version=version, good=False)
        answers = explained(capsys, *place.options, write(tmp_path / "one.pcap", [(damaged, NOW), (bytes(raw), NOW)]))
        assert reasons_of(answers) == ["bad-checksum", reason]


@pytest.mark.parametrize("version", [4, 6])
def test_vlan_tags_are_passed_over(tmp_path: Path, place: Place, capsys: Capsys, version: int) -> None:
    packets = [(udp(place.seal(), version=version), NOW)]
    for link in (EN10MB, COOKED, COOKED_2):
        file = write(tmp_path / "one.pcap", packets, link=link, vlans=2)
        assert reasons_of(explained(capsys, *place.options, file)) == ["opened"]


def test_a_gzipped_capture_is_read(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    file = write(tmp_path / "one.pcap.gz", [(udp(place.seal()), NOW)])
    assert reasons_of(explained(capsys, *place.options, file)) == ["opened"]


def test_a_first_packet_waits_for_its_knock_and_no_longer(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    """As on a live machine: a tenth of a second. The answers stand in the order of the packets all the same."""
    packets = [(tcp(SYN), NOW - 0.09), (tcp(SYN, source="198.51.100.9"), NOW - 0.05), (udp(place.seal()), NOW)]
    answers = explained(capsys, *place.options, write(tmp_path / "one.pcap", packets))
    assert reasons_of(answers) == ["granted", "no-grant", "opened"]
    assert answers[0]["note"] == "it was held until its knock came"
    packets[0] = (tcp(SYN), NOW - 0.11)
    assert reasons_of(explained(capsys, *place.options, write(tmp_path / "one.pcap", packets)))[0] == "no-grant"


def test_a_grant_ends_by_the_capture_s_clock_and_an_open_connection_lives_on(
    tmp_path: Path, place: Place, capsys: Capsys
) -> None:
    late = NOW + 3601
    packets = [
        *((udp(place.seal()), NOW), (tcp(SYN), NOW + 1), (tcp(ACK), late), (tcp(SYN, port=22), late)),
        (udp(b"open_sesame_long_enough dns"), late),
        (udp(b"q", port=53), late + 1),
        (udp(b"q", port=53), late + 61),
    ]
    answers = explained(capsys, *place.options, write(tmp_path / "one.pcap", packets))
    assert reasons_of(answers) == ["opened", "granted", "granted", "no-grant", "opened", "granted", "no-grant"]
    assert answers[2]["verdict"] == "accept"


def test_a_sequence_opens_at_its_last_step_and_a_wrong_one_resets_it(
    tmp_path: Path, place: Place, capsys: Capsys
) -> None:
    cam = "  cam: {sequence: [7000/udp, 8000, 9000], close_sequence: [9000, 7000/udp], within: 5s, services: [ssh]}\n"
    place.rules.write_text(place.rules.read_text() + cam)

    def steps(*ports: int, at: float) -> list[tuple[bytes, float]]:
        made = [udp(b"", port=port) if port == 7000 else tcp(SYN, port=port) for port in ports]
        return [(raw, at + 0.1 * number) for number, raw in enumerate(made)]

    packets = [
        *steps(7000, 9000, 8000, at=NOW),
        *steps(7000, 8000, 9000, at=NOW + 10),
        (tcp(SYN), NOW + 11),
        *steps(9000, 7000, at=NOW + 12),
        (tcp(SYN), NOW + 13),
        *steps(7000, 8000, at=NOW + 20),
        *steps(9000, at=NOW + 26),
    ]
    answers = explained(capsys, *place.options, write(tmp_path / "one.pcap", packets))
    step = ["step"]
    assert reasons_of(answers) == [*step * 5, "opened", "granted", "step", "closed", "no-grant", *step * 3]
    assert answers[5]["client"] == "cam"
    assert {answers[at]["verdict"] for at in (0, 5, 8)} == {"accept"}


def test_a_connection_from_before_the_capture_is_not_called_dropped_for_sure(
    tmp_path: Path, place: Place, capsys: Capsys
) -> None:
    (answer,) = explained(capsys, *place.options, write(tmp_path / "one.pcap", [(tcp(ACK), NOW)]))
    assert answer["reason"] == "no-grant-midstream"
    assert "before the capture" in answer["note"]


def test_what_the_kernel_drops_is_called_no_tag_and_what_a_worker_would_say_is_told(
    tmp_path: Path, place: Place, capsys: Capsys
) -> None:
    packets = [
        (udp(b"junk"), NOW),
        (udp(place.seal(at=NOW - 1000)), NOW),
        (udp(b"open_sesame_long_enougX"), NOW),  # as long as a plain key
        (udp(place.seal(at=NOW - 240)), NOW),  # two epochs: tagged
        (udp(b"junk"), NOW),
    ]
    answers = explained(capsys, *place.options, write(tmp_path / "one.pcap", packets))
    assert reasons_of(answers) == ["no-tag", "no-tag", "unknown-key", "wrong-epoch", "no-tag"]
    assert answers[0]["note"] == "a worker would say unknown-key"
    assert answers[1]["note"].startswith("a worker would say wrong-epoch: ")
    place.rules.write_text("mode: observe\n" + place.rules.read_text())
    answers = explained(capsys, *place.options, tmp_path / "one.pcap")
    assert reasons_of(answers)[:2] == ["unknown-key", "wrong-epoch"]


def test_at_judges_all_packets_as_of_one_time(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    file = write(tmp_path / "one.pcap", [(udp(place.seal()), NOW - 86400), (tcp(SYN), NOW - 86399)])
    assert reasons_of(explained(capsys, *place.options, file)) == ["no-tag", "no-grant"]
    for at in ("2027-01-15T08:00:00Z", "1800000000", "1800000000.5"):
        assert reasons_of(explained(capsys, *place.options, file, "--at", at)) == ["opened", "granted"]


def test_without_the_server_s_key_sealed_knocks_are_not_judged_and_it_says_what_to_do(
    tmp_path: Path, place: Place, capsys: Capsys
) -> None:
    packets = [(udp(place.seal()), NOW), (udp(b"open_sesame_long_enough"), NOW), (tcp(SYN), NOW)]
    file = write(tmp_path / "one.pcap", packets)
    assert cli.main(["explain", "--rules", str(place.rules), "--state-dir", str(tmp_path / "none"), str(file)]) == 0
    out, err = capsys.readouterr()
    assert "dropped, no-server-key: " in out
    assert "dropped, opened: " in out
    assert "gatekeeper: warning: sealed knocks cannot be judged: " in err
    assert "--state-dir" in err
    assert not (tmp_path / "none").exists()


def test_nothing_is_written(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    before = sorted(tmp_path.rglob("*")), place.rules.stat().st_mtime_ns, place.state.stat().st_mtime_ns
    file = write(tmp_path / "one.pcap", [(udp(place.seal()), NOW)])
    explained(capsys, *place.options, file)
    file.unlink()
    assert (sorted(tmp_path.rglob("*")), place.rules.stat().st_mtime_ns, place.state.stat().st_mtime_ns) == before


def test_what_is_not_ours_goes_on(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    """What is no IP packet, what the machine sent, its loopback, and pings where knocks do not come so."""
    assert explained(capsys, *place.options, write(tmp_path / "none.pcap", [])) == []
    sent = write(tmp_path / "one.pcap", [(tcp(SYN), NOW)], link=COOKED, outgoing=True)
    (answer,) = explained(capsys, *place.options, sent)
    assert (answer["reason"], answer["verdict"]) == ("not-guarded", "accept")
    assert "sent by the machine" in answer["note"]
    others = [(tcp(SYN, source="127.0.0.1"), NOW), (echo(b"x"), NOW)]
    answers = explained(capsys, *place.options, write(tmp_path / "one.pcap", others))
    assert reasons_of(answers) == ["not-guarded", "not-guarded"]
    arp = framed(EN10MB, tcp(SYN))[:12] + b"\x08\x06" + bytes(28)
    (answer,) = explained(capsys, *place.options, write(tmp_path / "one.pcap", [(arp, NOW)], link=RAW_IP))
    assert answer["reason"] == "malformed"


def test_a_packet_that_was_cut_off_is_not_judged_by_what_is_missing(
    tmp_path: Path, place: Place, capsys: Capsys
) -> None:
    file = write(tmp_path / "one.pcap", [(udp(place.seal()), NOW)])
    data = bytearray(file.read_bytes()[:-40])
    data[24 + 8 : 24 + 12] = (144 - 40).to_bytes(4, sys.byteorder)
    file.write_bytes(data)
    (answer,) = explained(capsys, *place.options, file)
    assert (answer["reason"], answer["note"]) == ("cut-off", "40 of its bytes are not in the capture")


def test_text_has_the_reason_its_sentence_and_what_to_do(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    file = write(tmp_path / "one.pcap", [(tcp(SYN, version=6), NOW)])
    assert cli.main(["explain", *place.options, str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "#1 2027-01-15T08:00:00.000000Z tcp [2001:db8:c::2]:40000 -> [2001:db8::1]:22, 60 bytes",
        f"   dropped, no-grant: {WHY['no-grant'].in_short}",
        "   service=ssh",
        "1 packet: 1 no-grant",
        "   no-grant: Knock first. If you did: did the knock arrive (`opened` in the log), and from the same address?",
    ]


def test_no_payload_is_ever_shown(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    secrets = [b"open_sesame_long_enough", b"close_sesame_long_enough", b"open_sesame_long_enough nothing"]
    packets = [(udp(one), NOW) for one in secrets]
    file = write(tmp_path / "one.pcap", packets)
    for more in ([], ["--json"]):
        assert cli.main(["explain", *place.options, *more, str(file)]) == 0
        assert "sesame" not in capsys.readouterr().out


def test_a_closed_pipe_is_quiet(tmp_path: Path, place: Place) -> None:
    file = write(tmp_path / "one.pcap", [(tcp(SYN, port=80), NOW)] * 5000)
    argv = [sys.executable, "-m", "gatekeeper", "explain", *place.options, str(file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"#1 ")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_standard_input_can_be_explained_while_it_comes(tmp_path: Path, place: Place) -> None:
    data = write(tmp_path / "one.pcap", [(tcp(SYN, port=80), NOW)] * 2).read_bytes()
    argv = [sys.executable, "-u", "-m", "gatekeeper", "explain", *place.options, "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(data)
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"#1 ")
        process.stdin.close()
        assert b"2 packets: 2 not-guarded" in process.stdout.read()
    assert process.returncode == 0


def test_colours_are_for_terminals_that_want_them(
    tmp_path: Path, place: Place, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = write(tmp_path / "one.pcap", [(tcp(SYN), NOW)])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for variables, is_coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", seen := Terminal())
            for name, value in variables.items():
                patch.setenv(name, value)
            assert cli.main(["explain", *place.options, str(file)]) == 0
        assert ("\x1b[31mdropped, no-grant\x1b[0m" in seen.getvalue()) is is_coloured
    assert capsys.readouterr().err == ""
    assert os.environ["TERM"] == "xterm"
