"""What is recorded of a refused packet: never a payload that could be somebody's key."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.knocks import enabled
from gatekeeper.model import Decision, Reason, Verdict
from gatekeeper.protocols import KnockFormat
from gatekeeper.recording.notes import Note, decode, encode, kept, note_of
from gatekeeper.recording.sender import LOST, Sender
from gatekeeper.sealed import keys, wire
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport
from tests.packets import ACK, SYN, echo, ip, tcp, udp

NOW = 1_800_000_000.0
SERVER, DEVICE = keys.generate(), keys.generate()
RULES = Rules(
    services={"ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600)},
    clients={
        "laptop": Client(name="laptop", services=("ssh",), keys=(keys.public_of(DEVICE),)),
        "old": Client(name="old", services=("ssh",), open_key=b"open_sesame"),
    },
)
REFUSED = Decision(Verdict.DROP, Reason.CLOCK_SKEW, client="laptop", note="sent 200s behind this clock")


@pytest.fixture
def formats() -> list[KnockFormat]:
    return enabled(RULES, (ServerKey(SERVER),), now=NOW)


def seal(at: float) -> bytes:
    payload = wire.Payload(action=wire.OPEN, sent_at=int(at * 1e9))
    return wire.Sealer(DEVICE, keys.public_of(SERVER)).seal(payload, os.urandom(32), now=at)[0]


@pytest.mark.parametrize("version", [4, 6])
def test_a_sealed_knock_is_kept_whole_also_one_of_another_hour(version: int, formats: list[KnockFormat]) -> None:
    for at in (NOW, NOW - 3600):
        raw = udp(seal(at), version=version)
        assert kept(raw, formats, now=NOW) == raw


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("payload", [b"open_sesame nothing", b"hunter2hunter2", b"x" * wire.SIZE])
def test_nothing_else_s_payload_is_kept(version: int, payload: bytes, formats: list[KnockFormat]) -> None:
    """Whatever it was sent by, and to whatever port."""
    headers = 20 if version == 4 else 40
    for raw, size in (
        (udp(payload, version=version), 8),
        (udp(payload, version=version, port=53), 8),
        (tcp(SYN, version=version, payload=payload), 20),
        (tcp(ACK, version=version, payload=payload), 20),
        (echo(payload, version=version), 8),
        (ip(version, 50, payload), 0),
        (udp(payload, version=version)[:-1], 0),  # its length is wrong, so where its payload begins is not known
    ):
        assert kept(raw, formats, now=NOW) == raw[: headers + size]


@given(st.binary(max_size=100))
def test_no_bytes_make_it_fail(raw: bytes) -> None:
    note = note_of(REFUSED, raw, enabled(RULES, (), now=NOW), now=NOW)
    assert raw.startswith(note.data)
    assert note.length == len(raw)


def test_a_note_says_why() -> None:
    note = note_of(REFUSED, tcp(SYN), [], now=NOW)
    assert note.comment == 'clock-skew client=laptop note="sent 200s behind this clock"'
    assert decode(encode(note)) == note


@given(st.binary(max_size=60))
def test_a_worker_that_was_taken_over_can_say_what_it_likes(message: bytes) -> None:
    try:
        note = decode(message)
    except ValueError:
        return
    assert isinstance(note, Note)
    assert note.length >= len(note.data)


def test_a_worker_never_waits_and_counts_what_is_lost() -> None:
    lost: list[str] = []
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least: some packets
        sender = Sender(ours, [], lost.append)
        for _ in range(300):
            sender.send(REFUSED, tcp(SYN))
        assert 200 < len(lost) < 300
        assert decode(its.recv(1000)).data == tcp(SYN)
        its.close()
        sender.send(REFUSED, tcp(SYN))
    assert set(lost) == {LOST}


def test_a_flood_is_recorded_at_a_bounded_rate() -> None:
    lost: list[str] = []
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        sender = Sender(ours, [], lost.append)
        for _ in range(3000):
            sender.send(REFUSED, tcp(SYN))
    assert len(lost) > 2000
