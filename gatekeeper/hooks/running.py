"""One hook that runs: begun, listened to, ended in time with all that it has started. Never through a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection

from gatekeeper.hooks import rights
from gatekeeper.hooks.telling import Event

_KEPT = 4096
"""Bytes of what it says that are kept."""
_AT_ONCE = 1 << 16
"""Bytes that are read before others have their turn."""


class Running:
    """A program, from its start to its end."""

    def __init__(self, event: Event) -> None:
        """Start it.

        Raises:
            OSError: it is not there, or cannot be executed.
            ValueError, subprocess.SubprocessError: it cannot be started for another reason.
        """
        self.event = event
        self.deadline = time.monotonic() + event.limit
        self.is_late = False
        self._said = bytearray()
        self._process = subprocess.Popen(
            event.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=event.environment,
            umask=0o077,
            start_new_session=True,  # a group of its own, by which all of it can be ended
            # There is another thread, which writes log lines; one call of the kernel's is none of its affair.
            preexec_fn=rights.end_with_parent,  # noqa: PLW1509
        )
        assert self._process.stdout is not None  # noqa: S101  (for the type checker: it is a pipe)
        self._pipe = self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self.talks = True
        """Whether it may say more."""

    def fileno(self) -> int:
        """Return the descriptor by which it is heard, for selectors."""
        return self._pipe.fileno()

    def listen(self) -> None:
        """Take what it says; keep the beginning."""
        for _ in range(_AT_ONCE // _KEPT):
            try:
                data = os.read(self.fileno(), _KEPT)
            except OSError:  # nothing more now
                return
            if not data:
                self.talks = False
                return
            self._said += data[: _KEPT - len(self._said)]

    @property
    def said(self) -> list[str]:
        """What it has said, in lines."""
        text = self._said.decode(errors="backslashreplace")
        return [line for line in text.splitlines() if line.strip()]

    def look(self) -> bool:
        """Kill it when its time is up; return whether it has ended."""
        if time.monotonic() > self.deadline and not self.is_late:
            self.is_late = True
            self.kill()
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def kill(self) -> None:
        """End it, and all that it has started and is still in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def finish(self) -> str | None:
        """Clear up behind one that has ended; return what went wrong, if anything did.

        What it has left running in its group ends with it. It is not waited for before that: until then its number is
        nobody else's.
        """
        self.kill()
        self.listen()
        self._pipe.close()
        status = self._process.wait()
        if self.is_late:
            return f"it took longer than {self.event.limit} s, and was killed"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}" if status else None


def bury_orphans(running: Collection[Running]) -> None:
    """Clear up behind those that hooks have left, and that have ended."""
    ours = {one.pid for one in running}
    with contextlib.suppress(ChildProcessError):  # there are no children at all
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and dead.si_pid not in ours:
            os.waitpid(dead.si_pid, 0)
