"""Knocks that come as echo requests, inside SYNs and to other ports: by ping, hping3 and our own client."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper import keyfiles
from gatekeeper.client import knocker, ways
from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from gatekeeper.demo.server import Gatekeeper, gatekeeper_argv
from gatekeeper.sealed import keys
from tests.netns.device import SERVICES, Device, server_key
from tests.netns.site import SERVER, SSH, WEB, Site, wait_until

KEY, CLOSE = "open_sesame", "close_sesame"
WAYS: list[knocker.Way] = [knocker.Udp(62201), ways.Icmp(), ways.Syn(SSH)]


def start(site: Site, knock: str) -> Gatekeeper:
    """Run a server with a plain client and these lines under ``knock:``."""
    laptop = f"laptop: {{open: {KEY}, close: {CLOSE}, services: [ssh, echo]}}"
    site.write_rules(f"{SERVICES}clients:\n  {laptop}\nknock: {knock}\n")
    return site.run()


def ping(site: Site, version: int, *options: str, namespace: str | None = None) -> subprocess.CompletedProcess[str]:
    return site.inside(namespace or site.client, "ping", f"-{version}", "-n", "-W1", *options, SERVER[version])


def pattern(key: str) -> str:
    return key.encode().hex()


# -- echo requests


def test_a_key_in_a_ping_opens_for_its_sender_and_the_ping_is_answered(site: Site, version: int) -> None:
    """`ping -p HEX` knocks; whoever watches sees a ping and its answer, as before."""
    start(site, "{via: [udp, icmp]}")
    for key, expected in ((KEY, "open"), (CLOSE, "silent"), (f"{KEY} ssh", "open")):
        done = ping(site, version, "-c1", "-p", pattern(key))
        assert done.returncode == 0, done.stdout
        wait_until(lambda expected=expected: site.connect(version, timeout=0.3) == expected)  # type: ignore[misc]
        assert site.stranger_connects(version) == "silent"
    assert site.connect(version, port=WEB) == "silent"


def test_a_key_in_a_ping_of_any_size_opens(site: Site, version: int) -> None:
    start(site, "{via: [icmp]}")
    for size in (40, 56, 57, 1400, 3900):
        for key, members in ((KEY, 1), (CLOSE, 0)):
            assert ping(site, version, "-c1", "-s", str(size), "-p", pattern(key)).returncode == 0
            wait_until(lambda members=members: len(site.members("ssh", version)) == members)  # type: ignore[misc]
            assert site.connect(version) == ("open" if members else "silent"), (size, key)


def test_plain_pings_are_answered_whether_or_not_a_worker_runs(site: Site, version: int) -> None:
    running = start(site, "{via: [icmp]}")
    for options in (["-c3", "-i0.01"], ["-c1", "-p", "ff"], ["-c1", "-p", pattern("open_something")], ["-c1", "-s0"]):
        done = ping(site, version, *options)
        assert done.returncode == 0, done.stdout
    assert not any("reason=" in line for line in running.lines), "a ping is nothing to log"
    running.kill()
    assert ping(site, version, "-c3", "-i0.01").returncode == 0
    assert ping(site, version, "-c1", "-p", pattern(KEY)).returncode == 0
    assert site.connect(version) == "silent", "without a worker nobody gets in"


def test_a_ping_opens_nothing_where_the_rules_do_not_ask_for_it(site: Site, version: int) -> None:
    start(site, "{via: udp}")
    before = site.queued()
    assert ping(site, version, "-c3", "-i0.01", "-p", pattern(KEY)).returncode == 0
    assert site.queued() == before, "it never meets Python"
    assert site.connect(version) == "silent"


def test_hping3_knocks_by_an_echo_request_that_is_the_key(site: Site) -> None:
    start(site, "{via: [icmp]}")
    file = site.directory / "key"
    file.write_text(KEY)
    site.inside(site.client, "hping3", "--icmp", "-c", "1", "-q", "-d", str(len(KEY)), "-E", str(file), SERVER[4])
    wait_until(lambda: site.connect(4, timeout=0.3) == "open")


# -- SYNs


def test_hping3_knocks_by_a_syn_that_bears_the_key_and_that_syn_is_answered(site: Site) -> None:
    """The very SYN goes on to the service once the grant is there; then the kernel alone passes its sender."""
    start(site, "{via: [syn]}")
    file = site.directory / "key"
    for key, flags in (("wrong_sesame", None), (KEY, "flags=SA")):
        file.write_text(key)
        options = ["-S", "-p", str(SSH), "-c", "1", "-d", str(len(key)), "-E", str(file)]
        done = site.inside(site.client, "hping3", *options, SERVER[4])
        assert ("flags=SA" in done.stdout) is (flags is not None), done.stdout
        assert (site.connect(4) == "open") is (flags is not None)
    assert site.stranger_connects(4) == "silent"


def test_a_syn_that_bears_a_key_opens_and_closes(site: Site, version: int, tmp_path: Path) -> None:
    running = start(site, "{via: [syn]}")
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n{CLOSE}\n")
    knock = ["knock", SERVER[version], "--via", "syn", "--port", str(SSH), "--key-file", str(file)]
    for options, expected in (([], "open"), (["--close"], "silent"), ([], "open")):
        done = site.inside(site.client, *gatekeeper_argv(*knock, *options))
        assert done.returncode == 0, done.stderr
        wait_until(lambda expected=expected: site.connect(version, timeout=0.3) == expected)  # type: ignore[misc]
    assert "reason=no-grant-midstream" not in running.log


def test_a_syn_with_a_key_for_another_service_opens_that_one_and_stays_outside(site: Site, version: int) -> None:
    """It is looked at as a knock once, and not again and again."""
    running = start(site, "{via: [syn]}")
    before = site.queued()
    send(site, version, ways.Syn(WEB), KEY.encode())
    wait_until(lambda: site.connect(version, timeout=0.3) == "open")
    assert site.connect(version, port=WEB, timeout=0.3) == "silent"
    assert running.log.count(" opened ") == 2, running.log
    assert site.queued() - before < 40


def test_granted_traffic_never_meets_python_where_knocks_come_by_syn(site: Site, version: int) -> None:
    start(site, "{via: [udp, icmp, syn]}")
    with site.stream(version, knock=KEY.encode()) as stream:
        stream.recv(100)
        before = site.queued()
        for _ in range(50):
            stream.sendall(b"x" * 5000)
            stream.recv(65536)
        assert site.connect(version) == "open", "a SYN without data"
        assert site.queued() == before


def test_junk_in_a_syn_of_a_granted_source_does_not_keep_it_out(site: Site, version: int) -> None:
    """As TCP Fast Open sends: data in the SYN is no reason to drop it."""
    start(site, "{via: [udp, syn]}")
    site.knock(KEY.encode(), version)
    wait_until(lambda: site.connect(version, timeout=0.3) == "open")
    with answers_to(site) as count:
        send(site, version, ways.Syn(SSH), b"GET / HTTP/1.0")
        wait_until(lambda: count() == 1)


@contextlib.contextmanager
def answers_to(site: Site) -> Iterator[Callable[[], int]]:
    """Count the SYN-ACKs that come to the client from the server's ssh."""
    argv = ["tcpdump", "-i", "uplink", "-l", "-n", "--immediate-mode", "-Q", "in", f"tcp and src port {SSH}"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(netns_argv(site.client, *argv), stdout=pipe, stderr=pipe, text=True)
    assert process.stderr is not None
    assert process.stdout is not None
    seen: list[str] = []
    reader = threading.Thread(target=seen.extend, args=(process.stdout,))
    reader.start()
    try:
        while "listening" not in process.stderr.readline():
            pass
        yield lambda: sum("Flags [S.]" in line for line in seen)
    finally:
        process.terminate()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


def send(site: Site, version: int, way: knocker.Way, payload: bytes, *, namespace: str | None = None) -> None:
    """Send a knock by some way, from the client or from elsewhere."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with inside(namespace or site.client):
        knocker.send([(family, (SERVER[version], 0))], way, knocker.PlainMaker(payload))


# -- sealed knocks, by our own client


@pytest.fixture
def profile(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a server that knows one sealed client, by all ways; return what runs a command of that client."""
    device = Device(server_key(site))
    knock = "{port: [udp/62201, udp/443], via: [udp, icmp, syn]}"
    site.write_rules(
        f"{SERVICES}clients:\n  laptop: {{key: {device.key}, services: [ssh], bind: required}}\nknock: {knock}\n"
    )
    site.run()
    identity = site.directory / "identity.key"
    keyfiles.write(str(identity), device.private)
    server = keys.show(keys.public_of(keyfiles.read(str(site.state / keyfiles.SERVER_KEY))))
    monkeypatch.setenv("XDG_STATE_HOME", str(site.directory / "home"))

    def run(command: str, *options: str) -> subprocess.CompletedProcess[str]:
        argv = gatekeeper_argv(command, *options, "--identity", str(identity), "--server-key", server)
        return site.inside(site.client, *argv)

    return run


@pytest.mark.parametrize(
    "options",
    [["--port", "443"], ["--via", "icmp"], ["--via", "syn"]],
    ids=["second-port", "icmp", "syn"],
)
def test_a_sealed_knock_travels_in_every_way(
    site: Site, version: int, options: list[str], profile: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = profile("knock", SERVER[version], *options, "--wait", f"tcp/{SSH}")
    assert done.returncode == 0, done.stderr
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"
    port = ["--port", str(SSH)] if "syn" in options else []
    done = profile("knock", SERVER[version], *options, *port, "--close")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: site.connect(version, timeout=0.3) == "silent")


def test_a_sealed_knock_that_was_recorded_opens_nothing_in_any_way(site: Site, version: int) -> None:
    """Neither the way that it came nor another one makes it new."""
    device = Device(server_key(site))
    site.write_rules(
        f"{SERVICES}clients:\n  laptop: {{key: {device.key}, services: [ssh]}}\nknock: {{via: [udp, icmp, syn]}}\n"
    )
    running = site.run()
    for number, first in enumerate(WAYS, 1):
        knock = device.knock()
        send(site, version, first, knock)
        # Ways have queues of their own: a copy by another way, right behind the original, can be the first to be read.
        wait_until(lambda number=number: running.log.count("opened client=laptop") == number)  # type: ignore[misc]
        assert site.connect(version) == "open"
        for way in WAYS:
            send(site, version, way, knock, namespace=site.stranger)
        assert site.stranger_connects(version) == "silent"
    wait_until(lambda: running.log.count("reason=replayed") == len(WAYS) ** 2)


@pytest.mark.timing
@pytest.mark.parametrize("way", [ways.Icmp(), ways.Syn(SSH)], ids=["icmp", "syn"])
@pytest.mark.parametrize("rps", [False, True], ids=["one-cpu", "rps"])
def test_the_client_never_waits_whatever_way_it_knocks(site: Site, version: int, way: knocker.Way, rps: bool) -> None:
    """Twenty knocks, each with a connect right behind it: not one SYN is sent twice."""
    if rps:
        site.spread_packets_over_two_cpus()
    device = Device(server_key(site))
    knock = "{port: [udp/62201, udp/443], via: [udp, icmp, syn]}"
    site.write_rules(f"{SERVICES}clients:\n  laptop: {{key: {device.key}, services: [ssh]}}\nknock: {knock}\n")
    site.run()
    site.connect(version, port=9)  # so that the neighbours know each other
    for _ in range(20):
        send(site, version, way, device.knock())
        attempt = probe.connect(site.client, SERVER[version], SSH, timeout=3)
        assert (attempt.result, attempt.resent) == ("open", 0)
        send(site, version, way, device.knock(close=True))
        wait_until(lambda: not site.members("ssh", version))
