"""The time that a knock bears: never the same twice for one key, also when the clock is set back."""

from __future__ import annotations

import os
import time

from gatekeeper.client import folders
from gatekeeper.errors import ClientError
from gatekeeper.sealed import wire

_EARLIEST = 1_767_225_600
"""2026-01-01: a clock that says less was never set."""
_DIGITS = 20


def take(public: bytes) -> tuple[int, str | None]:
    """Return the time for a knock of a key, in Unix nanoseconds, and a warning if something is odd.

    Raises:
        ClientError: this machine's clock was never set.
    """
    now = time.time_ns()
    if now < _EARLIEST * 10**9:
        words = f"this machine's clock says {time.strftime('%Y-%m-%d', time.gmtime(now / 1e9))}"
        raise ClientError(words, "set it (date, timedatectl): a server accepts knocks of the last two minutes only")
    try:
        path = folders.state("sent", public[:8].hex())
        folders.make_for(path)
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except (OSError, ClientError) as error:  # a read-only home: good as long as the clock is
        return now, _not_kept(error)
    stamp = now
    try:
        _lock(fd)
        text = os.read(fd, _DIGITS)
        last = int(text) if text.isdigit() else 0
        warning = None
        if last > now + wire.SKEW * 10**9:  # no server takes a time that far ahead: begin anew
            ahead = round((last - now) / 1e9)
            warning = f"the last knock from here was sent {ahead}s ahead of what this machine's clock says now"
            last = 0
        stamp = max(now, last + 1)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, str(stamp).zfill(_DIGITS).encode())
    except OSError as error:  # a full disk
        return stamp, _not_kept(error)
    finally:
        os.close(fd)  # and with it the lock
    return stamp, warning


def _not_kept(error: Exception) -> str:
    return f"the time of this knock cannot be kept: {getattr(error, 'strerror', None) or error}"


def _lock(fd: int) -> None:
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # Windows: two knocks in the same 100 ns, after the clock was set back, would be one
        return
    fcntl.flock(fd, fcntl.LOCK_EX)
