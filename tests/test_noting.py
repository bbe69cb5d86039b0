"""Who has asked for a reload, and what was done by hand, come into the audit trail; or nothing hangs on it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest

from gatekeeper import asked, flushing, hand, inforce, noting, rules
from gatekeeper.model import TrailEntry, Wanted
from gatekeeper.settings import TrailSettings
from gatekeeper.store.sqlite import FILE, SqliteStore
from gatekeeper.store.trail import Trail

ASKED = "asked.json"


def said(folder: Path) -> list[tuple[str, str | None]]:
    with contextlib.closing(SqliteStore(folder)) as store:
        return [(one.reason, one.note) for one in reversed(store.trail(Wanted()))]


def loaded(folder: Path, more: str = "") -> None:
    """Leave behind what run does."""
    found, _ = rules.parse(f"services: {{ssh: {{port: tcp/22}}}}\n{more}".encode(), file="x", read_key=str.encode)
    what = inforce.of(found, Path("/etc/rules.yaml"), when=1e9, only_observes=False, has_rules=False)
    inforce.write(folder, what)
    SqliteStore(folder).close()


def test_who_has_asked_is_said_once(tmp_path: Path) -> None:
    asked.note(tmp_path, "alice")
    assert asked.take(tmp_path) == "alice"
    assert asked.take(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "said",
    [
        {"who": "alice", "at": time.monotonic() - 61},
        {"who": "alice", "at": time.monotonic() + 3600},
        {"who": "alice", "at": "now"},
        {"who": 7, "at": time.monotonic()},
        {"who": "", "at": time.monotonic()},
        {"at": 1},
        [],
    ],
)
def test_what_is_old_or_makes_no_sense_names_nobody(tmp_path: Path, said: object) -> None:
    (tmp_path / ASKED).write_text(json.dumps(said))
    assert asked.take(tmp_path) is None


def test_a_name_is_short_and_can_be_printed(tmp_path: Path) -> None:
    asked.note(tmp_path, "\x1b[31m" + "x" * 1000)
    assert asked.take(tmp_path) == "\\x1b[31m" + "x" * 24


def test_a_pipe_or_a_link_in_its_place_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ASKED)
    assert asked.take(tmp_path) is None
    (tmp_path / ASKED).unlink()
    (tmp_path / "other").write_text(json.dumps({"who": "eve", "at": time.monotonic()}))
    (tmp_path / ASKED).symlink_to("other")
    assert asked.take(tmp_path) is None


def test_a_file_that_is_far_too_long_is_not_read_by_run(tmp_path: Path) -> None:
    """Small words for a name: reading tens of megabytes would stop the supervisor, or end it for want of memory."""
    long = json.dumps({"who": "eve", "at": time.monotonic(), "more": [[]] * 2_000_000})
    (tmp_path / ASKED).write_text(long)
    assert asked.take(tmp_path) is None


def test_where_it_cannot_be_written_the_reload_goes_on(tmp_path: Path) -> None:
    asked.note(tmp_path / "nowhere", "alice")
    assert not (tmp_path / "nowhere").exists()


def test_a_deed_has_its_entry_with_by_whose_hand(tmp_path: Path) -> None:
    loaded(tmp_path)
    for what in (None, "run was stopped"):
        assert noting.note(tmp_path, "flushed", noting.by_hand(what)) is None
    who = hand.whose()
    assert said(tmp_path) == [("flushed", f"by {who}"), ("flushed", f"by {who}: run was stopped")]


def test_an_entry_forgets_nothing_that_the_rules_keep(tmp_path: Path) -> None:
    long_ago, number = time.time() - 200 * 86_400, 45_000
    trail = Trail(TrailSettings(keep=None, size=64_000_000))
    with contextlib.closing(SqliteStore(tmp_path, trail_of=trail)) as store:
        store.add_counts({}, [TrailEntry(long_ago, "clock-skew", "laptop")] * number, now=time.time())
    assert noting.note(tmp_path, "flushed", "by alice") is None
    assert len(said(tmp_path)) == number + 1


def test_without_a_trail_or_a_store_there_is_no_entry_and_no_complaint(tmp_path: Path) -> None:
    assert noting.note(tmp_path / "nowhere", "flushed", "by alice") is None
    assert not (tmp_path / "nowhere").exists()
    loaded(tmp_path, "trail: none\n")
    assert noting.note(tmp_path, "flushed", "by alice") is None
    assert said(tmp_path) == []


def test_a_store_that_cannot_be_written_is_said_and_no_more(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, and so much longer than its header is" * 100)
    complaint = noting.note(tmp_path, "flushed", "by alice")
    assert complaint is not None
    assert "is not in the audit trail" in complaint


@pytest.mark.parametrize(("taken_out", "reasons"), [([], []), (["the chains"], ["flushed"])])
def test_a_flush_is_in_it_where_it_took_something_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_out: list[str], reasons: list[str]
) -> None:
    """To call off what waited to be confirmed opens nothing."""
    loaded(tmp_path)
    monkeypatch.setattr("gatekeeper.confirm.ending.call_off", lambda: True)
    monkeypatch.setattr("gatekeeper.firewall.apply.flush", lambda: taken_out)
    monkeypatch.setattr(flushing, "_locks_here", lambda _: [])
    done, complaint = flushing.flush(tmp_path, stop=False)
    assert (len(done), complaint) == (1 + len(taken_out), None)
    assert [reason for reason, _ in said(tmp_path)] == reasons
