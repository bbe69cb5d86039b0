"""Answers, end to end in user space: a knock over loopback, the gate's decision, and what comes back."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper.allowlist import Allowlist
from gatekeeper.answers import Answers
from gatekeeper.client import knocker
from gatekeeper.client.addresses import Target
from gatekeeper.client.knocker import Ask, SealedMaker, Sent
from gatekeeper.errors import QueueError
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.model import Answer, Datagram, Decision, Reason
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys, wire
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport

SERVER, LAPTOP, PHONE, STRANGER = (bytes([number]) * 32 for number in (1, 2, 3, 4))
HERE: Target = (socket.AF_INET, ("127.0.0.1", 0))
THERE: Target = (socket.AF_INET, ("127.0.0.77", 0))
SIX: Target = (socket.AF_INET6, ("::1", 0))


def rules(port: int, *, ack: bool = True) -> Rules:
    return Rules(
        services={
            "ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600),
            "web": Service("web", (Ports(Transport.TCP, 443),), 600),
            "vpn": Service("vpn", (Ports(Transport.UDP, 51820),), None),
        },
        clients={
            "laptop": Client(name="laptop", services=("ssh", "web", "vpn"), keys=(keys.public_of(LAPTOP),)),
            "phone": Client(name="phone", services=("ssh",), keys=(keys.public_of(PHONE),), not_after=1.0),
        },
        knock_ports=(port,),
        ack=ack,
    )


class Door:
    """The knock port, and a gate behind it."""

    def __init__(self, answers: Answers, port: int) -> None:
        self.answers, self.port = answers, port
        self.gate = self.gate_for(rules(port))

    @staticmethod
    def gate_for(the_rules: Rules) -> Gate:
        replays = ReplayMemory()
        formats = enabled(the_rules, (ServerKey(SERVER),), now=time.time())
        return Gate(the_rules, formats, Allowlist(()), replays=replays)

    def knock(self, target: Target, maker: SealedMaker) -> Sent:
        return knocker.send([target], self.port, maker, keep_open=True)

    def judge(self, target: Target, gate: Gate | None = None) -> Decision:
        """Decide about the next knock. No ruleset keeps it from the sockets that answer: they have it."""
        one = self.answers._sockets[4 if target[0] == socket.AF_INET else 6, self.port]
        one.settimeout(5)
        payload, peer = one.recvfrom(2048)
        address, port = ip_address(peer[0]), int(peer[1])
        datagram = Datagram(address, ip_address(target[1][0]), port, self.port, payload)
        return (gate or self.gate).judge(datagram, now=time.time())

    def send(self, to: Datagram, content: bytes) -> None:
        self.answers.send(Answer(to, lambda _: content))


def free_port() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.bind(("::", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def door() -> Iterator[Door]:
    port = free_port()
    answers = Answers([port])
    yield Door(answers, port)
    answers.close()


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def maker(private: bytes = LAPTOP, *, close: bool = False, service: str | None = None, ttl: int = 0) -> SealedMaker:
    return SealedMaker(private, keys.public_of(SERVER), Ask(close=close, service=service, ttl=ttl))


def answer(sent: Sent, mine: SealedMaker, *, timeout: float) -> wire.Answer | None:
    """Wait for an answer from any address."""
    return next((found for _, found in sent.answers(mine, timeout=timeout)), None)


def answered(decision: Decision) -> Answer:
    assert decision.answer is not None, decision
    return decision.answer


@pytest.mark.parametrize("target", [HERE, THERE, SIX], ids=lambda target: target[1][0])
@pytest.mark.parametrize(
    ("asked", "result", "ttl"),
    [
        ({"service": "ssh"}, wire.OPEN, 3600),
        ({"service": "ssh", "ttl": 60}, wire.OPEN, 60),
        ({"service": "vpn"}, wire.OPEN, wire.FOREVER),
        ({}, wire.OPEN, 600),  # of several, the shortest
        ({"close": True}, wire.CLOSE, 0),
        ({"service": "ssh", "close": True}, wire.CLOSE, 0),
    ],
)
def test_a_knock_that_was_accepted_is_answered_from_where_it_went(
    door: Door, target: Target, asked: dict[str, object], result: int, ttl: int
) -> None:
    """The client's socket takes nothing that comes from another address, nor from another port."""
    mine = maker(**asked)  # type: ignore[arg-type]
    sent = door.knock(target, mine)
    door.answers.send(answered(door.judge(target)))
    found = answer(sent, mine, timeout=5)
    sent.close()
    assert found is not None
    assert (found.result, found.ttl) == (result, ttl)


def test_an_answer_is_shorter_than_a_knock(door: Door) -> None:
    """Nobody can use it to send more at someone than they could themselves."""
    sent = door.knock(HERE, maker())
    assert len(answered(door.judge(HERE)).write(keys.generate())) == 64 < wire.SIZE
    sent.close()


