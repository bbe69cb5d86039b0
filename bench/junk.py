"""Floods: one or more senders in the client's namespace, and what they say that they have sent."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.attempts import Way, attempt, often
from bench.bed import ROOT, Bed, BenchError, end, environment
from bench.peers.contestant import Contestant, Knock
from gatekeeper.demo.network import ip_in, mortal_argv, netns_argv

_UPLINK = "uplink"
LONGEST = 20.0
"""Seconds after which a flood ends by itself."""
_CAPTURED = 16


@dataclass(frozen=True, slots=True)
class Force:
    """How hard a flood is."""

    rate: float | None
    """Packets a second; nothing: as many as can be sent."""
    senders: int = 1
    seconds: float | None = None
    """For how long; nothing: until it is told to end."""


@dataclass(slots=True)
class Flood:
    """What a flood was."""

    sent: int = 0
    seconds: float = 0.0
    arrived: int = 0
    """Packets that the server's interface has received; a few of them are not junk."""
    looked_at: int | None = None
    """Of these, how many met the contestant's own code, where the kernel tells."""

    @property
    def rate(self) -> float:
        """Packets a second that arrived."""
        return self.arrived / self.seconds if self.seconds else 0.0


class _Listener:
    """Passes knocks on, and remembers them."""

    def __init__(self, contestant: Contestant, seen: list[Knock]) -> None:
        self._contestant, self._seen = contestant, seen

    def make_ready(self, knocks: int) -> None:
        self._contestant.make_ready(knocks)

    def knock(self) -> Knock:
        self._seen.append(self._contestant.knock())
        return self._seen[-1]


def capture(bed: Bed, contestant: Contestant) -> list[Knock]:
    """Use some knocks up, as somebody who listens would see them."""
    seen: list[Knock] = []
    attempt(bed, _Listener(contestant, seen), Way(often, patience=2, apart=0.01), _CAPTURED)
    return seen


@contextlib.contextmanager
def flood(bed: Bed, contestant: Contestant, packets: Sequence[bytes], force: Force) -> Iterator[Flood]:
    """Send junk while the context lasts, or for the time that was asked for; what it was is known at the end."""
    found = Flood()
    if force.rate == 0:
        yield found
        return
    share = None if force.rate is None else force.rate / force.senders
    plan = {"interface": _UPLINK, "neighbour": _neighbour(bed), "lengths": [len(one) for one in packets], "rate": share}
    text = json.dumps({**plan, "seconds": force.seconds or LONGEST}).encode() + b"\n" + b"".join(packets)
    processes: list[subprocess.Popen[bytes]] = []
    arrived, looked_at = bed.arrived(), contestant.python_packets()
    try:
        for _ in range(force.senders):
            one = _start(bed, text)
            processes.append(one)
        for one in processes:
            assert one.stdout is not None
            if one.stdout.readline() != b"up\n":
                raise BenchError("a sender did not start")
        yield found
        for one in processes:
            if force.seconds is None:
                one.send_signal(signal.SIGTERM)
        for one in processes:
            one.wait((force.seconds or 0) + 10)
            assert one.stdout is not None
            said = json.loads(one.stdout.readline())
            found.sent += said["sent"]
            found.seconds = max(found.seconds, said["seconds"])
        _settle(bed)
        found.arrived = bed.arrived() - arrived
        now = contestant.python_packets()
        found.looked_at = now - looked_at if now is not None and looked_at is not None else None
    finally:
        for one in processes:
            end(one)
            if one.stdout is not None:
                one.stdout.close()


def _start(bed: Bed, text: bytes) -> subprocess.Popen[bytes]:
    argv = mortal_argv(*netns_argv(bed.client, sys.executable, "-m", "bench.sender"))
    one = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment(), start_new_session=True
    )
    assert one.stdin is not None
    with one.stdin as pipe:
        pipe.write(text)
    return one


def _neighbour(bed: Bed) -> str:
    """Return the hardware address of the server, as the client's neighbours have it."""
    link = json.loads(ip_in(bed.server, "-json", "link", "show", "client"))
    return str(link[0]["address"]).replace(":", "")


def _settle(bed: Bed) -> None:
    """Wait until no packet waits for its verdict; a second at the most."""
    deadline = time.monotonic() + 1
    while any(row[2] for row in bed.queues()) and time.monotonic() < deadline:
        time.sleep(0.01)
