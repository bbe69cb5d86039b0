"""Tells systemd how the service is (sd_notify(3)): ready, alive, about to end. Silent where nobody listens.

The protocol is a datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names, and no more than that, so
there is no library here (docs/architecture.md, "Dependencies"). It knows nothing of what the service does.

Made once, by the process that systemd started; its children may use it too (the unit has ``NotifyAccess=all``).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

_PATIENCE = 1.0
"""Seconds that a message may wait for room. Nothing here may hold up the door for long."""
_SHARE = 3
"""Signs of life in the time that systemd waits for one: two may come late, or get lost."""
_LONGEST = 200
"""Characters of a status: it is one line, for people."""


class Notifier:
    """The line to systemd. Every method returns, whether or not it could be told."""

    def __init__(self, address: str | None = None, *, watchdog: float | None = None) -> None:
        """``address`` as in ``NOTIFY_SOCKET``; ``watchdog``: seconds after which systemd ends whoever is silent."""
        self.interval = None if watchdog is None else watchdog / _SHARE
        """Seconds between two ``beat``; ``None``: nobody waits for one."""
        self._address: bytes | None = None
        if address is None or not address.startswith(("/", "@")):  # systemd has other kinds, for virtual machines
            return
        name = os.fsencode(address)
        self._address = b"\0" + name[1:] if name.startswith(b"@") else name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_PATIENCE)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str], *, pid: int) -> Notifier:
        """Read, and take out, what systemd has put there: the tools that are run need not know.

        ``pid`` is our process number: the watchdog may be meant for another process (sd_watchdog_enabled(3)).
        """
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        whose = environment.pop("WATCHDOG_PID", str(pid))
        is_ours = microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0 and whose == str(pid)
        return cls(address, watchdog=int(microseconds) / 1e6 if is_ours else None)

    @property
    def is_heard(self) -> bool:
        """Whether there is somebody to tell."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """The ports are guarded; ``status`` is shown by ``systemctl status``."""
        self._tell("READY=1", _status(status))

    def status(self, status: str) -> None:
        """Change what is shown."""
        self._tell(_status(status))

    def beat(self) -> None:
        """We are alive: say so each ``interval`` seconds."""
        self._tell("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """We are about to end, and mean to."""
        self._tell("STOPPING=1", _status(status))

    def _tell(self, *lines: str) -> None:
        if self._address is not None:
            with contextlib.suppress(OSError):  # systemd notices silence, and guarding matters more than telling
                self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)

    def close(self) -> None:
        """Let go of the socket."""
        if self._address is not None:
            self._address = None
            self._socket.close()


def _status(words: str) -> str:
    return "STATUS=" + " ".join(words.split())[:_LONGEST]
