"""A real TCP service to guard: it greets, and sends back what it gets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from gatekeeper.demo.network import inside

GREETING = b"welcome\n"


@contextlib.contextmanager
def tcp_echo(namespace: str, port: int) -> Iterator[None]:
    """Serve IPv4 and IPv6 in a namespace while the context lasts."""
    with inside(namespace):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
    connections: set[socket.socket] = set()
    acceptor = threading.Thread(target=_accept, args=(listener, connections), daemon=True)
    acceptor.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(2)
        for one in list(connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, connections: set[socket.socket]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connections.add(connection)
        threading.Thread(target=_echo, args=(connection, connections), daemon=True).start()


def _echo(connection: socket.socket, connections: set[socket.socket]) -> None:
    with connection, contextlib.suppress(OSError):
        connection.sendall(GREETING)
        while data := connection.recv(65536):
            connection.sendall(data)
    connections.discard(connection)
