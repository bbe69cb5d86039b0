"""A stranger who tries a port without a pause, in a process of its own, and says afterwards when he got in.

Times are seconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Self

from gatekeeper.demo.network import mortal_argv, netns_argv

RATE = 700
"""Tries a second, unless told otherwise; it is said afterwards how many there were."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What came of it."""

    tries: int
    seconds: float
    connects: tuple[float, ...]
    """When each connect that was let in was begun."""

    @property
    def rate(self) -> float:
        """Tries a second."""
        return self.tries / self.seconds

    @property
    def first(self) -> float | None:
        """When the first that was let in was begun."""
        return min(self.connects, default=None)

    @property
    def last(self) -> float | None:
        """When the last that was let in was begun."""
        return max(self.connects, default=None)

    def after(self, moment: float) -> list[float]:
        """List the connects that were let in and begun after a moment, as seconds after it."""
        return [round(one - moment, 4) for one in self.connects if one > moment]


class Prober:
    """Tries one address and port from a namespace between ``start`` and ``stop``; for two minutes at most."""

    def __init__(self, namespace: str, address: str, port: int, *, rate: int = RATE) -> None:
        self._argv = netns_argv(namespace, sys.executable, "-S", "-c", _PROGRAM, address, str(port), str(rate))
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin; it is trying when this returns."""
        self._process = subprocess.Popen(mortal_argv(*self._argv), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"

    def stop(self) -> Probes:
        """End, and say what came of it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        said, _ = self._process.communicate(timeout=10)
        tries, seconds, connects = json.loads(said)
        return Probes(tries, seconds, tuple(connects))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


_PROGRAM = """
import errno, json, select, signal, socket, struct, sys, time
address, port, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
now, linger, wait = time.monotonic, struct.pack("ii", 1, 0), 0.08
going, poller, open_ones, connects, tries = True, select.epoll(), {}, [], 0

def stop(*_):
    global going
    going = False

def finish(number):
    one, begun = open_ones.pop(number)
    if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
        connects.append(begun)
    one.close()

signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
began = due = now()
while going and now() - began < 120:
    for number, _ in poller.poll(max(0, min(0.01, due - now()))):
        finish(number)
    moment = now()
    for number in [n for n, (_, begun) in open_ones.items() if moment - begun > wait]:
        open_ones.pop(number)[0].close()
    if moment < due:
        continue
    due = max(due + 1 / rate, moment - 0.02)
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    begun, tries = now(), tries + 1
    error = one.connect_ex((address, port))
    if error == errno.EINPROGRESS:
        open_ones[one.fileno()] = (one, begun)
        poller.register(one.fileno(), select.EPOLLOUT)
    else:
        if error == 0:
            connects.append(begun)
        one.close()
seconds = now() - began
for number, _ in poller.poll(wait):
    finish(number)
print(json.dumps([tries, seconds, connects]))
"""
