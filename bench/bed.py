"""The bed that everybody is measured on: three namespaces, many addresses for clients, and a service to reach."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.clock import Clock
from gatekeeper.demo.network import CLIENT, SERVER, Network, inside, ip_batch, mortal_argv, netns_argv

PORT = 2222
"""The protected port."""
KNOCK_PORT = 62201
TARGET = SERVER[4]
UPLINK = "client"
"""The interface by which the server hears clients and junk alike, as a server on the internet does."""
SOURCES = "198.18.0.0/16"
"""Addresses that the client uses besides its own: the lower half for knocks, the upper half for junk."""
ROOT = Path(__file__).parents[1]
_LOWER, _UPPER = 32_000, 0x8000


def source(number: int, *, is_junk: bool = False) -> str:
    """Name one of the many addresses."""
    place = number % _LOWER + 1 + (_UPPER if is_junk else 0)
    return f"198.18.{place >> 8}.{place & 255}"


class Bed:
    """One set of namespaces, removed at its end with all that runs in it."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.directory, self.clock = directory, clock
        self._serial = itertools.count()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            network = stack.enter_context(Network("gatekeeper-bench"))
            self.server, self.client = network.server, network.client
            ip_batch(self.server, f"route add {SOURCES} via {CLIENT[4]}")
            ip_batch(self.client, f"route add local {SOURCES} dev lo")
            self._meet()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _meet(self) -> None:
        """Send something both ways, so that the neighbours know each other."""
        with inside(self.client), socket.socket() as one:
            one.settimeout(1)
            with contextlib.suppress(OSError):
                one.connect((TARGET, 9))

    def must_have_time(self) -> None:
        """Give up what takes too long, so that the whole ends in time."""
        if self.clock.grace() <= 0:
            raise BenchError("it took too long")

    def next_source(self) -> str:
        """Name an address that has not knocked yet."""
        return source(next(self._serial))

    def keep(self, one: contextlib.AbstractContextManager[Any]) -> None:
        """Have something end with the bed."""
        self._stack.enter_context(one)

    def serve(self) -> None:
        """Serve the protected port: an echo, in a process of its own."""
        self.keep(service(self.server, [sys.executable, "-m", "bench.echo", str(PORT)]))

    def run(self, *argv: str, text: str | None = None, seconds: float = 60, at: str | None = None) -> str:
        """Run a tool in the server (or elsewhere); it must succeed. Return what it printed."""
        try:
            done = subprocess.run(
                netns_argv(at or self.server, *argv),
                input=text,
                capture_output=True,
                text=True,
                check=False,
                timeout=max(min(seconds, self.clock.grace()), 0.1),
                cwd=ROOT,
                env=environment(),
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{Path(argv[0]).name} took too long") from None
        if done.returncode != 0:
            words = " ".join((done.stderr or done.stdout).split())
            raise BenchError(f"{Path(argv[0]).name} failed: {words[-400:]}")
        return done.stdout

    def arrived(self) -> int:
        """Count the packets that the server's interface has received."""
        with inside(self.server):
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        return next(int(line.split(":")[1].split()[1]) for line in lines if line.split(":")[0].strip() == UPLINK)

    def queues(self) -> list[list[int]]:
        """Return the fields of each NFQUEUE of the server's (nfnetlink_queue.c, seq_show)."""
        with inside(self.server):
            path = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")
            lines = path.read_text().splitlines() if path.exists() else []
        return [[int(field) for field in line.split()] for line in lines]

    def queued(self) -> int:
        """Count the packets that have been handed to a program by NFQUEUE."""
        return sum(row[7] - row[6] for row in self.queues())


class BenchError(Exception):
    """Something cannot be measured; the message is for the report."""


def environment(**more: str) -> dict[str, str]:
    """Make the environment that programs are run in: nobody's settings, and no localised numbers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEKEEPER_", "XDG_", "LC_"))}
    return {**kept, "LC_ALL": "C.UTF-8", "PATH": f"{kept.get('PATH', '')}:/usr/sbin:/sbin", **more}


@contextlib.contextmanager
def service(namespace: str, argv: list[str]) -> Iterator[None]:
    """Run a program that says a line when it is up, while the context lasts."""
    process = subprocess.Popen(
        mortal_argv(*netns_argv(namespace, *argv)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise BenchError(f"{Path(argv[0]).name} did not start")
        yield
    finally:
        end(process)
        process.stdout.close()


def end(process: subprocess.Popen[Any], *, patience: float = 5) -> None:
    """End a process that we have started: politely, then surely."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        process.kill()
    process.wait()


def fill(template: Path, target: Path, values: Mapping[str, str]) -> None:
    """Write a configuration from its template, in which values stand as ``@NAME@``."""
    text = template.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    target.write_text(text)
    target.chmod(0o600)


def as_json(value: object) -> str:
    """Write a value as the raw results have it."""
    return json.dumps(value, indent=1) + "\n"
