"""Joins a connected socket to standard input and output, as ssh's ProxyCommand wants it; or hands it over whole."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

_CHUNK = 256 * 1024


def bridge(stream: socket.socket, *, source: int = 0, sink: int = 1) -> None:
    """Copy both ways until the server closes. An end of ``source`` is passed on, and the rest still comes.

    In two threads with blocking calls: they release the interpreter, and it is the same on every system.
    """
    upward = threading.Thread(target=_upward, args=(source, stream), daemon=True)
    upward.start()
    try:
        while chunk := stream.recv(_CHUNK):
            _write(sink, chunk)
    except (ConnectionError, BrokenPipeError):  # cut, or nobody listens to us any more
        return


def hand_over(stream: socket.socket, *, to: int = 1) -> None:
    """Pass the socket itself to who started us (ssh's ProxyUseFdpass): then nothing of us is in between."""
    with socket.socket(fileno=os.dup(to)) as parent:
        socket.send_fds(parent, [b"\0"], [stream.fileno()])


def _upward(source: int, stream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(source, _CHUNK):
            stream.sendall(chunk)
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_WR)


def _write(sink: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(sink, view) :]
