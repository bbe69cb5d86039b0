"""``gatekeeper run`` as a process in the server's namespace, for the demo and the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gatekeeper.demo.network import mortal_argv, netns_argv
from gatekeeper.errors import GatekeeperError

_PATIENCE = 20.0


class Gatekeeper:
    """A running ``gatekeeper run``; ready when the constructor returns."""

    def __init__(
        self, namespace: str, rules: Path, state_dir: Path, *options: str, program: Sequence[str] = ()
    ) -> None:
        """Start it (or another ``program`` in its place) and wait for the line that ends in ``ready``.

        Raises:
            GatekeeperError: it ended, or did not get ready; the message has its log.
        """
        self.lines: list[str] = []
        self._ready = threading.Event()
        arguments = ["run", "--rules", str(rules), "--state-dir", str(state_dir), *options]
        argv = [*program, *arguments] if program else gatekeeper_argv(*arguments)
        self.process = subprocess.Popen(
            mortal_argv(*netns_argv(namespace, *argv)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C is for whoever started us, and stops us
            env={name: value for name, value in os.environ.items() if not name.startswith("GATEKEEPER_")},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + _PATIENCE
        while not self._ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise GatekeeperError("gatekeeper run did not get ready:\n" + "".join(self.lines))

    def _read(self) -> None:
        assert self.process.stderr is not None  # noqa: S101  (for the type checker: it is a pipe)
        for line in self.process.stderr:
            self.lines.append(line)
            if line.rstrip().endswith(" ready"):
                self._ready.set()

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return "".join(self.lines)

    def stop(self) -> int:
        """Stop it as an administrator would (SIGTERM); return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self) -> None:
        """End it without a warning (SIGKILL)."""
        if self.process.poll() is None:
            self.process.kill()
        self._wait()

    def _wait(self) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
        status = self.process.wait()
        self._reader.join(2)
        assert self.process.stderr is not None  # noqa: S101  (for the type checker: it is a pipe)
        self.process.stderr.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self.process.returncode is None:
            self.stop()


def gatekeeper_argv(*arguments: str) -> list[str]:
    """Build the command line of a gatekeeper command, whatever the name under which this one was started."""
    return [sys.executable, "-m", "gatekeeper", *arguments]
