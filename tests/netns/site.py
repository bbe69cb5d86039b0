"""A site to test on: three namespaces, a rules file, a state directory, and what one does with them."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

from gatekeeper import seeing
from gatekeeper.demo import probe
from gatekeeper.demo.network import CLIENT, SERVER, STRANGER, Network, inside, ip_batch, netns_argv
from gatekeeper.demo.server import Gatekeeper, gatekeeper_argv
from gatekeeper.demo.service import tcp_echo

SSH, WEB, UDP = 2222, 8080, 5353
RULES = f"""\
services:
  ssh: {{port: tcp/{SSH}, ttl: 1h, max_ttl: 2h}}
  web: {{port: tcp/{WEB}, ttl: 1h, established: cut}}
  echo: {{port: udp/{UDP}, ttl: 1h}}
clients:
  laptop: {{open: open_sesame, close: close_sesame, services: [ssh, echo]}}
  desk: {{open: open_desk, close: close_desk, services: [ssh, web]}}
"""
MANY = {4: "198.18.0.0/16", 6: "2001:db8:cc::/48"}
"""Source addresses that the client may use besides its own."""
_VERDICT = 0.3
"""Seconds after which a SYN has its verdict, if no packet waits for one: the worker holds it for 100 ms (holds.py)."""
_BEHIND = 0.05
"""Seconds for an answer that is on its way when the last packet gets its verdict."""
_ANSWERS = {0: "open", errno.EINPROGRESS: "silent", errno.ECONNREFUSED: "refused", errno.ECONNRESET: "refused"}


class Site:
    """One site; everything that was started in it is stopped at its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rules = directory / "rules.yaml"
        self.state = directory / "state"
        self.write_rules(RULES)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.network = self._stack.enter_context(Network("gatekeeper-test"))
        ip_batch(self.server, *(f"route add {network} via {CLIENT[of]}" for of, network in MANY.items()))
        ip_batch(self.client, *(f"route add local {network} dev lo" for network in MANY.values()))
        self._services = contextlib.ExitStack()
        self.start_services()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._services.close()

    def start_services(self) -> None:
        for port in (SSH, WEB):
            self._services.enter_context(tcp_echo(self.server, port))

    def stop_services(self) -> None:
        self._services.close()

    @property
    def server(self) -> str:
        return self.network.server

    @property
    def client(self) -> str:
        return self.network.client

    @property
    def stranger(self) -> str:
        return self.network.stranger

    def write_rules(self, text: str) -> None:
        self.rules.write_text(text)
        self.rules.chmod(0o600)

    # -- gatekeeper

    def run(self, *options: str, program: Sequence[str] = ()) -> Gatekeeper:
        """Start ``gatekeeper run`` in the server; it is ready when this returns."""
        return self._stack.enter_context(Gatekeeper(self.server, self.rules, self.state, *options, program=program))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a gatekeeper command in the server."""
        places = {"--rules": self.rules, "--state-dir": self.state}
        takes = {"flush": ["--state-dir"], "check": ["--rules"], "ruleset": ["--rules"], "knock": [], "confirm": []}
        named = takes.get(arguments[0], list(places))
        options = [word for name in named for word in (name, str(places[name]))]
        argv = gatekeeper_argv(*arguments, *options)
        return self.inside(self.server, *argv)

    def ok(self, *arguments: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Return what ``gatekeeper status --json`` would print; without its process, for tests ask often."""
        with inside(self.server), seeing.looking(self.rules, self.state) as seen:
            return {**seen.overview, "grants": list(seen.grants())}

    # -- the network

    @staticmethod
    def inside(namespace: str, *argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        with inside(namespace):
            return subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=60)

    def shell(self, *argv: str, text: str | None = None) -> str:
        """Run a tool in the server; it must succeed."""
        done = self.inside(self.server, *argv, text=text)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def sysctl(self, name: str, value: int) -> None:
        """Set a sysctl of the server's."""
        with inside(self.server):
            Path("/proc/sys", *name.split(".")).write_text(str(value))

    def spread_packets_over_two_cpus(self) -> None:
        """Switch RPS on for what arrives at the server, in the sysfs of its namespace."""
        sysfs = self.directory / "sysfs"
        sysfs.mkdir()
        self.shell("mount", "-t", "sysfs", "sysfs", str(sysfs))
        try:
            for device in ("client", "stranger"):
                mask = sysfs / "class/net" / device / "queues/rx-0/rps_cpus"
                mask.write_text("3")
                assert int(mask.read_text(), 16) == 3
        finally:
            self.shell("umount", str(sysfs))

    def knock(self, payload: bytes, version: int, *, namespace: str | None = None) -> None:
        probe.send(namespace or self.client, SERVER[version], payload)

    def connect(self, version: int, *, namespace: str | None = None, port: int = SSH, timeout: float = 0.7) -> str:
        """Connect; say ``open``, ``refused``, or ``silent``.

        Silent is: no answer for longer than the worker ever holds a packet, and no packet is held any more; where the
        rules refuse, whose answers come behind the verdict, no answer within ``timeout``, before the next SYN.
        """
        begin = time.monotonic()
        with inside(namespace or self.client):
            one = socket.socket(probe.family_of(SERVER[version]))
        with one:
            one.settimeout(0)
            error = one.connect_ex((SERVER[version], port))
            while error == errno.EINPROGRESS and (passed := time.monotonic() - begin) < timeout:
                is_settled = passed > _VERDICT and not self.waiting() and "refuse: reset" not in self.rules.read_text()
                if select.select([], [one], [], _BEHIND if is_settled else max(_VERDICT - passed, 0.02))[1]:
                    error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                elif is_settled:
                    break
        if error in _ANSWERS:
            return _ANSWERS[error]
        raise OSError(error, os.strerror(error))

    def stream(self, version: int, *, port: int = SSH, knock: bytes | None = None) -> socket.socket:
        """Open a stream that must open; the caller closes it."""
        attempt, stream = probe.open_stream(self.client, SERVER[version], port, timeout=3, knock=knock)
        assert stream is not None, attempt
        return stream

    def stranger_connects(self, version: int, port: int = SSH) -> str:
        return self.connect(version, namespace=self.stranger, port=port)

    def members(self, service: str, version: int) -> list[str]:
        """List the members of a service's ipset."""
        lines = self.shell("ipset", "list", f"gatekeeper-{version}-{service}").splitlines()
        return [line.split()[0] for line in lines[lines.index("Members:") + 1 :]]

    def queued(self) -> int:
        """Count the packets that have met Python so far (the queue's sequence number)."""
        return sum(row[7] for row in self.queues())

    def waiting(self) -> int:
        """Count the packets that are in the queue, or held, and have no verdict yet."""
        return sum(row[2] for row in self.queues())

    def queues(self) -> list[list[int]]:
        """Return the fields of each queue (nfnetlink_queue.c, seq_show); none where nobody listens."""
        with inside(self.server):
            lines = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text().splitlines()
        return [[int(field) for field in line.split()] for line in lines]

    @contextlib.contextmanager
    def udp_talker(
        self, *, seconds: float = 20.0, namespace: str | None = None, at: Sequence[str] = tuple(SERVER.values())
    ) -> Iterator[None]:
        """Serve UDP, in the server or elsewhere: whoever sends something is sent a datagram every 10 ms then."""
        argv = [sys.executable, "-c", _TALKER, str(UDP), str(seconds), *at]
        process = subprocess.Popen(netns_argv(namespace or self.server, *argv), stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()

    def udp_socket(self, version: int, address: str | None = None) -> socket.socket:
        """Make a UDP socket of the client's, connected to the server's UDP service (or another host's)."""
        with inside(self.client):
            one = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        one.connect((address or SERVER[version], UDP))
        return one


_TALKER = """
import select, socket, sys, time
ones = []
for address in sys.argv[3:]:  # bound, so that answers leave from the address that was asked
    ones.append(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM))
    ones[-1].bind((address, int(sys.argv[1])))
print("up", flush=True)
peers, end = set(), time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    for one in select.select(ones, [], [], 0.01)[0]:
        peers.add((one, one.recvfrom(2048)[1]))
    for one, peer in peers:
        try:
            one.sendto(b"tick", peer)
        except OSError:
            pass
"""


def many(version: int, number: int) -> str:
    """Name one of many sources; over IPv6 one of each network of 64 bits, which counts as a sender.

    Its last 32 bits differ as well: it is by these that the kernel chooses a queue (seen on 6.18).
    """
    return str(ip_network(MANY[version])[number if version == 4 else (number << 64) + number])


def wait_until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Wait for something that must come true."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


__all__ = ["CLIENT", "MANY", "SERVER", "SSH", "STRANGER", "UDP", "WEB", "Site", "many", "wait_until"]
