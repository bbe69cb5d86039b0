"""A live view: keys, signals and sizes; and that the terminal is afterwards as it was."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator

import pytest

from tests.terminal import Terminal

_PROGRAM = """
import sys
from rich.console import Console
from rich.text import Text
from gatekeeper import screen
number = 0
def draw(width, height, is_new):
    global number
    number += is_new
    return Text(f"look {number} at {width}x{height}.")
sys.exit(screen.show(Console(), draw, float(sys.argv[1])))
"""
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def start(every: float) -> Terminal:
    return Terminal([sys.executable, "-c", _PROGRAM, str(every)])


@pytest.fixture
def quick() -> Iterator[Terminal]:
    with start(0.1) as terminal:
        yield terminal


@pytest.fixture
def slow() -> Iterator[Terminal]:
    """Draw once in a minute, unless something happens."""
    with start(60) as terminal:
        yield terminal


def test_it_is_drawn_again_and_again(quick: Terminal) -> None:
    quick.wait_for("look 1 at 80x24.")
    assert quick.shown.startswith(ENTER)
    assert not quick.is_as_before
    quick.wait_for("look 3 at 80x24.")


@pytest.mark.parametrize("keys", [b"q", b"Q", b"\x03", b"\x04", b"abcq", b"\x1b[Aq"])
def test_a_key_ends_it_at_once_and_the_terminal_is_as_before(slow: Terminal, keys: bytes) -> None:
    slow.wait_for("look 1 ")
    slow.press(keys)
    assert slow.ends(seconds=3) == 0
    assert slow.is_as_before
    assert slow.shown.endswith(LEAVE)
    assert "Traceback" not in slow.shown


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_the_terminal_is_as_before(slow: Terminal, number: signal.Signals, status: int) -> None:
    slow.wait_for("look 1 ")
    slow.process.send_signal(number)
    assert slow.ends(seconds=3) == status
    assert slow.is_as_before
    assert slow.shown.endswith(LEAVE)


def test_another_size_is_drawn_at_once_without_a_new_look(slow: Terminal) -> None:
    slow.wait_for("look 1 at 80x24.")
    slow.resize(132, 50)
    slow.wait_for("look 1 at 132x50.")
    slow.resize(1, 1)
    slow.read(0.3)
    slow.press(b"q")
    assert slow.ends(seconds=3) == 0


def test_other_keys_do_nothing_and_are_not_shown(slow: Terminal) -> None:
    slow.wait_for("look 1 ")
    slow.press(b"xyzzy\r\x1b[B" * 100)
    assert "xyzzy" not in slow.read(0.4)
    assert slow.process.poll() is None


def test_it_stops_and_goes_on_with_the_shell_having_its_terminal_between(quick: Terminal) -> None:
    quick.wait_for("look 1 ")
    quick.press(b"\x1a")
    deadline = time.monotonic() + 5
    while _state(quick.process.pid) != "T":
        assert time.monotonic() < deadline
        quick.read(0.05)
    assert quick.is_as_before
    assert quick.read(0.1).endswith(LEAVE)
    quick.process.send_signal(signal.SIGCONT)
    before = quick.shown.count(ENTER)
    deadline = time.monotonic() + 5
    while quick.shown.count(ENTER) == before:
        assert time.monotonic() < deadline
        quick.read(0.05)
    quick.press(b"q")
    assert quick.ends() == 0
    assert quick.is_as_before


def test_without_a_keyboard_it_shows_all_the_same_until_a_signal() -> None:
    with Terminal([sys.executable, "-c", _PROGRAM, "0.1"], has_keyboard=False) as terminal:
        terminal.wait_for("look 3 ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ends() == 0
        assert terminal.shown.endswith(LEAVE)


def test_it_ends_when_its_terminal_is_gone(quick: Terminal) -> None:
    quick.wait_for("look 2 ")
    quick.unplug()
    assert quick.process.wait(timeout=5) != 0


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0]
