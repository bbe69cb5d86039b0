"""A contestant's processes, and what /proc says of them: CPU, memory, wake-ups."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.bed import ROOT, Bed, BenchError, end, environment
from gatekeeper.demo.network import mortal_argv, netns_argv

_TICK = os.sysconf("SC_CLK_TCK")
_LOOK = 0.001
_PATIENCE = 20


class Daemon:
    """A program in the server's namespace; it has said that it is ready when the constructor returns."""

    def __init__(self, bed: Bed, argv: Sequence[str], *, ready: str, log: Path, says: Path | None = None) -> None:
        """Start it; ``says`` is where it says that it is ready, if that is not what it prints."""
        self._says = says or log
        begin = time.monotonic()
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                mortal_argv(*netns_argv(bed.server, *argv)),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=ROOT,
                env=environment(),
                start_new_session=True,
            )
        try:
            while ready not in self.text():
                bed.must_have_time()
                self._must_live(Path(argv[0]).name, time.monotonic() - begin)
                time.sleep(_LOOK)
        except BaseException:
            end(self.process)
            raise
        self.start_seconds = time.monotonic() - begin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self.process)

    def _must_live(self, name: str, passed: float) -> None:
        if self.process.poll() is not None:
            raise BenchError(f"{name} ended at its start: {' '.join(self.text().split())[-300:]}")
        if passed > _PATIENCE:
            raise BenchError(f"{name} was not ready after {_PATIENCE} s")

    def text(self) -> str:
        """Return what it has said so far."""
        return self._says.read_text(errors="replace") if self._says.exists() else ""

    def pids(self) -> list[int]:
        """List its processes: the first, and all below it."""
        below: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    below.setdefault(parent, []).append(int(entry.name))
        found = [self.process.pid]
        for pid in found:
            found += below.get(pid, [])
        return found

    def cpu(self) -> float:
        """Return the CPU seconds of its processes so far, those of children that have ended included."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[13]) + int(fields[14])) / _TICK  # of children that have ended
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    total += int((thread / "schedstat").read_text().split()[0]) / 1e9
        return total

    def wakeups(self) -> int:
        """Count how often its threads went to sleep so far, which is how often they were woken."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    text = (thread / "status").read_text()
                    total += int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return total

    def memory(self) -> dict[int, float]:
        """Return the proportional set size of each process, in MB."""
        sizes = {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                sizes[pid] = int(text.partition("\nPss:")[2].split()[0]) * 1024 / 1e6
        return sizes
