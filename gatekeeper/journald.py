"""journald's own protocol: a datagram for each line, with fields that journalctl can look for.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL, and systemd.exec(5) for JOURNAL_STREAM. A line that a program writes to
its standard error reaches the journal too, but as a text without fields.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
_LONGEST = 16_384
"""Bytes of a value; of more it is the beginning that counts."""
_PATIENCE = struct.pack("@ll", 0, 300_000)
"""Seconds and microseconds (struct timeval) that a journal which does not read is waited for."""


def reads(descriptor: int) -> bool:
    """Whether what is written to this descriptor goes to the journal."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Journal:
    """A way to the journal, opened before a process gives up the right to open one."""

    def __init__(self) -> None:
        """Find it.

        Raises:
            OSError: it is not there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
            self._socket.connect(SOCKET)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def send(self, fields: Mapping[str, str]) -> None:
        """Hand over a line.

        Raises:
            OSError: nobody takes it.
        """
        self._socket.send(encode(fields))


def encode(fields: Mapping[str, str]) -> bytes:
    """Write fields as the journal reads them; names are capitals, digits and underscores."""
    parts = []
    for name, value in fields.items():
        data = value.encode(errors="backslashreplace")[:_LONGEST]
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (name.encode("ascii"), struct.pack("<Q", len(data)), data))
        else:
            parts.append(b"%s=%s\n" % (name.encode("ascii"), data))
    return b"".join(parts)
