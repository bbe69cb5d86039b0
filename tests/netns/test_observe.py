"""Observing on a live machine: real rules, real decisions, and nothing that is dropped, cut or refused."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from gatekeeper.demo.server import Gatekeeper
from tests.netns.family import children, stop
from tests.netns.site import CLIENT, RULES, SERVER, SSH, STRANGER, UDP, WEB, Site, wait_until


@pytest.fixture
def running(request: pytest.FixtureRequest, site: Site) -> Gatekeeper:
    """Run what only observes, because the rules say so (or an option, which is the same but for other commands)."""
    if getattr(request, "param", "mode") == "option":
        return site.run("--observe")
    site.write_rules("mode: observe\n" + RULES)
    return site.run()


either = pytest.mark.parametrize("running", ["mode", "option"], indirect=True)


@pytest.mark.timing
def test_strangers_get_in_at_once_and_the_log_says_that_they_would_not(
    site: Site, version: int, running: Gatekeeper
) -> None:
    assert "only observes (nothing is dropped)" in running.log
    site.connect(version, port=9)  # so that the neighbours know each other
    attempt = probe.connect(site.stranger, SERVER[version], SSH, timeout=2)
    assert (attempt.result, attempt.resent) == ("open", 0)
    assert attempt.seconds < 0.09, "nobody is held back for a knock that may come"
    expected = f"would-refuse reason=no-grant source={STRANGER[version]} port=tcp/{SSH}"
    wait_until(lambda: expected in running.log)
    wait_until(lambda: site.status()["counters"].get("would-no-grant") == 1)
    assert site.status()["kernel"]["observes"] is True
    assert "NOTHING IS DROPPED" in site.ok("status")


def test_who_knocks_would_get_in_and_that_is_all_that_is_said(site: Site, version: int, running: Gatekeeper) -> None:
    """Also when the connect comes right behind the knock, or before it."""
    attempt = probe.connect(site.client, SERVER[version], SSH, timeout=2, knock=b"open_sesame")
    assert attempt.result == "open"
    wait_until(lambda: running.log.count(" opened ") == 2)
    assert site.connect(version) == "open"
    time.sleep(0.3)
    assert "would-refuse" not in running.log
    assert site.members("ssh", version) == [CLIENT[version]]
    assert site.connect(version, port=WEB) == "open"
    wait_until(lambda: f"port=tcp/{WEB}" in running.log)


@either
def test_a_close_says_what_it_would_cut_and_cuts_nothing(site: Site, version: int, running: Gatekeeper) -> None:
    with site.stream(version, knock=b"open_sesame") as stream:
        stream.recv(100)
        wait_until(lambda: bool(site.members("ssh", version)))
        site.knock(b"close_sesame", version)
        wait_until(lambda: "would-cut connections=1" in running.log)
        assert probe.until_end(stream, timeout=0.5) is None
        site.ok("grant", CLIENT[version], "ssh")
        site.ok("revoke", CLIENT[version])
        assert probe.until_end(stream, timeout=0.3) is None, "nor does a command"
    assert site.members("ssh", version) == []


def test_udp_flows_both_ways(site: Site, version: int, running: Gatekeeper) -> None:
    with site.udp_talker(), site.udp_socket(version) as one:
        one.send(b"hello")
        one.settimeout(1)
        assert one.recv(100) == b"tick"
    wait_until(lambda: "reason=no-grant" in running.log)
    assert running.log.count("reason=no-grant") == 1, "a flow is told of once"


@pytest.mark.usefixtures("running")
def test_what_flows_meets_no_python(site: Site, version: int) -> None:
    with site.stream(version) as stream:
        stream.recv(100)
        time.sleep(0.2)
        before = site.queued()
        for _ in range(50):
            stream.sendall(b"x" * 5000)
            stream.recv(65536)
        assert site.queued() == before


def test_when_the_worker_dies_everything_goes_on(site: Site, version: int, running: Gatekeeper) -> None:
    running.kill()
    wait_until(lambda: site.stranger_connects(version) == "open")  # what its queue had goes with it
    assert site.connect(version) == "open"


def test_never_and_refuse_are_only_told_too(site: Site, version: int) -> None:
    never = "never: [203.0.113.0/24, '2001:db8:f::/64']"
    site.write_rules(f"mode: observe\nrefuse: reset\n{never}\n{RULES}knock: {{via: [udp, icmp, syn]}}\n")
    running = site.run()
    assert site.stranger_connects(version) == "open"
    wait_until(lambda: "would-refuse reason=never" in running.log)
    site.knock(b"open_sesame", version, namespace=site.stranger)
    wait_until(lambda: "would-refuse reason=never client=laptop" in running.log)
    assert site.inside(site.stranger, "ping", "-c1", "-W1", SERVER[version]).returncode == 0
    assert site.members("ssh", version) == []


@either
def test_guarding_after_observing_closes_and_keeps_the_grants(site: Site, version: int, running: Gatekeeper) -> None:
    site.knock(b"open_sesame", version)
    wait_until(lambda: bool(site.members("ssh", version)))
    running.stop()
    assert "nothing is dropped" in running.log
    site.write_rules(RULES)
    site.run()
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"
    assert site.status()["kernel"]["observes"] is False


def test_without_sets_observing_is_the_same(site: Site, version: int) -> None:
    site.write_rules(f"mode: observe\n{RULES}firewall: {{backend: rules}}\n")
    running = site.run()
    assert site.stranger_connects(version) == "open"
    wait_until(lambda: "would-refuse reason=no-grant" in running.log)
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.status()["kernel"]["members"]["ssh"] == 1)
    site.ok("flush", "--stop")


def test_when_the_queue_is_full_packets_go_on(site: Site, version: int, running: Gatekeeper) -> None:
    """A worker that hangs, or a flood, must not shut anybody out of what is only observed."""
    worker = stop(children(running)["worker"])
    try:
        with inside(site.stranger):
            one = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with one:
            for _ in range(400):  # first packets of a flow that nobody answers: each is queued, and 256 fill it
                one.sendto(b"junk", (SERVER[version], UDP))
        wait_until(lambda: site.stranger_connects(version) == "open", seconds=2)
    finally:
        os.kill(worker, signal.SIGCONT)
