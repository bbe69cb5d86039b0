"""Who connects is bounded: in number, in time, in what it says."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from gatekeeper.metrics import counter as room
from gatekeeper.metrics.counter import PLACES, Counter

GET = b"GET /metrics HTTP/1.1\r\n\r\n"


class House:
    """A counter, and who runs it; it answers with how often it was asked, if it does."""

    def __init__(self, *, answers: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.selector = selectors.DefaultSelector()
        self.asked = 0
        self._answers = answers
        self.counter = Counter(self.listener, self.selector, self.ask)
        self._stack = contextlib.ExitStack()

    def ask(self) -> None:
        self.asked += 1

    def connect(self, *said: bytes) -> socket.socket:
        stream = self._stack.enter_context(socket.create_connection(self.listener.getsockname()))
        stream.settimeout(0)
        for words in said:
            stream.sendall(words)
        return stream

    def work(self, until: Callable[[], bool] = lambda: False, *, seconds: float = 0.1) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            patience = self.counter.patience()
            assert patience is None or patience >= 0
            for key, events in self.selector.select(0.01):
                assert isinstance(key.fileobj, socket.socket)
                self.counter.take(key.fileobj, events)
            self.counter.look()
            if self.asked and self._answers:
                self.counter.tell(b"asked %d\n" % self.asked)

    def answer(self, stream: socket.socket, *, seconds: float = 2.0) -> bytes | None:
        """Return all that it is told; ``None`` while its connection is open and it has heard nothing."""
        heard: list[bytes] = []
        is_over = False

        def listen() -> bool:
            nonlocal is_over
            try:
                data = stream.recv(65536)
                heard.append(data)
                is_over = not data
            except BlockingIOError:
                pass
            except OSError:
                is_over = True
            return is_over

        self.work(listen, seconds=seconds)
        return b"".join(heard) if is_over else None

    def close(self) -> None:
        self._stack.close()
        for key in list(self.selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self.selector.close()


@pytest.fixture
def house() -> Iterator[House]:
    with contextlib.closing(House(answers=True)) as one:
        yield one


@pytest.fixture
def silent() -> Iterator[House]:
    """Nobody has figures."""
    with contextlib.closing(House(answers=False)) as one:
        yield one


def test_who_asks_is_told_the_figures(house: House) -> None:
    answer = house.answer(house.connect(GET))
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nasked 1\n")


def test_a_request_may_come_byte_by_byte(house: House) -> None:
    stream = house.connect()
    for at in range(len(GET)):
        stream.send(GET[at : at + 1])
        house.work(seconds=0.001)
    assert (house.answer(stream) or b"").startswith(b"HTTP/1.1 200")


def test_anything_else_is_refused_without_a_look_at_the_figures(house: House) -> None:
    for words, status in ((b"GET / HTTP/1.1\r\n\r\n", b"404"), (b"x\r\n\r\n", b"400"), (b"y" * 9000, b"400")):
        assert status in (house.answer(house.connect(words)) or status)
    assert house.asked == 0


def test_many_who_ask_at_once_cost_one_look(house: House) -> None:
    streams = [house.connect(GET) for _ in range(PLACES)]
    assert all(b"200 OK" in (house.answer(one) or b"") for one in streams)
    assert house.asked == 1


def test_who_says_nothing_keeps_no_place(house: House) -> None:
    """Slowloris, with more connections than there are places."""
    idle = [house.connect(b"GET /met") for _ in range(PLACES * 3)]
    house.work(seconds=0.2)
    assert (house.answer(house.connect(GET)) or b"").startswith(b"HTTP/1.1 200")
    assert len(house.selector.get_map()) <= PLACES + 1
    assert house.answer(idle[0]) == b""


def test_who_is_slow_is_shown_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_STAY", 0.1)
    slow = house.connect(b"GET /metrics")
    assert house.answer(slow) == b""
    assert house.counter.patience() is None


def test_without_figures_the_answer_is_that_there_are_none(silent: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_WAIT", 0.1)
    assert (silent.answer(silent.connect(GET)) or b"").startswith(b"HTTP/1.1 503")


def test_who_left_before_the_answer_does_not_keep_others_from_asking(
    silent: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the meter dies while Prometheus waits, which then gives up before we do."""
    monkeypatch.setattr(room, "_FRESH", 0.05)
    silent.connect(GET).close()
    silent.work()
    assert silent.counter.patience() is None
    silent.connect(GET)
    silent.work()
    assert silent.asked == 2


def test_who_goes_in_the_midst_of_an_answer_is_no_failure(house: House) -> None:
    for _ in range(20):
        stream = house.connect(GET)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.close()
        house.work(seconds=0.01)
    assert (house.answer(house.connect(GET)) or b"").startswith(b"HTTP/1.1 200")
