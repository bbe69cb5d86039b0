"""The keeper hands events over and never waits; what is lost is counted, and said."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from gatekeeper.hooks import sender
from gatekeeper.hooks.sender import Sender
from gatekeeper.hooks.telling import Event, decode
from gatekeeper.processes.link import Wire

EVENT = Event(("/bin/told", "x" * 500), 10, {"GATEKEEPER_CLIENT": "laptop"})


@pytest.fixture
def wire() -> Iterator[Wire]:
    one = Wire()
    yield one
    one.written.close()
    one.read.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "hook-lost"]


def test_nobody_waits_where_nobody_takes_and_what_is_lost_is_counted_and_said(
    wire: Wire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("gatekeeper"), "propagate", True)
    counted: list[str] = []
    one = Sender(wire.written, counted.append)
    one.say_lost()
    assert lines(caplog) == []
    one.send([EVENT] * 5000)
    one.say_lost()
    lost = len(counted)
    assert 0 < lost < 5000
    assert set(counted) == {"hook-lost"}
    assert [its["number"] for its in lines(caplog)] == [lost]
    one.send([EVENT])
    one.say_lost()  # not so soon again
    assert len(lines(caplog)) == 1
    monkeypatch.setattr(one, "_say_after", 0.0)
    one.say_lost()
    assert [its["number"] for its in lines(caplog)] == [lost, 1]
    for _ in range(5000 - lost):
        assert decode(wire.read.recv(1 << 17)) == EVENT
    one.send([EVENT])
    assert decode(wire.read.recv(1 << 17)) == EVENT


def test_one_at_the_other_end_who_is_gone_is_no_error(wire: Wire) -> None:
    counted: list[str] = []
    wire.read.close()
    Sender(wire.written, counted.append).send([EVENT, EVENT])
    assert counted == [sender.LOST] * 2
