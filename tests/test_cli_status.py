"""``gatekeeper status`` as a command: what it prints where, and what it takes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from gatekeeper import cli, seeing
from gatekeeper.model import Admit, Grant
from gatekeeper.store.sqlite import SqliteStore
from tests.terminal import Terminal

KERNEL = {"ruleset": True, "observes": False, "backend": "ipset", "members": {"ssh": 1}, "dropped": {}}
_PROGRAM = f"""
import sys
from gatekeeper import cli, seeing
seeing.Kernel.look = lambda *_: {KERNEL!r}
if sys.argv.pop(1) == "without":
    sys.modules["rich"] = None
status = cli.main(["status", *sys.argv[1:]])
sys.exit(9 if "rich" in sys.modules and sys.modules["rich"] else status)
"""


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """A rules file and a state directory with a grant, as arguments."""
    (tmp_path / "rules.yaml").write_text("services: {ssh: {port: tcp/22}}\n")
    with contextlib.closing(SqliteStore(tmp_path / "state")) as store:
        now = time.time()
        store.commit([Admit((Grant(ip_network("192.0.2.7"), "ssh", "laptop", now + 3600.4),))], now=now)
    return ["--rules", str(tmp_path / "rules.yaml"), "--state-dir", str(tmp_path / "state")]


def test_it_is_laid_out_where_somebody_looks(places: list[str]) -> None:
    with Terminal([sys.executable, "-c", _PROGRAM, "with", *places]) as terminal:
        assert terminal.ends() == 9, "by rich"
    assert "\x1b[1mSOURCE" in terminal.shown
    assert "192.0.2.7" in terminal.frame


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_a_terminal_that_can_print_lines_only_gets_lines(places: list[str], term: str) -> None:
    with Terminal([sys.executable, "-c", _PROGRAM, "with", *places], TERM=term) as terminal:
        assert terminal.ends() == 0
    assert "\x1b" not in terminal.shown
    assert "192.0.2.7  ssh      laptop" in terminal.shown


def test_an_installation_without_rich_prints_plainly(places: list[str]) -> None:
    with Terminal([sys.executable, "-c", _PROGRAM, "without", *places]) as terminal:
        assert terminal.ends() == 0
    assert "\x1b" not in terminal.shown
    assert "192.0.2.7  ssh      laptop" in terminal.shown


def test_elsewhere_it_is_plain_and_rich_is_not_even_imported(places: list[str]) -> None:
    argv = [sys.executable, "-c", _PROGRAM, "with", *places]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "192.0.2.7  ssh      laptop" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_has_all_that_there_is(
    places: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(seeing.Kernel, "look", lambda *_: dict(KERNEL))
    assert cli.main(["status", *places, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kernel"] == KERNEL
    assert found["refused"] == []
    assert [grant["source"] for grant in found["grants"]] == ["192.0.2.7"]


@pytest.mark.parametrize("seconds", ["0", "0.19", "-1", "nan", "inf", "3601", "soon", ""])
def test_it_looks_neither_too_often_nor_never(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["status", f"--watch={seconds}"])
    assert raised.value.code == 2
    assert "is not a number of seconds from 0.2 to 3600" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["--json", "--all"])
def test_a_live_view_is_neither_json_nor_without_an_end(other: str) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["status", "--watch", other])
    assert raised.value.code == 2


def test_a_live_view_of_nothing_is_an_error_before_the_terminal_is_touched(tmp_path: Path, places: list[str]) -> None:
    argv = [sys.executable, "-m", "gatekeeper", "status", *places[:2], "--state-dir", str(tmp_path / "none"), "--watch"]
    with Terminal(argv) as terminal:
        assert terminal.ends() == 1
    assert terminal.shown.startswith("gatekeeper: error: no store in ")
    assert "\x1b" not in terminal.shown
