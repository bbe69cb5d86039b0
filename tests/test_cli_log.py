"""``gatekeeper log`` shows the trail to people and to machines, and nobody's terminal is upset by it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper import cli
from gatekeeper.model import BY_HAND, Admit, Grant, Revoke, TrailEntry
from gatekeeper.networks import host
from gatekeeper.settings import TrailSettings
from gatekeeper.store.sqlite import FILE, SqliteStore
from gatekeeper.store.trail import Trail

RULES = "services: {ssh: {port: tcp/22}}\nclients: {}\n"
HOME = host(ip_address("192.0.2.7"))
Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("TZ", "Etc/GMT-1")
    time.tzset()
    (tmp_path / "rules.yaml").write_text(RULES)
    now = time.time()
    with contextlib.closing(SqliteStore(tmp_path / "state", trail_of=Trail(TrailSettings(), who="alice"))) as store:
        store.commit([Admit((Grant(HOME, "ssh", "laptop", now + 79_200),))], now=now - 7200)
        store.add_counts({}, [TrailEntry(now - 60, "clock-skew", "desk", "2001:db8::7", note="7 m off")], now=now)
        store.commit([Revoke(HOME)], now=now - 30)
        store.commit([Admit((Grant(HOME, "ssh", BY_HAND, None),))], now=now - 10)
    return ["--rules", str(tmp_path / "rules.yaml"), "--state-dir", str(tmp_path / "state")]


def test_people_read_it_in_their_time_the_oldest_first(places: list[str], capsys: Capsys) -> None:
    two_hours = {time.strftime("%H:%M:%S", time.localtime(time.time() - 7200 - ago)) for ago in range(60)}
    assert cli.main(["log", *places]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["opened", "clock-skew", "revoked", "granted"]
    assert lines[0].endswith("opened            laptop        ssh         192.0.2.7           for 1d  (by alice)")
    assert lines[1].endswith("clock-skew        desk          -           2001:db8::7         (7 m off)")
    assert lines[3].endswith("until closed  (by alice)")
    assert lines[0].split()[1] in two_hours


def test_what_was_noted_late_stands_where_it_was(places: list[str], capsys: Capsys) -> None:
    """Refusals and reloads are noted once a second, and a grant at once."""
    now = time.time()
    with contextlib.closing(SqliteStore(Path(places[-1]), trail_of=Trail(TrailSettings()))) as store:
        store.commit([Admit((Grant(HOME, "ssh", "laptop", now + 60),))], now=now)
        store.add_counts({}, [TrailEntry(now - 1, "reloaded", note="watched: nothing")], now=now)
    assert cli.main(["log", "-n", "2", *places]) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["reloaded", "opened"]
    assert cli.main(["status", "--json", *places]) == 0
    decisions = json.loads(capsys.readouterr().out)["decisions"]
    assert [one["reason"] for one in decisions[:2]] == ["opened", "reloaded"]


def test_machines_read_json_in_utc(places: list[str], capsys: Capsys) -> None:
    assert cli.main(["log", "--json", *places]) == 0
    first, second, _, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {name: first[name] for name in ("reason", "client", "source", "service", "ttl", "note")} == {
        "reason": "opened",
        "client": "laptop",
        "source": "192.0.2.7",
        "service": "ssh",
        "ttl": 86400,
        "note": "by alice",
    }
    assert first["time"].endswith("Z")
    assert "ttl" not in second
    assert (last["ttl"], last["expires_at"]) == (None, None)


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        (["--since", "1h"], ["clock-skew", "revoked", "granted"]),
        (["--since", "1h", "-n", "1"], ["granted"]),
        (["--until", "1h"], ["opened"]),
        (["--client", "desk"], ["clock-skew"]),
        (["--client", BY_HAND], ["granted"]),
        (["--source", "192.0.2.0/24"], ["opened", "revoked", "granted"]),
        (["--reason", "revoked"], ["revoked"]),
        (["--service", "ssh", "--lines", "2"], ["revoked", "granted"]),
    ],
)
def test_it_is_looked_through(places: list[str], capsys: Capsys, options: list[str], reasons: list[str]) -> None:
    assert cli.main(["log", "--json", *options, *places]) == 0
    assert [json.loads(line)["reason"] for line in capsys.readouterr().out.splitlines()] == reasons


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--since", "yesterday"], "neither a duration"),
        (["--since", "9999-12-31T23:59:59+99:00"], "neither a duration"),
        (["--lines", "0"], "not a number of lines"),
        (["--source", "here"], "neither an address nor a network"),
        (["--state-dir", "/nowhere"], "no store in /nowhere"),
    ],
)
def test_what_makes_no_sense_is_said(places: list[str], capsys: Capsys, options: list[str], words: str) -> None:
    with contextlib.suppress(SystemExit):
        assert cli.main(["log", *places, *options]) == 1
    assert words in capsys.readouterr().err


def test_nothing_is_said_to_be_nothing_and_why(places: list[str], capsys: Capsys) -> None:
    assert cli.main(["log", "--client", "nobody", *places]) == 0
    assert capsys.readouterr().out == "nothing\n"
    Path(places[1]).write_text(f"{RULES}trail: none\n")
    assert cli.main(["log", "--client", "nobody", *places]) == 0
    assert "trail: none" in capsys.readouterr().out


def test_hostile_words_are_escaped(places: list[str], capsys: Capsys) -> None:
    with contextlib.closing(SqliteStore(Path(places[3]), trail_of=Trail(TrailSettings()))) as store:
        store.add_counts({}, [TrailEntry(time.time(), "x", "\x1b[31m", "::1", note="a\nb")], now=time.time())
    assert cli.main(["log", "-n", "1", *places]) == 0
    out = capsys.readouterr().out
    assert "\\x1b[31m" in out
    assert out.count("\n") == 1


def test_who_follows_sees_what_comes_and_ends_it_quietly(places: list[str]) -> None:
    argv = [sys.executable, "-m", "gatekeeper", "log", "-n", "1", "--follow", *places]
    pipe = subprocess.PIPE
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "granted" in process.stdout.readline()
            with contextlib.closing(SqliteStore(Path(places[3]), trail_of=Trail(TrailSettings()))) as store:
                store.commit([Revoke(HOME)], now=time.time())
            assert "revoked" in process.stdout.readline()
            os.kill(process.pid, 2)
            assert process.wait(5) == 130
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    "change",
    ["at = 'yesterday'", "at = 1e300", "source = 'here'", "ends_at = x'00'", "client = x'ff'", "reason = x'00'"],
)
def test_a_trail_that_somebody_has_tampered_with_is_said_to_be_damaged_or_shown(
    places: list[str], capsys: Capsys, change: str
) -> None:
    with contextlib.closing(sqlite3.connect(Path(places[3]) / FILE)) as db, db:
        db.execute(f"UPDATE trail SET {change}")  # noqa: S608  (of the table above)
    for options in ([], ["--json"], ["--source", "192.0.2.0/24"]):
        assert cli.main(["log", *options, *places]) == 1
        assert "is damaged" in capsys.readouterr().err
