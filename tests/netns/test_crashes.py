"""Rounds of kill -9 at any moment, under a stream of knocks: what was promised is kept.

A promise is an answer to a sealed knock. Afterwards store, kernel and promises are compared. Some two minutes at most
(``SECONDS``) in the usual run; ``GATEKEEPER_CRASH_ROUNDS=5000 scripts/test -k crashes`` goes on for longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from gatekeeper.demo.network import inside
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.sealed import wire
from gatekeeper.sealed.noise import Handshake
from gatekeeper.store.sqlite import FILE
from tests.netns.device import Device, rules_for, server_key
from tests.netns.family import children, is_whole
from tests.netns.site import SERVER, Site, wait_until

ROUNDS = int(os.environ.get("GATEKEEPER_CRASH_ROUNDS", "200"))
SECONDS = ROUNDS * 0.55
_IPV6_FREEBIND = 78  # linux/in6.h
PEERS = 24
"""Of each IP version."""


@dataclass(slots=True)
class Peer:
    """An address that knocks, and what it was promised last."""

    address: str
    socket: socket.socket
    waiting: deque[tuple[int, Handshake]] = field(default_factory=lambda: deque(maxlen=8))
    """Its latest knocks, the newest last."""
    is_open: bool | None = None
    """What it was promised; ``None``: nothing that still holds."""


class Knockers(threading.Thread):
    """Opens and closes from many addresses, and notes what is answered."""

    def __init__(self, site: Site, device: Device) -> None:
        super().__init__(daemon=True)
        self._device = device
        self._ended = threading.Event()
        self.counts: Counter[str] = Counter()
        self.peers: list[Peer] = []
        for number in range(PEERS):
            for version, address in ((4, f"198.18.0.{number + 1}"), (6, f"2001:db8:cc::{number + 1:x}")):
                with inside(site.client):
                    one = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
                if version == 6:
                    one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
                one.bind((address, 0))
                one.connect((SERVER[version], 62201))
                self.peers.append(Peer(address, one))

    def run(self) -> None:
        chance = random.Random(7)
        while not self._ended.is_set():
            peer = chance.choice(self.peers)
            self._hear(0.0)
            self._knock(peer, close=chance.random() < 0.4)
            self._hear(0.004)
        deadline = time.monotonic() + 1.0
        while (left := deadline - time.monotonic()) > 0:
            self._hear(left)

    def stop(self) -> None:
        self._ended.set()
        self.join()
        for peer in self.peers:
            peer.socket.close()

    def _knock(self, peer: Peer, *, close: bool) -> None:
        """Knock; from now on, until it is answered, nothing is promised."""
        action = wire.CLOSE if close else wire.OPEN
        payload = wire.Payload(action=action, sent_at=time.time_ns())
        datagram, handshake = self._device.sealer.seal(payload, os.urandom(32), now=time.time())
        peer.waiting.append((action, handshake))
        peer.is_open = None
        with contextlib.suppress(ConnectionRefusedError):
            peer.socket.send(datagram)
        self.counts["sent"] += 1

    def _hear(self, seconds: float) -> None:
        ready, _, _ = select.select([peer.socket for peer in self.peers], [], [], seconds)
        for peer in self.peers:
            if peer.socket in ready:
                with contextlib.suppress(ConnectionRefusedError):
                    self._take(peer, peer.socket.recv(2048))

    def _take(self, peer: Peer, answer: bytes) -> None:
        for knock in peer.waiting:
            action, handshake = knock
            with contextlib.suppress(ValueError):
                self._device.sealer.open_answer(handshake, answer)
                self.counts["answered"] += 1
                if knock is peer.waiting[-1]:  # an answer to an older one says nothing about now
                    peer.is_open = action == wire.OPEN
                    self.counts["promised"] += 1


def stored(site: Site) -> set[str]:
    """Read who is let in from the file itself, as another program would."""
    with contextlib.closing(sqlite3.connect(f"file:{site.state / FILE}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT source FROM grants WHERE service = 'ssh'").fetchall()
    return {source.split("/")[0] for (source,) in rows}


def in_kernel(site: Site) -> set[str]:
    return {str(ip_address(one)) for version in (4, 6) for one in site.members("ssh", version)}


@pytest.mark.timeout(int(SECONDS * 2 + 60))
def test_after_kills_at_any_moment_store_kernel_and_promises_agree(site: Site, request: pytest.FixtureRequest) -> None:
    device = Device(server_key(site))
    text = rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}") + "knock: {ack: true}\n"
    site.write_rules(text)
    running = site.run()
    knockers = Knockers(site, device)
    knockers.start()
    request.addfinalizer(knockers.stop)
    chance = random.Random(os.urandom(8))
    killed: Counter[str] = Counter()
    deadline = time.monotonic() + SECONDS
    while killed.total() < ROUNDS and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.0, 0.25))
        if killed.total() % 25 == 24:
            running.kill()
            killed["supervisor"] += 1
            running = site.run()
        else:
            killed.update(_kill_one(running, chance))
        if killed.total() % 50 == 0:
            assert site.stranger_connects(4) == "silent"
    wait_until(lambda: is_whole(running), seconds=20)
    knockers.stop()
    wait_until(lambda: stored(site) == in_kernel(site), seconds=3)
    found = stored(site)
    broken = [
        one.address for one in knockers.peers if one.is_open is not None and one.is_open != (one.address in found)
    ]
    assert broken == []
    assert site.stranger_connects(4) == site.stranger_connects(6) == "silent"
    assert killed.total() >= ROUNDS * 0.8, killed
    # A knock that came while somebody was missing is answered late, when its sender has often knocked again already.
    assert knockers.counts["answered"] > ROUNDS, knockers.counts
    assert knockers.counts["promised"] > ROUNDS / 4, knockers.counts


def _kill_one(running: Gatekeeper, chance: random.Random) -> list[str]:
    found = children(running)
    if not found:
        return []
    name = chance.choice(sorted(found))
    with contextlib.suppress(ProcessLookupError):
        os.kill(found[name], signal.SIGKILL)
    return [name]
