"""Log lines and counters: what they say, what they never say, and how many there are."""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from gatekeeper import logs, observe
from gatekeeper.model import Admit, Decision, Grant, Outcome, Reason, Revoke, Verdict
from tests.packets import SYN, tcp, udp

Lines = Callable[[], list[str]]
REFUSED = Decision(Verdict.DROP, Reason.UNKNOWN_KEY)


@pytest.fixture(params=["text", "json"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines(style: str, capfd: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Log to standard error; the call returns the lines so far."""
    listener = logs.start_logging(style)

    def stop() -> list[str]:
        listener.stop()
        return capfd.readouterr().err.splitlines()

    yield stop
    logging.getLogger("gatekeeper").handlers = []


def test_a_refused_packet_makes_a_line_with_its_reason_and_source(lines: Lines, style: str) -> None:
    observer = observe.Observer()
    observer.refused(REFUSED, udp(b"junk"))
    observer.refused(Decision(Verdict.DROP, Reason.NO_GRANT), tcp(SYN, version=6))
    observer.refused(Decision(Verdict.DROP, Reason.MALFORMED), b"")
    first, second, third = lines()
    if style == "json":
        assert json.loads(first)["source"] == "198.51.100.2"
        assert json.loads(second) | {"time": 0} == {
            "time": 0,
            "level": "info",
            "event": "refused",
            "reason": "no-grant",
            "source": "2001:db8:c::2",
            "port": "tcp/22",
        }
    else:
        assert first.endswith(" info refused reason=unknown-key source=198.51.100.2 port=udp/62201")
        assert third.endswith(" info refused reason=malformed")
    assert observer.take_counts() == {"unknown-key": 1, "no-grant": 1, "malformed": 1}
    assert observer.take_counts() == {}


@pytest.mark.parametrize("style", ["text"])
def test_a_flood_makes_few_lines_and_is_counted(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    observer = observe.Observer()
    for _ in range(10_000):
        observer.refused(REFUSED, udp(b"junk"))
    now[0] += 1
    observer.refused(REFUSED, udp(b"junk"))
    found = lines()
    assert len(found) == 21
    assert found[-1].endswith("not_shown=9980")
    assert observer.take_counts() == {"unknown-key": 10_001}


@pytest.mark.parametrize("style", ["text"])
def test_a_flood_that_has_ended_is_summed_up_though_nothing_comes_behind_it(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    observer = observe.Observer()
    for _ in range(10_000):
        observer.refused(REFUSED, udp(b"junk"))
    observer.sum_up()  # nothing may be written yet
    now[0] += 2
    observer.sum_up()
    observer.sum_up()
    found = lines()
    assert len(found) == 21
    assert " info refused not_shown=9980 note=" in found[-1]


def test_hostile_bytes_are_escaped(lines: Lines, style: str) -> None:
    observe.event("x", {"a": "two words", "b": 'say "hi"', "c": "\x1b[31mred\n2026 forged line", "d": "\udcff"})
    (line,) = lines()
    assert "\x1b" not in line
    if style == "text":
        assert 'a="two words"' in line
        assert "\\x1b[31mred\\n2026 forged line" in line.replace("\\\\", "\\")
    else:
        assert json.loads(line)["c"] == "\x1b[31mred\n2026 forged line"


@pytest.mark.parametrize("style", ["text"])
def test_every_grant_of_an_outcome_has_its_line(lines: Lines) -> None:
    home = ip_network("192.0.2.7")
    grants = (Grant(home, "ssh", "laptop", 160.0), Grant(home, "vpn", "laptop", None))
    opens = Decision(Verdict.DROP, Reason.OPENED, Admit(grants), "laptop")
    observe.Observer().carried_out(opens, Outcome(admitted=grants, error="no set"), now=100.0)
    network = ip_network("192.0.2.0/24")
    closes = Decision(Verdict.DROP, Reason.CLOSED, Revoke(network, "laptop"), "laptop")
    closed = Outcome(ended=(Grant(network, "ssh", "laptop", 160.0),), cut=2)
    observe.Observer().carried_out(closes, closed, now=100.0)
    observe.Observer().carried_out(closes, Outcome(), now=100.0)
    assert [line.split(" ", 1)[1] for line in lines()] == [
        "info opened client=laptop source=192.0.2.7 service=ssh ttl=60s",
        'info opened client=laptop source=192.0.2.7 service=vpn ttl="until closed"',
        'error not-applied error="no set" client=laptop source=192.0.2.7',
        "info closed client=laptop source=192.0.2.0/24 service=ssh ttl=60s",
        "info cut connections=2 client=laptop source=192.0.2.0/24",
        'info closed client=laptop source=192.0.2.0/24 note="nothing was open"',
    ]


@pytest.mark.parametrize("style", ["text"])
def test_thousands_of_grants_make_one_line(lines: Lines) -> None:
    grants = tuple(Grant(ip_network((n, 32)), "ssh", "laptop", 160.0) for n in range(5000))
    observe.Observer().changed("restored", Outcome(admitted=grants), now=100.0)
    (line,) = lines()
    assert line.endswith(" info restored grants=5000")


def test_a_reader_that_does_not_read_stops_nobody() -> None:
    """When lines cannot leave, lines are lost: the caller never waits."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(2)
    handler = logs._Patient(lines)
    record = logging.LogRecord("gatekeeper", logging.INFO, "", 0, "x", (), None)
    for _ in range(5):
        handler.handle(record)
    assert lines.qsize() == 2


def test_an_exit_does_not_wait_for_a_reader_that_does_not_read() -> None:
    """`gatekeeper run 2>&1 | less`, stopped with a full screen: SIGTERM still ends it within a second."""
    code = (
        "import os, time\n"
        "from gatekeeper import logs, observe\n"
        "listener = logs.start_logging('text')\n"
        "for _ in range(20000): observe.message('x' * 100)\n"
        "begin = time.monotonic(); listener.stop()\n"
        "print(time.monotonic() - begin, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert float(process.stdout.readline()) < 0.8
        assert process.wait(timeout=5) == 0


def test_who_is_refused_is_counted_with_the_reason_whatever_is_logged() -> None:
    observer = observe.Observer()
    for _ in range(100):
        observer.refused(REFUSED, udp(b"junk"))
    observer.refused(Decision(Verdict.DROP, Reason.NO_GRANT), tcp(SYN, version=6))
    for raw in (b"", b"E", b"E" * 15, b"`" * 12):  # too short to say from whom
        observer.refused(Decision(Verdict.DROP, Reason.MALFORMED), raw)
    home, network = ip_network("198.51.100.2").network_address.packed, ip_network("2001:db8:c::").network_address.packed
    assert observer.take_senders() == {(home, "unknown-key"): 100, (network[:8], "no-grant"): 1}
    assert observer.take_senders() == {}


def test_in_a_trial_the_reason_says_that_it_would_have_been() -> None:
    observer = observe.Observer(is_trial=True)
    observer.refused(REFUSED, udp(b"junk"))
    assert [reason for _, reason in observer.take_senders()] == ["would-unknown-key"]
