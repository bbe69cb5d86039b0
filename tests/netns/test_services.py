"""What rules.yaml may say of services and clients, seen from the outside: ports, places, networks, hours, prefixes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, ip_in
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.demo.service import tcp_echo
from tests.netns.site import CLIENT, SERVER, SSH, STRANGER, UDP, WEB, Site, wait_until

WARPED = str(Path(__file__).with_name("warped.py"))
NETWORK = {4: "198.51.100.0/24", 6: "2001:db8:c::/64"}
ELSEWHERE = {4: "203.0.113.0/24", 6: "2001:db8:f::/64"}
SECOND = {4: "192.0.2.9", 6: "2001:db8::9"}
"""Another address of the server's."""
NODAD: dict[int, list[str]] = {4: [], 6: ["nodad"]}


@pytest.fixture(params=["ipset", "rules"])
def backend(request: pytest.FixtureRequest) -> str:
    return f"firewall: {{backend: {request.param}}}\n"


def start(site: Site, services: str, clients: str = "", more: str = "") -> None:
    clients = clients or "laptop: {open: open_sesame, close: close_sesame, services: [it]}"
    site.write_rules(f"services:\n  it: {services}\nclients:\n  {clients}\n{more}")
    site.run()


def opens(site: Site, version: int, port: int = SSH, knock: bytes = b"open_sesame") -> None:
    site.knock(knock, version)
    wait_until(lambda: site.connect(version, port=port, timeout=0.3) == "open")


# -- ports


def test_ranges_and_lists_of_ports_are_guarded_and_opened_as_one(site: Site, version: int, backend: str) -> None:
    with tcp_echo(site.server, 6000), tcp_echo(site.server, 6010), tcp_echo(site.server, 6011):
        start(site, f"{{port: [tcp/{SSH}, tcp/6000-6010]}}", more=backend)
        assert {site.connect(version, port=port, timeout=0.3) for port in (SSH, 6000, 6010)} == {"silent"}
        assert site.connect(version, port=6011) == "open", "it is not guarded"
        opens(site, version)
        assert {site.connect(version, port=port) for port in (SSH, 6000, 6010)} == {"open"}
        assert {site.stranger_connects(version, port) for port in (SSH, 6000, 6010)} == {"silent"}
        with (
            site.stream(version, port=6005 + 5) as stream,
            site.stream(version) as other,
            site.stream(version, port=6011) as unguarded,
        ):
            site.knock(b"close_sesame", version)
            for one in (stream, other):
                assert probe.until_end(one, timeout=2) is not None
            assert probe.until_end(unguarded, timeout=0.3) is None, "what is not guarded is not cut"
        assert {site.connect(version, port=port, timeout=0.3) for port in (SSH, 6000, 6010)} == {"silent"}


def test_nmap_finds_none_of_a_range(site: Site, version: int) -> None:
    start(site, "{port: tcp/6000-6100}")
    options = ["-Pn", "-n", "-T5", "--max-retries", "0", "-p", "6000-6100", *(["-6"] if version == 6 else [])]
    report = site.inside(site.stranger, "nmap", "-sS", *options, SERVER[version]).stdout
    assert "All 101 scanned ports" in report
    assert "101 filtered" in report or "no-response" in report, report


def test_a_service_of_tcp_and_udp_keeps_the_one_and_cuts_the_other_when_time_is_up(
    site: Site, version: int, backend: str
) -> None:
    start(site, f"{{port: [tcp/{SSH}, udp/{UDP}], ttl: 2s}}", more=backend)
    with site.udp_talker(), site.udp_socket(version) as one:
        opens(site, version)
        with site.stream(version) as stream:
            one.send(b"hello")
            one.settimeout(1)
            assert one.recv(100) == b"tick"
            time.sleep(1.5)
            wait_until(lambda: site.connect(version) == "silent")
            wait_until(lambda: is_quiet(one), seconds=2)
            assert probe.until_end(stream, timeout=0.3) is None, "tcp lives on"


def is_quiet(one: socket.socket) -> bool:
    """Whether nothing comes for a time in which the talker sends 30 datagrams."""
    one.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while one.recv(100):
            pass
    return not select.select([one], [], [], 0.3)[0]


# -- places


@pytest.fixture
def second(site: Site) -> None:
    for version, address in SECOND.items():
        network = f"{address}/{32 if version == 4 else 128}"
        ip_in(site.server, "address", "add", network, "dev", "lo", *NODAD[version])


def at(site: Site, address: str, *, namespace: str = "") -> str:
    return probe.connect(namespace or site.client, address, SSH, timeout=0.4).result


