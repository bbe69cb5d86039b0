"""The bar: on a terminal, while something takes more than a moment; and nowhere else."""

from __future__ import annotations

import builtins
import io
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gatekeeper import progress


class Terminal(io.StringIO):
    """Standard error as a terminal, as far as anybody asks."""

    def isatty(self) -> bool:
        return True


def work(clock: Sequence[float], monkeypatch: pytest.MonkeyPatch, term: str = "xterm") -> str:
    """Do a work that is done evenly, in steps that end at these times; return what a terminal was sent."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", term)
    times = iter([0.0, *clock])
    monkeypatch.setattr(progress, "monotonic", lambda: next(times))
    with progress.shown("reading rules.yaml") as tell:
        for number in range(len(clock)):
            tell((number + 1) / len(clock))
    return terminal.getvalue()


def test_a_long_work_has_a_bar_which_goes_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    said = work([0.5, 1.0, 1.05, 1.5, 2.0], monkeypatch)
    assert "reading rules.yaml" in said
    assert "40%" in said
    assert "60%" not in said, "it is drawn ten times a second at most"
    assert "80%" in said
    assert said.endswith("\x1b[2K"), "the line is cleared"


@pytest.mark.parametrize("clock", [[0.1, 0.2, 0.7], [0.3, 0.6, 0.85]], ids=["at once", "nearly done when it is due"])
def test_a_short_work_has_none(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    assert work(clock, monkeypatch) == ""


def test_a_dumb_terminal_is_sent_nothing_not_even_an_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert work([1.0, 2.0, 3.0], monkeypatch, term="dumb") == ""


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.shown("reading") as tell:
            tell(0.5)
        assert stream is None or stream.getvalue() == ""


def test_an_installation_for_clients_has_no_bar_and_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_rich(name: str, *others: object) -> object:
        if name.startswith("rich"):
            raise ModuleNotFoundError(name)
        return real(name, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert work([1.0, 2.0, 3.0], monkeypatch) == ""


def test_a_bar_costs_nothing_where_none_is_due(tmp_path: Path) -> None:
    """On a terminal too: the library is not even imported."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("services: {ssh: {port: tcp/22}}\n")
    code = (
        "import sys; from gatekeeper import cli; status = cli.main(['check', '--rules', sys.argv[1]]);"
        "sys.exit(9 if 'rich' in sys.modules else status)"
    )
    ours, its = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", code, str(rules)], stdout=its, stderr=its, check=False)
        assert done.returncode == 0
    finally:
        os.close(ours)
        os.close(its)
