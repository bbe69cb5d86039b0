"""The service behind the door: sends back what it gets, on one thread. `python -m bench.echo PORT`."""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys


def main() -> None:
    """Serve until we are ended."""
    listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=4096)  # noqa: S104  (of a namespace of its own)
    listener.settimeout(0)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    print("up", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                with contextlib.suppress(BlockingIOError):
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(connection, selectors.EVENT_READ)
                continue
            one = key.fileobj
            assert isinstance(one, socket.socket)
            try:
                data = one.recv(65536)
                if data:
                    one.sendall(data)
            except OSError:
                data = b""
            if not data:
                selector.unregister(one)
                one.close()


if __name__ == "__main__":
    main()
