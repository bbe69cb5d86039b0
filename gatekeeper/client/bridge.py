"""Joins a connected socket to standard input and output, as ssh's ProxyCommand wants it; or hands it over whole."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading

from gatekeeper.errors import ClientError

_CHUNK = 256 * 1024
_LOST = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})


def bridge(stream: socket.socket, *, source: int = 0, sink: int = 1) -> None:
    """Copy both ways until the server closes. An end of ``source`` is passed on, and the rest still comes.

    In two threads with blocking calls: they release the interpreter, and it is the same on every system.

    Raises:
        ClientError: the network lost the connection.
    """
    for fd in (source, sink):
        with contextlib.suppress(OSError):  # whoever started us may have left them otherwise
            os.set_blocking(fd, True)
    upward = threading.Thread(target=_upward, args=(source, stream), daemon=True)
    upward.start()
    try:
        chunk = memoryview(bytearray(_CHUNK))
        while size := stream.recv_into(chunk):
            _write(sink, chunk[:size])
    except ConnectionError:  # cut, or nobody listens to us any more
        return
    except OSError as error:
        if error.errno in _LOST:
            raise ClientError(f"the connection was lost: {error.strerror}") from error
        raise


def hand_over(stream: socket.socket, *, to: int = 1) -> None:
    """Pass the socket itself to who started us (ssh's ProxyUseFdpass): then nothing of us is in between.

    Raises:
        ClientError: ``to`` is no socket that takes it.
    """
    try:
        with socket.fromfd(to, socket.AF_UNIX, socket.SOCK_STREAM) as parent:
            socket.send_fds(parent, [b"\0"], [stream.fileno()])
    except OSError as error:
        hint = "--fdpass is for ssh with `ProxyUseFdpass yes`; leave both out, or set both"
        raise ClientError(f"cannot hand over the connection: {error.strerror}", hint) from error


def _upward(source: int, stream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(source, _CHUNK):
            stream.sendall(chunk)
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_WR)


def _write(sink: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(sink, chunk) :]
