"""The simple variant, as anybody would try it: no root, no firewall, every format, and the log says what would be."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatekeeper import cli
from gatekeeper.knocks import FORMATS
from gatekeeper.sealed import keys
from tests.fwknop.written import HMAC_KEY, KEY, packet

SERVICES = "services:\n  ssh: {port: tcp/22, ttl: 30m}\n  web: {port: [tcp/80, tcp/443], ttl: 2s}\n"
PLAIN = "trial: {open: open_sesame, close: close_sesame, services: [ssh]}"
ADDRESSES = ["127.0.0.1", "::1"]


class DryRun:
    """``gatekeeper run --dry-run`` as a process."""

    def __init__(self, process: subprocess.Popen[str], ports: list[int], state: Path) -> None:
        self.process, self.ports, self.state = process, ports, state
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self.lines.extend, args=(process.stderr,))
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, words: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + 10
        while self.log.count(words) < times:
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.log}"
            assert self.process.poll() is None, self.log
            time.sleep(0.01)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(10)
        self._reader.join()
        return status


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(number)]
    for one in sockets:
        one.bind(("::", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def dry_run(folder: Path, clients: str, more: str = "") -> Iterator[DryRun]:
    ports = free_ports(2)
    rules = folder / "rules.yaml"
    rules.write_text(f"{SERVICES}clients:\n  {clients}\nknock: {{port: [udp/{ports[0]}, udp/{ports[1]}]{more}}}\n")
    rules.chmod(0o600)
    state = folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    argv = [sys.executable, "-m", "gatekeeper", "run", "--dry-run", "--rules", str(rules), "--state-dir", str(state)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEKEEPER_")}
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment)
    running = DryRun(process, ports, state)
    try:
        running.wait_for("ready")
        yield running
    finally:
        if process.poll() is None:
            running.stop()
        assert process.stderr is not None
        process.stderr.close()


def send(payload: bytes, address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(payload, (address, port))


def plain_client(folder: Path) -> tuple[str, Callable[[DryRun, str, int, bool], None]]:
    file = folder / "plain.key"
    file.write_text("open_sesame\nclose_sesame\n")

    def knock(_: DryRun, address: str, port: int, close: bool) -> None:
        options = ["--close"] if close else []
        assert cli.main(["knock", address, "--port", str(port), "--key-file", str(file), *options]) == 0

    return PLAIN, knock


def sealed_client(folder: Path) -> tuple[str, Callable[[DryRun, str, int, bool], None]]:
    identity = folder / "laptop.key"
    assert cli.main(["keygen", str(identity)]) == 0
    public = keys.show(keys.public_of(keys.parse(identity.read_text())))

    def knock(running: DryRun, address: str, port: int, close: bool) -> None:
        server = keys.show(keys.public_of(keys.parse((running.state / "server.key").read_text())))
        options = ["--identity", str(identity), "--server-key", server, *(["--close"] if close else [])]
        assert cli.main(["knock", address, "--port", str(port), *options]) == 0

    return f"trial: {{key: {public}, services: [ssh]}}", knock


def fwknop_client(_: Path) -> tuple[str, Callable[[DryRun, str, int, bool], None]]:
    def knock(_: DryRun, address: str, port: int, close: bool) -> None:
        assert not close
        ahead = 5  # its time is in whole seconds, and a dry run's store is as old as the run
        send(packet(time.time() + ahead), address, port)

    key, hmac_key = (base64.b64encode(one).decode() for one in (KEY, HMAC_KEY))
    return f"trial: {{fwknop: {{key_base64: {key}, hmac_key_base64: {hmac_key}}}, services: [ssh]}}", knock


CLIENTS = {"plain": plain_client, "sealed": sealed_client, "fwknop": fwknop_client}
NEEDS_A_KERNEL = {"sequence"}
CANNOT_CLOSE = {"fwknop"}


def test_every_format_is_tried_here() -> None:
    assert set(CLIENTS) | NEEDS_A_KERNEL == set(FORMATS)


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_it_speaks_every_format_on_every_port(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A knock that opens, one that closes, over IPv4 and IPv6: the log says what the real one would do."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    client, knock = CLIENTS[name](tmp_path)
    with dry_run(tmp_path, client) as running:
        for port in running.ports:
            for address in ADDRESSES:
                grant = f"client=trial source={address} service=ssh"
                opened, closed = (running.log.count(f"would-{what} {grant}") for what in ("open", "close"))
                knock(running, address, port, False)
                running.wait_for(f"would-open {grant} ttl=1800s", times=opened + 1)
                if name in CANNOT_CLOSE:
                    continue
                knock(running, address, port, True)
                running.wait_for(f"would-close {grant}", times=closed + 1)
        send(b"junk", ADDRESSES[0], running.ports[1])
        running.wait_for("would-refuse reason=unknown-key source=127.0.0.1")
        assert running.stop() == 0


def test_it_says_when_a_grant_would_end(tmp_path: Path) -> None:
    with dry_run(tmp_path, "trial: {open: open_sesame, services: [web]}") as running:
        send(b"open_sesame", ADDRESSES[0], running.ports[0])
        running.wait_for("would-open client=trial source=127.0.0.1 service=web ttl=2s")
        running.wait_for("would-expire client=trial source=127.0.0.1 service=web")


def test_it_says_that_it_hears_knocks_by_udp_only(tmp_path: Path) -> None:
    with dry_run(tmp_path, PLAIN, ", via: [udp, icmp, syn]") as running:
        assert re.search(r"warning .*icmp, syn.* not heard", running.log), running.log


def test_it_says_that_it_hears_no_port_sequences(tmp_path: Path) -> None:
    with dry_run(tmp_path, "trial: {sequence: [7000, 8000, 9000], services: [ssh]}") as running:
        assert re.search(r"warning .*port sequences are not heard", running.log), running.log


def test_rules_without_knocks_by_udp_leave_it_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"{SERVICES}clients:\n  {PLAIN}\nknock: {{via: icmp}}\n")
    assert cli.main(["run", "--dry-run", "--rules", str(rules)]) == 1
    told = capsys.readouterr().err
    assert "gatekeeper: error: a dry run hears knocks by udp only, and these rules have none" in told
    assert "gatekeeper: hint:" in told
