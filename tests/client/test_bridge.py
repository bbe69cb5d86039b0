"""The bridge between a socket and standard input and output: every byte arrives, and every end is passed on."""

from __future__ import annotations

import array
import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from gatekeeper.client import bridge
from gatekeeper.errors import ClientError

MUCH = random.Random(1).randbytes(3 * 1024 * 1024 + 1)
CODE = "import socket, sys; from gatekeeper.client import bridge; bridge.bridge(socket.socket(fileno=int(sys.argv[1])))"


class Bridge:
    """A process that bridges, and the server's end of its socket."""

    def __init__(self, process: subprocess.Popen[bytes], server: socket.socket) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.server = process, server
        self.stdin, self.stdout = process.stdin, process.stdout

    def received(self) -> bytes:
        """Read at the server, until the client's end."""
        return b"".join(iter(lambda: self.server.recv(1 << 16), b""))


@pytest.fixture
def bridged() -> Iterator[Bridge]:
    server, client = socket.socketpair()
    server.settimeout(20)
    argv = [sys.executable, "-c", CODE, str(client.fileno())]
    with server:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[client.fileno()], bufsize=0
        )
        client.close()
        with process:
            try:
                yield Bridge(process, server)
            finally:
                process.kill()


def test_much_goes_both_ways_at_once_and_nothing_is_lost(bridged: Bridge) -> None:
    sent_back = MUCH[::-1]

    def serve() -> None:
        bridged.server.sendall(sent_back)
        bridged.server.shutdown(socket.SHUT_WR)

    def write() -> None:
        left = memoryview(MUCH)
        while left:
            left = left[bridged.stdin.write(left) :]
        bridged.stdin.close()

    received: list[bytes] = []
    threads = [threading.Thread(target=write), threading.Thread(target=lambda: received.append(bridged.received()))]
    for thread in threads:
        thread.start()
    sender = threading.Thread(target=serve)
    threads[0].join(20)  # what goes up does not wait for what comes down
    threads[1].join(20)
    sender.start()
    assert received == [MUCH]
    assert b"".join(iter(lambda: bridged.stdout.read(1 << 16), b"")) == sent_back
    sender.join(20)
    assert bridged.process.wait(20) == 0


def test_both_directions_flow_while_the_other_one_does(bridged: Bridge) -> None:
    """An echo: what comes back is read only while more is written."""

    def echo() -> None:
        while chunk := bridged.server.recv(1 << 16):
            bridged.server.sendall(chunk)
        bridged.server.shutdown(socket.SHUT_WR)

    def write() -> None:
        left = memoryview(MUCH)
        while left:
            left = left[bridged.stdin.write(left) :]
        bridged.stdin.close()

    threads = [threading.Thread(target=echo), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    assert b"".join(iter(lambda: bridged.stdout.read(1 << 16), b"")) == MUCH
    for thread in threads:
        thread.join(20)
    assert bridged.process.wait(20) == 0


def test_the_end_of_standard_input_is_passed_on_and_the_rest_still_comes(bridged: Bridge) -> None:
    bridged.stdin.write(b"a question")
    bridged.stdin.close()
    assert bridged.received() == b"a question"
    assert bridged.process.poll() is None
    bridged.server.sendall(b"a long")
    assert bridged.stdout.read(100) == b"a long"
    bridged.server.sendall(b" answer")
    bridged.server.close()
    assert bridged.stdout.read(100) == b" answer"
    assert bridged.stdout.read(100) == b""
    assert bridged.process.wait(20) == 0


def test_the_servers_end_ends_it_while_standard_input_stays_open(bridged: Bridge) -> None:
    bridged.server.sendall(b"goodbye")
    bridged.server.close()
    assert bridged.stdout.read(100) == b"goodbye"
    assert bridged.stdout.read(100) == b""
    assert bridged.process.wait(20) == 0


def test_a_reader_that_went_away_ends_it_without_a_word(bridged: Bridge) -> None:
    bridged.stdout.close()
    with contextlib.suppress(ConnectionError):
        while bridged.process.poll() is None:
            bridged.server.sendall(b"x" * 1000)
    assert bridged.process.wait(20) == 0


def test_a_connection_that_is_cut_ends_it_without_a_word() -> None:
    """As a close does: the peer gets a reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    source, sink = os.pipe(), os.pipe()
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, array.array("i", [1, 0]))
        server.close()
        bridge.bridge(client, source=source[0], sink=sink[1])
    finally:
        os.close(source[1])
        client.close()
        for fd in (source[0], *sink):
            os.close(fd)


class Lost(socket.socket):
    """A socket of a connection that nobody has answered for a long time: loopback loses nothing."""

    def recv_into(self, *_: object) -> int:
        raise TimeoutError(110, "Connection timed out")


def test_a_connection_that_was_lost_is_an_error_and_no_bug() -> None:
    source, sink = os.pipe(), os.pipe()
    with Lost() as stream, pytest.raises(ClientError, match="the connection was lost: Connection timed out"):
        bridge.bridge(stream, source=source[0], sink=sink[1])
    for fd in (source[1], source[0], *sink):
        os.close(fd)


# -- handing over


def test_a_socket_that_is_handed_over_works() -> None:
    server, client = socket.socketpair()
    ssh, ours = socket.socketpair()
    with server, ssh, ours:
        with client:
            bridge.hand_over(client, to=ours.fileno())
        _, (fd,), _, _ = socket.recv_fds(ssh, 1, 1)
        assert ours.fileno() != -1
        with socket.socket(fileno=fd) as got:
            got.sendall(b"ping")
            assert server.recv(10) == b"ping"
            server.sendall(b"pong")
            assert got.recv(10) == b"pong"
        assert server.recv(10) == b""  # no copy is left with us


def test_there_must_be_somebody_to_hand_it_over_to() -> None:
    server, client = socket.socketpair()
    ends = os.pipe()
    with server, client, pytest.raises(ClientError, match="cannot hand over") as failure:
        bridge.hand_over(client, to=ends[1])
    assert failure.value.hint is not None
    assert "ProxyUseFdpass" in failure.value.hint
    for fd in ends:
        os.close(fd)
