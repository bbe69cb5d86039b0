"""The wire between worker and keeper."""

from __future__ import annotations

import pytest

from gatekeeper.processes import link
from gatekeeper.processes.link import Link, LinkError
from gatekeeper.processes.messages import Counts, Done, Message


def test_messages_arrive_whole_and_in_order_also_those_that_had_to_wait() -> None:
    one, other = map(Link, link.pair())
    sent = [Counts({f"{part:050}": number for part in range(40)}) for number in range(1000)]
    for message in sent:
        one.send(message)
    assert one.backlog
    found: list[Message] = []
    while len(found) < len(sent):
        found += other.receive(64)
        one.flush()
    assert found == sent
    assert list(other.receive(1)) == []
    one.close()
    other.close()


def test_an_end_that_is_gone_is_noticed_by_whoever_reads_and_whoever_writes() -> None:
    one, other = map(Link, link.pair())
    other.close()
    with pytest.raises(LinkError):
        list(one.receive(1))
    with pytest.raises(LinkError):
        one.send(Done(1, went_well=True))
    one.close()


def test_nonsense_and_an_end_that_takes_nothing_cut_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = map(Link, link.pair())
    other.socket.send(b"nonsense")
    with pytest.raises(LinkError):
        list(one.receive(1))
    monkeypatch.setattr(link, "_BACKLOG", 10)
    with pytest.raises(LinkError):
        _send_many(one)
    one.close()
    other.close()


def _send_many(one: Link) -> None:
    for number in range(10_000):
        one.send(Counts({"x" * 2000: number}))
