"""Captures that are broken, hostile or odd: a clear error behind what could be read, and never a traceback."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper import cli
from tests.explain.captures import EN10MB, SECTION, enhanced, interface, pcap_header, write
from tests.explain.conftest import NOW, Place
from tests.packets import SYN, tcp, udp

Capsys = pytest.CaptureFixture[str]
PACKETS = [(tcp(SYN, port=80), NOW), (tcp(SYN), NOW + 1), (udp(b"junk"), NOW + 2)]


def outcome(capsys: Capsys, place: Place, file: Path, *words: str) -> tuple[int, list[str], str]:
    """Run it; return the exit status, the answers' first lines, and what it complains of."""
    status = cli.main(["explain", *place.options, *words, str(file)])
    out, err = capsys.readouterr()
    return status, [line for line in out.splitlines() if line.startswith("#")], err


@pytest.mark.parametrize("ending", ["pcap", "pcapng", "pcap.gz", "pcapng.gz"])
def test_a_capture_that_was_cut_off_is_told_up_to_there(
    tmp_path: Path, place: Place, capsys: Capsys, ending: str
) -> None:
    file = write(tmp_path / f"one.{ending}", PACKETS)
    whole = file.read_bytes()
    for cut in (1, 5, 17, 30):
        file.write_bytes(whole[:-cut])
        status, answers, err = outcome(capsys, place, file)
        assert status == 1
        assert 0 < len(answers) <= 3
        assert f"packet {len(answers) + 1} " in err
        assert "gatekeeper: hint: what stands before it was read" in err


def test_what_is_no_capture_is_said_to_be_none(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    file = tmp_path / "one.pcap"
    for data, words in (
        (b"", "is empty"),
        (b"hello world, hello world", "is not a capture"),
        (b"\xd4\xc3\xb2\xa1", "packet 1 is not whole"),
        (b"\x0a\x0d\x0d\x0a" + b"x" * 50, "packet 1 makes no sense"),
        (b"\x1f\x8b", "cannot read "),
        (b"\x1f\x8bxxxxxxxxxxxxxxxxxxxxx", "cannot read "),
    ):
        file.write_bytes(data)
        status, answers, err = outcome(capsys, place, file)
        assert (status, answers) == (1, [])
        assert words in err, err
        assert "Traceback" not in err
    for path in (tmp_path, tmp_path / "missing"):
        status, _, err = outcome(capsys, place, path)
        assert status == 1
        assert f"cannot read {path}: " in err


@pytest.mark.parametrize("length", [1 << 20, 0xFFFF_FFFF, 0x7FFF_FFF0])
@pytest.mark.parametrize("ending", ["pcap", "pcapng"])
def test_a_length_that_lies_costs_no_memory(
    tmp_path: Path, place: Place, capsys: Capsys, ending: str, length: int
) -> None:
    file = write(tmp_path / f"one.{ending}", PACKETS[:1])
    with file.open("ab") as more:
        head = struct.pack("=IIII", 1, 1, length, length) if ending == "pcap" else struct.pack("=II", 6, length & ~3)
        more.write(head + b"x" * 100)
    status, answers, err = outcome(capsys, place, file)
    assert (status, len(answers)) == (1, 1)
    assert "packet 2 " in err


def test_a_link_type_that_is_not_known_is_named_with_the_packet(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    file = write(tmp_path / "one.pcap", PACKETS[:1])
    data = bytearray(file.read_bytes())
    data[20:24] = struct.pack("=I", 147)
    file.write_bytes(data)
    status, answers, err = outcome(capsys, place, file)
    assert (status, answers) == (1, [])
    assert "packet 1 has link type 147 (known are Ethernet, " in err


def test_a_packet_without_a_time_needs_one(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    file, raw = tmp_path / "one.pcapng", tcp(SYN)
    simple = struct.pack("=III", 3, 16 + len(raw), len(raw)) + raw + struct.pack("=I", 16 + len(raw))
    late = struct.pack("=IIIIIII", 6, 32 + len(raw), 0, 0xFFFF_FFFF, 0, len(raw), len(raw)) + raw
    for block in (simple, late + struct.pack("=I", 32 + len(raw))):
        file.write_bytes(SECTION + interface(101) + block)
        status, answers, err = outcome(capsys, place, file)
        assert (status, answers) == (1, [])
        assert "packet 1 has no time" in err
        assert "gatekeeper: hint: name one: --at TIME" in err
        status, answers, _ = outcome(capsys, place, file, "--at", "1800000000")
        assert (status, len(answers)) == (0, 1)
        assert answers[0].startswith("#1 ? tcp ")


def test_comments_of_a_capture_are_escaped(tmp_path: Path, place: Place, capsys: Capsys) -> None:
    file, comment = tmp_path / "one.pcapng", b"\x1b[2J\n#2 \xff"
    options = struct.pack("=HH", 1, len(comment)) + comment + bytes(-len(comment) % 4) + bytes(4)
    file.write_bytes(SECTION + interface(101) + enhanced(tcp(SYN), NOW, options=options))
    assert cli.main(["explain", *place.options, str(file)]) == 0
    out = capsys.readouterr().out
    assert "recorded=" in out
    assert "\x1b" not in out


def check_any_bytes(place: Place, capsys: Capsys, data: bytes, more: Sequence[str]) -> None:
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(data)
        file.flush()
        status = cli.main(["explain", *place.options, *more, file.name])
        out, err = capsys.readouterr()
    assert status in {0, 1}, err
    assert all(char.isprintable() or char == "\n" for char in out + err)


HEADERS = st.sampled_from([pcap_header(link) for link in (0, 1, 101, 108, 113, 276)])
RECORDS = st.builds(
    lambda sec, usec, data, extra, more: struct.pack("=IIII", sec, usec, len(data) + extra, len(data) + more) + data,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=150),
    st.sampled_from([0, 0, 0, 1, 70000]),
    st.integers(0, 2000),
)
BLOCKS = st.builds(
    lambda kind, body, wrong: (
        struct.pack("=II", kind, 12 + len(body) + wrong) + body + struct.pack("=I", 12 + len(body))
    ),
    st.sampled_from([1, 2, 3, 4, 5, 6, 6, 6, 10, 0x80000001, 0x0A0D0D0A]),
    st.integers(0, 40).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words)),
    st.sampled_from([0, 0, 0, 0, 4, -4, 1 << 30]),
)
ANY = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda head, records: head + b"".join(records), HEADERS, st.lists(RECORDS, max_size=6)),
    st.builds(
        lambda blocks: SECTION + interface(101) + b"".join(blocks),
        st.lists(BLOCKS, max_size=6),
    ),
)


@given(data=ANY, more=st.sampled_from([(), ("--json",), ("--at", "1800000000")]))
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_give_a_traceback(place: Place, capsys: Capsys, data: bytes, more: Sequence[str]) -> None:
    check_any_bytes(place, capsys, data, more)


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), ending=st.sampled_from(["pcap", "pcapng"]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_changed_byte_gives_a_traceback(
    tmp_path: Path, place: Place, capsys: Capsys, at: int, byte: int, ending: str
) -> None:
    file = write(tmp_path / f"one.{ending}", [*PACKETS, (udp(place.seal()), NOW)], link=EN10MB)
    data = bytearray(file.read_bytes())
    data[at % len(data)] = byte
    check_any_bytes(place, capsys, bytes(data), ())
