"""One process that the supervisor forked: begun, spoken to, ended."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from gatekeeper import logs
from gatekeeper.errors import GatekeeperError
from gatekeeper.processes.link import LinkError, pair

READY, ALIVE, STOP, LINK, GO, REPAIRED, NOTED = b"ready", b"alive", b"stop", b"link", b"go", b"repaired ", b"noted "
LIFE_EVERY = 4.0
"""Seconds between two signs of life."""
_FAILED = b"failed "
_BUG = 3
_SET_PDEATHSIG = 1  # linux/prctl.h
_AT_ONCE = 64
"""Words of a child that are listened to before the supervisor looks around again."""


class Control:
    """A child's end of the wire to the supervisor."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        end.settimeout(0)
        self._shown = 0.0

    def say(self, words: bytes) -> None:
        """Say something; the supervisor's absence is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self.socket.send(words)

    def show_life(self) -> None:
        """Say that we live, if it is time for that."""
        now = time.monotonic()
        if now - self._shown > LIFE_EVERY:
            self._shown = now
            self.say(ALIVE)

    def hear(self) -> tuple[bytes, list[int]]:
        """Return what the supervisor says, with descriptors; nothing at all (``b""``) if it is gone.

        Raises:
            BlockingIOError: it says nothing now.
        """
        try:
            words, descriptors, _, _ = socket.recv_fds(self.socket, 256, 1)
        except BlockingIOError:
            raise
        except OSError:
            return b"", []
        return words, descriptors


Main = Callable[[Control], None]
"""What a child does."""


class Child:
    """A child, from the fork on."""

    def __init__(self, name: str, main: Main, *, log_format: str) -> None:
        """Fork it. ``main`` runs in the child alone.

        Raises:
            OSError: there is no memory, or no number, for another process.
        """
        self.name = name
        self.is_ready = False
        self.note = ""
        """What it said when it was ready."""
        self.error: GatekeeperError | None = None
        """Why it could not go on, if it said so."""
        self.begun = self.seen = time.monotonic()
        """When it was forked, and last heard of."""
        self.was_killed = False
        """Whether we have killed it, for it hangs."""
        self.control, theirs = pair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self.control.close()  # or it would never see the supervisor gone
            _die_with(parent)
            os._exit(_be(name, main, Control(theirs), log_format))
        theirs.close()
        self.control.settimeout(0)

    def listen(self) -> list[bytes]:
        """Take what it says; return what is for somebody else."""
        passed_on: list[bytes] = []
        for _ in range(_AT_ONCE):  # one that never stops talking must not have the supervisor to itself
            try:
                words = self.control.recv(65536)
            except OSError:
                break
            if not words:
                break
            self.seen = time.monotonic()
            if words.startswith(READY):
                self.is_ready, self.note = True, words.removeprefix(READY).decode(errors="backslashreplace")
            elif words.startswith(_FAILED):
                self.error = _read_error(words.removeprefix(_FAILED))
            elif words.startswith(REPAIRED):
                passed_on.append(words)
        return passed_on

    def send(self, words: bytes, *descriptors: int) -> bool:
        """Say something to it; return whether it could be said. If it is gone, that will be seen."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.control, [words], list(descriptors))
            return True
        return False

    def stop(self) -> None:
        """Ask it to end."""
        self.send(STOP)
        self.kill(signal.SIGTERM)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal. It is our child and not waited for, so its number is nobody else's."""
        os.kill(self.pid, number)

    def ended(self) -> int | None:
        """Return its exit status (below 0: by which signal), or ``None`` while it lives. Ask no more after that."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.listen()
        self.control.close()
        return os.waitstatus_to_exitcode(status)


def _die_with(parent: int) -> None:
    """Have the kernel kill us when the supervisor is gone (prctl(2)), for whoever has killed it means all of us."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _read_error(words: bytes) -> GatekeeperError:
    """Read why a child could not go on. A worker may have been taken over: what it says must not end the supervisor."""
    try:
        message, hint = json.loads(words)
    except (ValueError, TypeError, RecursionError):
        return GatekeeperError("what it said makes no sense")
    return GatekeeperError(str(message), None if hint is None else str(hint))


def _be(name: str, main: Main, control: Control, log_format: str) -> int:
    """Be the child; return the exit status."""
    status = _BUG
    try:
        for number in (signal.SIGINT, signal.SIGHUP):  # for the supervisor, which tells us
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        Path("/proc/self/comm").write_text(f"gk-{name}")
        log = logs.start_logging(log_format)
        try:
            main(control)
            status = 0
        except LinkError:  # whom we work for is gone
            status = 1
        except GatekeeperError as error:
            control.say(_FAILED + json.dumps([error.message, error.hint]).encode())
            status = 1
        except Exception:
            logging.getLogger("gatekeeper").exception("the %s failed", name)
        finally:
            log.stop()
    except BaseException:  # noqa: BLE001  (nothing of the supervisor's must run here)
        status = _BUG
    return status