def test_what_was_refused_is_not_answered(door: Door) -> None:
    for private, reason in ((STRANGER, Reason.UNKNOWN_CLIENT), (PHONE, Reason.CLIENT_EXPIRED)):
        sent = door.knock(HERE, maker(private))
        decision = door.judge(HERE)
        assert (decision.reason, decision.answer) == (reason, None)
        sent.close()


def test_nothing_is_answered_unless_the_rules_say_so(door: Door) -> None:
    silent = Door.gate_for(rules(door.port, ack=False))
    sent = door.knock(HERE, maker())
    decision = door.judge(HERE, silent)
    assert (decision.reason, decision.answer) == (Reason.OPENED, None)
    sent.close()


def test_a_client_believes_the_answer_to_its_own_knock_only(door: Door) -> None:
    """Not junk, and not the answer to another knock, were it sent from the right place."""
    mine = maker()
    first, second = door.knock(HERE, mine), door.knock(HERE, mine)
    decisions = [answered(door.judge(HERE)) for _ in range(2)]
    if decisions[0].datagram.source_port != first._waiting[0][0].getsockname()[1]:
        decisions.reverse()
    to_first, to_second = (decision.datagram for decision in decisions)
    for_first, for_second = (decision.write(keys.generate()) for decision in decisions)
    for junk in (b"", b"x", bytes(64), b"\xff" * 64, bytes(116), bytes(1500), for_second):
        door.send(to_first, junk)
    assert answer(first, mine, timeout=0.1) is None
    assert first.forged == 7
    door.send(to_first, for_first)  # and what came before it has not spoilt it
    door.send(to_second, for_second)
    for sent in (first, second):
        found = answer(sent, mine, timeout=5)
        assert found is not None
        assert found.result == wire.OPEN
        sent.close()


def test_each_address_gives_an_answer_of_its_own_and_the_one_that_gives_none_keeps_no_other(door: Door) -> None:
    mine = maker()
    sent = knocker.send([SIX, HERE], door.port, mine, keep_open=True)
    assert sent.addresses == ["::1", "127.0.0.1"]
    door.answers.send(answered(door.judge(HERE)))
    assert [address for address, _ in sent.answers(mine, timeout=0.1)] == ["127.0.0.1"]
    door.answers.send(answered(door.judge(SIX)))
    begin = time.monotonic()
    assert [address for address, _ in sent.answers(mine, timeout=5)] == ["::1"]
    assert time.monotonic() - begin < 1
    sent.close()


def test_an_answer_goes_to_the_sender_of_the_packet_whatever_address_the_knock_names(door: Door) -> None:
    """So nobody can have a server send to a third party; and who is behind NAT hears it."""
    the_rules = rules(door.port)
    laptop = replace(the_rules.clients["laptop"], for_others=True)
    gate = Door.gate_for(replace(the_rules, clients={"laptop": laptop}))
    mine = SealedMaker(LAPTOP, keys.public_of(SERVER), Ask(source="203.0.113.9"))
    sent = door.knock(HERE, mine)
    decision = door.judge(HERE, gate)
    assert decision.effect is not None
    assert "203.0.113.9" in str(decision.effect)
    assert str(answered(decision).datagram.source) == "127.0.0.1"
    door.answers.send(answered(decision))
    assert answer(sent, mine, timeout=5) is not None
    sent.close()


def test_where_nothing_listens_there_is_no_wait(door: Door) -> None:
    door.answers.close()
    mine = maker()
    sent = door.knock(HERE, mine)
    begin = time.monotonic()
    assert answer(sent, mine, timeout=5) is None
    assert time.monotonic() - begin < 1
    sent.close()


def test_a_port_that_another_program_has_is_told() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as other:
            other.bind((address, 0))
            port = other.getsockname()[1]
            with pytest.raises(QueueError, match=f"cannot send answers from udp/{port}: Address already") as failure:
                Answers([port])
        assert failure.value.hint is not None
        assert "ack" in failure.value.hint
        Answers([port]).close()  # nothing of the failure is left


def test_an_answer_that_cannot_be_sent_is_logged_and_no_more(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    sent = door.knock(HERE, maker())
    good = answered(door.judge(HERE))
    sent.close()
    nowhere = Datagram(ip_address("255.255.255.255"), ip_address("127.0.0.1"), 9, door.port, b"")
    log = logging.getLogger("gatekeeper")
    log.addHandler(caplog.handler)
    before = log.level
    log.setLevel(logging.INFO)
    try:
        door.answers.send(Answer(nowhere, good.write))
    finally:
        log.removeHandler(caplog.handler)
        log.setLevel(before)
    record = caplog.records[-1]
    assert record.getMessage() == "not-answered"
    assert record.__dict__["fields"] == {"source": "255.255.255.255", "error": "[Errno 13] Permission denied"}


def test_the_sockets_hold_next_to_nothing_of_what_is_sent_to_them(door: Door) -> None:
    """Should anything get past the ruleset, it must not fill memory."""
    for one in door.answers._sockets.values():
        size = one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert size < 5000
