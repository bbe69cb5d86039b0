"""gatekeeper, by its public commands and a rules file."""

from __future__ import annotations

import base64
import os
import socket
import sys
import time

from bench.bed import TARGET, fill, source
from bench.peers.contestant import HERE, Contestant, Hit, Knock
from bench.processes import Daemon
from gatekeeper import keyfiles
from gatekeeper.demo.network import inside
from gatekeeper.demo.probe import KNOCK_PORT
from gatekeeper.sealed import keys, wire

_FIRST_GRANT = 15_000
"""Where the addresses of grants begin that only stand there."""
_AT_ONCE = 64
_KNOCKING = 4
"""So many clients knock for grants that only stand there: one has 4,096 at the most."""


class Gatekeeper(Contestant):
    """The program that this is all about."""

    title = "gatekeeper"

    def configure(self) -> None:
        """Make keys for the server and the clients; most of these are never heard of."""
        self.state, self.rules = self.directory / "state", self.directory / "rules.yaml"
        self.state.mkdir(mode=0o700)
        server, private = keys.generate(), keys.generate()
        self.server_key = keys.public_of(server)
        keyfiles.write(str(self.state / keyfiles.SERVER_KEY), server)
        self.identity = self.directory / "client.key"
        keyfiles.write(str(self.identity), private)
        privates = [*(keys.generate() for _ in range(self.clients - 1)), private]
        lines = [
            f"  client-{number}: {{key: {keys.show(key)}, services: [door]}}"
            for number, key in enumerate(map(keys.public_of, privates))
        ]
        fill(HERE / "gatekeeper.yaml", self.rules, {"CLIENTS": "\n".join(lines)})
        self._sealers = [wire.Sealer(one, self.server_key) for one in privates[-_KNOCKING:]]

    def start(self) -> Daemon:
        """Start ``gatekeeper run``."""
        argv = [sys.executable, "-m", "gatekeeper", "run", *self._places()]
        daemon = Daemon(self.bed, argv, ready=" ready\n", log=self.directory / "gatekeeper.log")
        self.bed.keep(daemon)
        return daemon

    def _places(self) -> list[str]:
        return ["--rules", str(self.rules), "--state-dir", str(self.state)]

    def knock(self) -> Knock:
        """Seal a knock of now."""
        return self._knock(self._sealers[-1])

    @staticmethod
    def _knock(sealer: wire.Sealer) -> Knock:
        payload = wire.Payload(action=wire.OPEN, sent_at=time.time_ns())
        datagram, _ = sealer.seal(payload, os.urandom(keys.SIZE), now=time.time())
        return (Hit(KNOCK_PORT, datagram),)

    def grant_many(self, count: int) -> None:
        """Knock from so many addresses."""
        for number in range(count):
            with inside(self.bed.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.bind((source(_FIRST_GRANT + number), 0))
                (hit,) = self._knock(self._sealers[number % len(self._sealers)])
                one.sendto(hit.payload or b"", (TARGET, hit.port))
            while number % _AT_ONCE == 0 and any(row[2] for row in self.bed.queues()):
                self.bed.must_have_time()
                time.sleep(0.001)
        while self._granted() < count:
            self.bed.must_have_time()
            time.sleep(0.1)

    def _granted(self) -> int:
        """Count whom the kernel lets in."""
        found = self.bed.run("ipset", "list", "-t", "gatekeeper-4-door")
        return int(found.partition("Number of entries: ")[2].split()[0])

    def client(self) -> list[str]:
        """Knock as a user does who has no profile."""
        key = base64.b64encode(self.server_key).decode()
        program = [sys.executable, "-m", "gatekeeper", "knock", TARGET]
        return [*program, "--identity", str(self.identity), "--server-key", key, "--quiet"]

    def python_packets(self) -> int | None:
        """Count what the queues have handed out."""
        return self.bed.queued()