@pytest.mark.usefixtures("second")
def test_a_service_guards_only_the_addresses_that_it_names(site: Site, version: int) -> None:
    start(site, f"{{port: tcp/{SSH}, address: [{SERVER[4]}, '{SERVER[6]}']}}")
    assert at(site, SERVER[version]) == "silent"
    assert at(site, SECOND[version]) == "open"
    opens(site, version)
    attempt, spared = probe.open_stream(site.client, SECOND[version], SSH, timeout=2)
    assert spared is not None, attempt
    with spared, site.stream(version) as stream:
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=2) is not None
        assert probe.until_end(spared, timeout=0.3) is None, "at that address nothing is guarded, and nothing is cut"


@pytest.mark.usefixtures("second")
def test_two_services_may_guard_one_port_at_different_addresses(site: Site, version: int) -> None:
    first, other = (f"['{place[4]}', '{place[6]}']" for place in (SERVER, SECOND))
    start(
        site,
        f"{{port: tcp/{SSH}, address: {first}}}\n  other: {{port: tcp/{SSH}, address: {other}}}",
        "laptop: {open: open_sesame, services: [it]}\n  desk: {open: open_desk, services: [other]}",
    )
    assert (at(site, SERVER[version]), at(site, SECOND[version])) == ("silent", "silent")
    site.knock(b"open_desk", version)
    wait_until(lambda: at(site, SECOND[version]) == "open")
    assert at(site, SERVER[version]) == "silent"
    opens(site, version)
    assert at(site, SECOND[version], namespace=site.stranger) == "silent"


def test_a_service_guards_only_the_interfaces_that_it_names(site: Site, version: int) -> None:
    """The server's links are called after who is at their other end."""
    start(site, f"{{port: tcp/{SSH}, interface: [strang+]}}")
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"
    site.knock(b"open_sesame", version, namespace=site.stranger)
    wait_until(lambda: site.stranger_connects(version) == "open")


# -- networks


def test_always_needs_no_knock_and_meets_no_python(site: Site, version: int, backend: str) -> None:
    start(site, f"{{port: tcp/{SSH}, always: [{NETWORK[4]}, '{NETWORK[6]}']}}", more=backend)
    before = site.queued()
    assert site.connect(version) == "open"
    assert site.queued() == before
    assert site.stranger_connects(version) == "silent"
    with site.stream(version) as stream:
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=0.5) is None, "a close ends grants, and this is none"


@pytest.mark.parametrize(("backend", "place"), [("ipset", "top"), ("rules", "service")], indirect=["backend"])
def test_never_is_dropped_by_the_kernel_whatever_it_knocks(site: Site, version: int, backend: str, place: str) -> None:
    networks = f"never: [{ELSEWHERE[4]}, '{ELSEWHERE[6]}']"
    service = f"{{port: tcp/{SSH}{', ' + networks if place == 'service' else ''}}}"
    start(site, service, more=backend + (networks if place == "top" else ""))
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version, timeout=0.3) == "open")
    before = site.queued()
    assert site.stranger_connects(version) == "silent"
    assert site.queued() == before
    site.knock(b"open_sesame", version, namespace=site.stranger)
    time.sleep(0.2)
    assert site.queued() - before == (0 if place == "top" else 1)
    assert site.stranger_connects(version) == "silent"
    done = site.command("grant", STRANGER[version], "it")
    assert done.returncode == 1
    assert "the rules never let" in done.stderr


def test_a_grant_of_a_network_that_is_banned_since_ends_and_its_streams_too(site: Site, version: int) -> None:
    start(site, f"{{port: tcp/{SSH}}}")
    site.ok("grant", STRANGER[version], "it")
    attempt, stream = probe.open_stream(site.stranger, SERVER[version], SSH, timeout=2)
    assert stream is not None, attempt
    with stream:
        restart(site, site.rules.read_text() + f"never: [{ELSEWHERE[4]}, '{ELSEWHERE[6]}']\n")
        assert probe.until_end(stream, timeout=2) is not None
    assert site.stranger_connects(version) == "silent"
    assert site.status()["grants"] == []


def restart(site: Site, text: str) -> None:
    """Stop the server that runs, and start one with other rules."""
    pid = site.status()["pid"]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: site.status()["pid"] is None)
    site.write_rules(text)
    site.run()


# -- clients


def test_several_clients_of_one_service_do_not_disturb_each_other(site: Site, version: int) -> None:
    laptop = "laptop: {open: open_sesame, close: close_sesame, services: [it]}"
    clients = f"{laptop}\n  desk: {{open: open_desk, close: close_desk, services: [it]}}"
    start(site, f"{{port: tcp/{SSH}}}", clients)
    opens(site, version)
    site.knock(b"open_desk", version, namespace=site.stranger)
    wait_until(lambda: site.stranger_connects(version) == "open")
    site.knock(b"close_desk", version)  # for an address that it never had
    site.knock(b"close_sesame", version)
    wait_until(lambda: site.connect(version, timeout=0.3) == "silent")
    assert site.stranger_connects(version) == "open"


