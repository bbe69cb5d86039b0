"""Lines reach the journal with their fields; and standard error, where it does not take them."""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper import journald, logs, observe
from gatekeeper.model import Admit, Decision, Grant, Outcome, Reason, Verdict
from gatekeeper.networks import host

HOME = host(ip_address("192.0.2.7"))


def read(datagram: bytes) -> dict[str, str]:
    """Read a datagram as the documentation of the protocol says, strictly."""
    found: dict[str, str] = {}
    while datagram:
        line, end, rest = datagram.partition(b"\n")
        assert end
        name, equals, value = line.partition(b"=")
        if equals:
            datagram = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, datagram = rest[8 : 8 + size], rest[8 + size + 1 :]
            assert rest[8 + size : 8 + size + 1] == b"\n"
        assert name.decode("ascii").replace("_", "").isalnum()
        assert name == name.upper()
        assert not name.startswith(b"_")
        found[name.decode()] = value.decode()
    return found


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Be the journal: standard error goes to it, and its socket is there."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(path))
        one.settimeout(5)
        monkeypatch.setattr(journald, "SOCKET", str(path))
        found = os.fstat(sys.stderr.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        yield one
    for handler in logging.getLogger("gatekeeper").handlers:
        handler.close()
    logging.getLogger("gatekeeper").handlers = []


@pytest.mark.parametrize("style", ["auto", "journal"])
def test_a_knock_has_its_fields(journal: socket.socket, style: str) -> None:
    listener = logs.start_logging(style)
    grants = (Grant(HOME, "ssh", "laptop", 3700.0),)
    decision = Decision(Verdict.DROP, Reason.OPENED, Admit(grants), "laptop")
    observe.Observer().carried_out(decision, Outcome(admitted=grants), now=100.0)
    listener.stop()
    assert read(journal.recv(65536)) == {
        "MESSAGE": "opened client=laptop source=192.0.2.7 service=ssh ttl=3600s",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "gatekeeper",
        "GATEKEEPER_EVENT": "opened",
        "GATEKEEPER_REASON": "opened",
        "GATEKEEPER_CLIENT": "laptop",
        "GATEKEEPER_SOURCE": "192.0.2.7",
        "GATEKEEPER_SERVICE": "ssh",
        "GATEKEEPER_TTL": "3600s",
    }


def test_a_sentence_and_its_level_and_the_process_that_has_one_thread(journal: socket.socket) -> None:
    logs.log_directly("journal")
    observe.message("something\nodd", level=logging.ERROR)
    found = read(journal.recv(65536))
    assert (found["PRIORITY"], found["MESSAGE"]) == ("3", "something\\nodd")
    assert not any(name.startswith("GATEKEEPER_") for name in found)


def test_a_traceback_keeps_its_lines(journal: socket.socket) -> None:
    logs.log_directly("journal")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("gatekeeper").exception("the worker failed")
    lines = read(journal.recv(65536))["MESSAGE"].splitlines()
    assert lines[0] == "the worker failed"
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_what_the_journal_does_not_take_goes_to_standard_error(
    journal: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.log_directly("journal")
    journal.close()
    with pytest.raises(OSError, match="efused"):
        journald.Journal()
    observe.event("opened", {"client": "laptop"})
    assert capfd.readouterr().err == "<6>opened client=laptop\n"


@pytest.mark.usefixtures("journal")
def test_a_journal_that_is_nobody_s_standard_error_is_left_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    logs.log_directly("journal")
    observe.event("opened", {"client": "laptop"})
    logs.log_directly("auto")
    observe.event("closed", {"client": "laptop"})
    first, second = capfd.readouterr().err.splitlines()
    assert first == "<6>opened client=laptop"
    assert second.endswith("Z info closed client=laptop")


@given(st.dictionaries(st.sampled_from(["MESSAGE", "GATEKEEPER_NOTE", "A_1"]), st.text(max_size=300)))
def test_any_text_is_one_value(fields: dict[str, str]) -> None:
    text = {name: value.encode(errors="backslashreplace").decode() for name, value in fields.items()}
    assert read(journald.encode(fields)) == text


def test_what_is_long_is_cut() -> None:
    assert len(journald.encode({"MESSAGE": "x" * 1_000_000})) < 20_000
