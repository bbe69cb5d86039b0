"""``gatekeeper demo``: the real thing at work, step by step, in network namespaces of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gatekeeper.demo import probe
from gatekeeper.demo.interrupts import Interrupts
from gatekeeper.demo.laptop import Laptop
from gatekeeper.demo.network import CLIENT, SERVER, STRANGER, Network, netns_argv
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.demo.service import tcp_echo
from gatekeeper.errors import GatekeeperError

PORT = 22
_RULES = f"""\
services:
  ssh: {{port: tcp/{PORT}, ttl: 1h}}
clients:
  laptop: {{key: KEY, services: [ssh]}}
"""
_TIMEOUT = 2.0


def run(*, show_rules: bool) -> int:
    """Show everything over IPv4, and the main point over IPv6; return 0 if all went as it should."""
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatekeeper-demo-")))
        laptop = Laptop(directory / "state")
        rules = directory / "rules.yaml"
        rules.write_text(_RULES.replace("KEY", laptop.key))
        rules.chmod(0o600)
        network = stack.enter_context(Network("gatekeeper-demo"))
        show = _Show(network, show_rules=show_rules)
        show.say("a server, a client and a stranger, each in a network namespace of its own;")
        show.say(f"an echo service listens on tcp/{PORT} of the server ({SERVER[4]}, {SERVER[6]})")
        stack.enter_context(tcp_echo(network.server, PORT))
        stack.enter_context(Gatekeeper(network.server, rules, directory / "state"))
        with interrupts.allowed():
            show.say("gatekeeper is ready; the rules:")
            show.say("  " + rules.read_text().rstrip().replace("\n", "\n                "))
            show.kernel()
            _story(show, network, laptop)
            _over_ipv6(show, network, laptop)
            show.say("the end: " + ("all went as it should" if show.good else "NOT all went as it should"))
        return 0 if show.good else 1


def _story(show: _Show, network: Network, laptop: Laptop) -> None:
    server = SERVER[4]
    show.step(f"the stranger ({STRANGER[4]}) scans tcp/1-1024", lambda: _scan(network), "no port is open")
    show.step(f"the client ({CLIENT[4]}) connects", lambda: _connect(network.client, server), "silent")
    stream, knock = None, laptop.knock()
    with show.timed("the client knocks and connects at once, with no sleep"):
        attempt, stream = probe.open_stream(network.client, server, PORT, timeout=_TIMEOUT, knock=knock)
    first = "at the first SYN" if attempt.resent == 0 else f"after {attempt.resent} more SYNs"
    show.result(f"{attempt.result} {first}, {attempt.seconds * 1000:.1f} ms after the knock", attempt.result == "open")
    if stream is None:
        return
    show.kernel()
    show.step("the stranger scans again", lambda: _scan(network), "no port is open")
    show.step(
        "the stranger has recorded the knock, sends it, and connects",
        lambda: _connect(network.stranger, server, knock=knock),
        "silent",
    )
    with stream, show.timed("the client closes, while its stream is open"):
        probe.send(network.client, server, laptop.knock(close=True))
        end = probe.until_end(stream, timeout=_TIMEOUT)
    words = "the stream lives on" if end is None else f"the stream is cut after {end[0] * 1000:.1f} ms ({end[1]})"
    show.result(words, end is not None)
    show.kernel()
    show.step("the client connects again", lambda: _connect(network.client, server), "silent")


def _over_ipv6(show: _Show, network: Network, laptop: Laptop) -> None:
    with show.timed(f"the same over IPv6 ({CLIENT[6]}): knock and connect"):
        attempt = probe.connect(network.client, SERVER[6], PORT, timeout=_TIMEOUT, knock=laptop.knock())
    show.result(f"{attempt.result}, {attempt.seconds * 1000:.1f} ms after the knock", attempt.result == "open")
    show.step("the stranger connects over IPv6", lambda: _connect(network.stranger, SERVER[6]), "silent")


def _scan(network: Network) -> str:
    found = probe.scan(network.stranger, SERVER[4], range(1, 1025), timeout=_TIMEOUT)
    ports = [port for port, result in found.items() if result == "open"]
    return f"open: {ports}" if ports else "no port is open"


def _connect(namespace: str, address: str, *, knock: bytes | None = None) -> str:
    return probe.connect(namespace, address, PORT, timeout=_TIMEOUT, knock=knock).result


class _Show:
    """Prints steps with their times."""

    def __init__(self, network: Network, *, show_rules: bool) -> None:
        self._network = network
        self._show_rules = show_rules
        self._begin = time.monotonic()
        self.good = True

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:8.3f} s    {text}", flush=True)

    @contextlib.contextmanager
    def timed(self, text: str) -> Iterator[None]:
        self.say(text)
        yield

    def result(self, text: str, good: bool) -> None:  # noqa: FBT001  (it is what there is to say)
        self.good = self.good and good
        self.say(f"  -> {text}" + ("" if good else "   (NOT as it should be)"))

    def step(self, text: str, action: Callable[[], str], expected: str) -> None:
        with self.timed(text):
            found = action()
        explained = f"silent: no answer within {_TIMEOUT:.0f} s" if found == "silent" else found
        self.result(explained, found == expected)

    def kernel(self) -> None:
        """Print the iptables and ipset state of the server, if that was asked for."""
        if not self._show_rules:
            return
        for argv in (["iptables", "-t", "mangle", "-S"], ["iptables", "-t", "raw", "-S"], ["ipset", "list"]):
            print(f"\n# {' '.join(argv)}", flush=True)
            path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
            done = subprocess.run(
                netns_argv(self._network.server, *argv),
                stdout=sys.stdout,
                env={**os.environ, "PATH": path},
                check=False,
            )
            if done.returncode != 0:
                raise GatekeeperError(f"{argv[0]} failed")
        print(flush=True)