def test_a_prefix_opens_for_the_senders_network_and_never_for_more(site: Site, version: int, backend: str) -> None:
    """A carrier's UDP and TCP may leave from different addresses of one network."""
    clients = "laptop: {open: open_sesame, close: close_sesame, services: [it], prefix: {ipv4: 24, ipv6: 56}}"
    start(site, f"{{port: tcp/{SSH}}}", clients, backend)
    for number, expected in ((0, "open"), (1, "silent")):
        with other_address(site, version, neighbour(version, number)) as source:
            if number == 0:
                from_address(site, version, source, b"open_sesame")
                wait_until(lambda: len(site.status()["grants"]) == 1)
        with other_address(site, version, neighbour(version, number, host=9)) as source:
            assert connects_from(site, version, source) == expected
    (grant,) = site.status()["grants"]
    assert grant["source"].endswith("/24" if version == 4 else "/56")
    with other_address(site, version, neighbour(version, 0, host=5)) as source:
        from_address(site, version, source, b"close_sesame")
        wait_until(lambda: site.status()["grants"] == [])


def neighbour(version: int, network: int, *, host: int = 3) -> str:
    """Return an address of MANY in the first /24 (or /56 beside it), or in the next one."""
    return f"198.18.{network}.{host}" if version == 4 else f"2001:db8:cc:{network * 0x100:x}::{host}"


@contextlib.contextmanager
def other_address(site: Site, version: int, address: str) -> Iterator[str]:
    """Let the client send from one more address."""
    network = f"{address}/{32 if version == 4 else 128}"
    ip_in(site.server, f"-{version}", "route", "replace", network, "via", CLIENT[version])
    ip_in(site.client, "address", "add", network, "dev", "lo", *NODAD[version])
    yield address
    ip_in(site.client, "address", "del", network, "dev", "lo")


def from_address(site: Site, version: int, source: str, payload: bytes) -> None:
    with inside(site.client):
        one = socket.socket(probe.family_of(source), socket.SOCK_DGRAM)
    with one:
        one.bind((source, 0))
        one.sendto(payload, (SERVER[version], 62201))


def connects_from(site: Site, version: int, source: str) -> str:
    with inside(site.client):
        one = socket.socket(probe.family_of(source), socket.SOCK_STREAM)
    with one:
        one.settimeout(0.5)
        one.bind((source, 0))
        try:
            one.connect((SERVER[version], SSH))
        except TimeoutError:
            return "silent"
    return "open"


# -- hours


def at_clock(site: Site, rules: str, moment: str) -> Gatekeeper:
    """Run with a clock that says something else: the hours of Berlin on 2026-11-25, a Wednesday."""
    file = site.directory / "clock"
    wanted = datetime.fromisoformat(f"2026-11-25T{moment}").replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    file.write_text(str(wanted - time.time()))
    site.write_rules(rules)
    return site.run(program=[sys.executable, WARPED, str(file), "-"])


@pytest.mark.parametrize("whose", ["service", "client"])
def test_outside_its_hours_nothing_opens_and_with_them_grants_end(site: Site, version: int, whose: str) -> None:
    hours = ", when: Mon-Fri 08:00-18:00 Europe/Berlin"
    rules = (
        f"services:\n  ssh: {{port: tcp/{SSH}, ttl: 1h{hours if whose == 'service' else ''}}}\n"
        f"  web: {{port: tcp/{WEB}}}\n"
        f"clients:\n  laptop: {{open: open_sesame, services: [ssh]{hours if whose == 'client' else ''}}}\n"
        "  desk: {open: open_desk, services: [ssh, web]}\n"
    )
    running = at_clock(site, rules, "17:59:54")
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version, timeout=0.3) == "open")
    assert " expired " not in running.log
    wait_until(lambda: " expired client=laptop" in running.log, seconds=10)
    assert site.connect(version, timeout=0.3) == "silent"
    site.knock(b"open_sesame", version)
    wait_until(lambda: "refused reason=outside-hours client=laptop" in running.log)
    assert site.connect(version, timeout=0.3) == "silent"
    site.knock(b"open_desk", version)
    wait_until(lambda: site.connect(version, port=WEB, timeout=0.3) == "open")
    assert site.connect(version, timeout=0.3) == ("silent" if whose == "service" else "open")
