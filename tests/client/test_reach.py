"""Connects behind a knock: real sockets on loopback, and ports that answer, refuse, drop, or open late."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from gatekeeper.client import reach
from gatekeeper.client.addresses import Target
from gatekeeper.errors import ClientError, UnreachableError

HERE: Target = (socket.AF_INET, ("127.0.0.1", 0))
THERE: Target = (socket.AF_INET, ("127.0.0.2", 0))
SIX: Target = (socket.AF_INET6, ("::1", 0))


class Knocks:
    """Notes when it was asked to knock, and whether for the first time."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self.first: list[bool] = []
        self.at: list[float] = []

    def __call__(self, is_first: bool) -> None:
        self.first.append(is_first)
        self.at.append(self.now)

    @property
    def now(self) -> float:
        return time.monotonic() - self._begin


@pytest.fixture
def knocks() -> Knocks:
    return Knocks()


@contextlib.contextmanager
def listening(target: Target = HERE, *, port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(target[0]) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((target[1][0], port))
        server.listen()
        yield server


@contextlib.contextmanager
def dropping() -> Iterator[socket.socket]:
    """Listen, but drop what comes, as a closed door does: the queue of connections is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        with socket.create_connection(server.getsockname(), timeout=2):
            yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def closed_port() -> int:
    with listening() as server:
        return port_of(server)


def later(seconds: float, what: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, what)
    timer.start()
    return timer


def test_a_port_that_is_open_is_reached_at_the_first_try(knocks: Knocks) -> None:
    with listening() as server, reach.connect([HERE], port_of(server), knocks) as won:
        assert won.getpeername() == server.getsockname()
        assert won.getblocking()
    assert knocks.first == [True]


def test_over_ipv6_too(knocks: Knocks) -> None:
    with listening(SIX) as server, reach.connect([SIX], port_of(server), knocks) as won:
        assert won.getpeername()[1] == port_of(server)


def test_the_first_knock_goes_before_the_first_connect(knocks: Knocks) -> None:
    """As it must for a door that the knock opens: nothing listens before it."""
    port = closed_port()
    with contextlib.ExitStack() as stack:

        def knock(is_first: bool) -> None:
            knocks(is_first)
            stack.enter_context(listening(port=port))

        reach.connect([HERE], port, knock).close()
    assert knocks.first == [True]


def test_a_port_that_drops_and_opens_later_does_not_wait_for_tcps_second(knocks: Knocks) -> None:
    """A SYN that was dropped is sent again after a second; a fresh socket is there before."""
    with dropping() as server:

        def make_room() -> None:
            server.accept()[0].close()

        timer = later(0.4, make_room)
        reach.connect([HERE], port_of(server), knocks).close()
        took = knocks.now
        timer.join()
    assert 0.4 <= took < 0.95
    assert knocks.first[:2] == [True, False]


def test_a_port_that_refuses_and_opens_a_little_later_is_reached(knocks: Knocks) -> None:
    port = closed_port()
    with contextlib.ExitStack() as stack:
        timer = later(0.25, lambda: stack.enter_context(listening(port=port)))
        reach.connect([HERE], port, knocks).close()
        took = knocks.now
        timer.join()
    assert 0.25 <= took < 0.9


def test_knocks_go_on_with_growing_pauses_until_the_limit(knocks: Knocks) -> None:
    with dropping() as server:
        port = port_of(server)
        with pytest.raises(ClientError) as failure:
            reach.connect([HERE], port, knocks, limit=1.3)
    assert 1.3 <= knocks.now < 2
    assert knocks.first == [True, *[False] * (len(knocks.first) - 1)]
    pauses = [after - before for before, after in pairwise(knocks.at)]
    least = [0.15, 0.15, 0.3, 0.6]
    assert len(least) - 1 <= len(pauses) <= len(least)
    assert all(pause > expected - 0.01 for pause, expected in zip(pauses, least, strict=False))
    assert failure.value.message == f"no answer from tcp/{port} of 127.0.0.1 within 1.3 s, for all the knocks"
    assert failure.value.hint is not None
    assert f"is this clock right ({time.strftime('%Y-%m-%d', time.gmtime())}" in failure.value.hint


def test_ports_that_refuse_everywhere_are_told_at_once(knocks: Knocks) -> None:
    port = closed_port()
    with pytest.raises(ClientError) as failure:
        reach.connect([HERE, SIX], port, knocks)
    assert knocks.now < 1
    assert knocks.first[0]
    assert not any(knocks.first[1:])
    message = f"cannot connect to tcp/{port}: 127.0.0.1: connection refused; ::1: connection refused"
    assert failure.value.message == message
    assert failure.value.hint is not None
    assert "nothing listens there" in failure.value.hint


def test_an_address_that_refuses_does_not_stop_the_next(knocks: Knocks) -> None:
    with listening() as server, reach.connect([SIX, HERE], port_of(server), knocks) as won:
        assert won.getpeername()[0] == "127.0.0.1"
    assert knocks.now < 0.5


def test_an_address_that_drops_gives_way_to_the_next_at_the_second_try(knocks: Knocks) -> None:
    with dropping() as silent, listening(THERE, port=port_of(silent)) as server:
        with reach.connect([HERE, THERE], port_of(silent), knocks) as won:
            assert won.getpeername() == server.getsockname()
        assert knocks.first == [True, False]
        server.accept()[0].close()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # and it saw one connection only
            server.accept()
    assert 0.15 <= knocks.now < 0.5


def test_an_address_of_no_use_is_told_like_a_refusal(knocks: Knocks) -> None:
    broadcast: Target = (socket.AF_INET, ("255.255.255.255", 0))
    with pytest.raises(ClientError, match=r"255\.255\.255\.255: (network is unreachable|permission denied)"):
        reach.connect([broadcast], 22, knocks)


def test_a_knock_that_fails_does_not_stop_a_connect_that_needs_none() -> None:
    """A network that is not there yet, say; or the next knock gets through."""

    def knock(_: bool) -> None:
        raise UnreachableError("the knock could not be sent")

    with listening() as server:
        reach.connect([HERE], port_of(server), knock).close()


def test_where_nothing_works_it_is_the_knock_that_is_told() -> None:
    def knock(_: bool) -> None:
        raise UnreachableError("the knock could not be sent")

    with pytest.raises(ClientError, match="the knock could not be sent"):
        reach.connect([HERE], closed_port(), knock)


def test_what_trying_again_would_not_mend_is_told_at_once() -> None:
    """A clock that was never set, say."""

    def knock(_: bool) -> None:
        raise ClientError("this machine's clock says 1970-01-01")

    begin = time.monotonic()
    with pytest.raises(ClientError, match="1970"):
        reach.connect([HERE], closed_port(), knock)
    assert time.monotonic() - begin < 0.1


def test_the_connection_is_set_up_as_ssh_does_its_own() -> None:
    """No byte waits for others, and a peer that has gone is noticed: ssh cannot do it where we hold the socket."""
    with listening() as server, reach.connect([HERE], port_of(server), lambda _: None) as stream:
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert stream.getblocking()


def test_who_waits_for_a_port_waits_for_one_that_refuses_too() -> None:
    begin = time.monotonic()
    with pytest.raises(ClientError, match="connection refused"):
        reach.connect([HERE], closed_port(), lambda _: None, limit=1.2, is_patient=True)
    assert time.monotonic() - begin > 1.1
