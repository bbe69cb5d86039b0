"""Running connections live on when their port is guarded for the first time, also without conntrack until then."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import ip_address
from itertools import product

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from gatekeeper.firewall import conntrack
from gatekeeper.firewall.conntrack import Flows
from gatekeeper.networks import Connection
from gatekeeper.settings import Ports, Transport
from tests.netns import family
from tests.netns.site import CLIENT, SERVER, SSH, STRANGER, WEB, Site, wait_until

BOTH = (4, 6)
KEEPS = f"""\
services:
  ssh: {{port: [tcp/{SSH}, tcp/{SSH + 1}], ttl: 1h}}
clients:
  laptop: {{open: open_sesame, close: close_sesame, services: [ssh]}}
"""
CUTS = f"""\
services:
  web: {{port: [tcp/{WEB}, udp/{WEB}], ttl: 10m, established: cut}}
  ssh: {{port: tcp/{SSH}, ttl: 1h, established: cut, never: [{CLIENT[4]}, {CLIENT[6]}]}}
clients:
  laptop: {{open: open_sesame, close: close_sesame, services: [ssh, web]}}
"""


@contextmanager
def quiet(site: Site, version: int, number: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connect the client to a port that does not speak by itself; yield the server's ends and the client's."""
    with ExitStack() as stack:
        with inside(site.server):
            listener = socket.create_server((SERVER[version], SSH + 1), family=probe.family_of(SERVER[version]))
        pairs = []
        with listener:
            for _ in range(number):
                _, stream = probe.open_stream(site.client, SERVER[version], SSH + 1, timeout=3)
                assert stream is not None
                served, _ = listener.accept()
                served.settimeout(3)
                pairs.append((stack.enter_context(served), stack.enter_context(stream)))
        yield pairs


def say(*pairs: tuple[socket.socket, socket.socket]) -> None:
    """Let one end of each pair speak, and the other hear it."""
    for speaker, listener in pairs:
        speaker.sendall(b"ping")
        assert listener.recv(4) == b"ping"


def flows(site: Site, version: int) -> list[str]:
    """List the flows of TCP that the server's kernel tracks."""
    return site.shell("conntrack", "-L", "-f", f"ipv{version}", "-p", "tcp").splitlines()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_open_streams_live_on_where_nothing_was_tracked(site: Site, variant: str) -> None:
    """Busy ones and idle ones, whoever speaks first; strangers stay out; a revoke cuts them."""
    site.write_rules(f"{KEEPS}firewall: {{variant: {variant}}}\n")
    with ExitStack() as stack:
        busy = {version: stack.enter_context(site.stream(version)) for version in BOTH}
        idle = {version: stack.enter_context(quiet(site, version, 2)) for version in BOTH}
        assert not flows(site, 4) + flows(site, 6), "conntrack is on already: this shows nothing"
        running = site.run()
        assert "open connections that live on without a grant: 6;" in running.log
        for version in BOTH:
            assert probe.until_end(busy[version], timeout=0.2) is None
            (served, stream), (other_served, other_stream) = idle[version]
            say((served, stream), (other_stream, other_served), (stream, served))
            assert site.connect(version, namespace=site.stranger, timeout=0.3) == "silent"
            assert site.connect(version, timeout=0.3) == "silent", "an open stream is no grant"
        # a client's own close cuts nothing where it was never granted: its sender can be forged
        site.knock(b"close_sesame", 4)
        wait_until(lambda: "closed client=laptop" in running.log)
        assert probe.until_end(busy[4], timeout=0.3) is None
        site.knock(b"open_sesame", 4)
        wait_until(lambda: site.members("ssh", 4) != [])
        site.knock(b"close_sesame", 4)
        ended = probe.until_end(busy[4], timeout=1)
        assert ended is not None
        assert "reset" in ended[1]
        assert "cut 3 connections" in site.ok("revoke", CLIENT[6])
        ended = probe.until_end(busy[6], timeout=1)
        assert ended is not None
        assert "reset" in ended[1]


def test_flows_that_are_tracked_already_keep_their_marks_and_are_turned_round(site: Site) -> None:
    """Also where it was only observed until now; a flow that the server's packet began can be cut as any other."""
    site.write_rules(f"mode: observe\n{KEEPS}")
    with ExitStack() as stack:
        pairs = {version: stack.enter_context(quiet(site, version, 2)) for version in BOTH}
        for iptables, chain in product(("iptables", "ip6tables"), ("INPUT", "OUTPUT")):
            site.shell(iptables, "-t", "mangle", "-A", chain, "-j", "CONNMARK", "--set-xmark", "0x4/0x4")
        for version in BOTH:
            (served, stream), (other_served, other_stream) = pairs[version]
            say((served, stream), (other_stream, other_served))
            begun_by = [line.split()[4] for line in flows(site, version)]
            assert sorted(begun_by) == sorted([f"src={SERVER[version]}", f"src={CLIENT[version]}"])
        site.run().stop()
        site.write_rules(KEEPS)
        running = site.run()
        assert "open connections that live on without a grant: 4;" in running.log
        for version in BOTH:
            assert [line.split()[4] for line in flows(site, version)] == [f"src={CLIENT[version]}"] * 2
            assert all(f" mark={0x2000_0004} " in line for line in flows(site, version))
            (served, stream), (other_served, other_stream) = pairs[version]
            say((served, stream), (stream, served), (other_served, other_stream))
        running.kill()
        assert "live on" not in site.run().log, "a restart takes over nobody"
        for version in BOTH:
            assert "cut 2 connections" in site.ok("revoke", CLIENT[version])
            assert flows(site, version) == []


def test_peers_of_a_service_that_cuts_get_a_grant(site: Site) -> None:
    """For its ttl, and at most an hour. None gets who is in ``never``, or was revoked while it was only observed."""
    site.write_rules(f"mode: observe\n{CUTS}")
    with ExitStack() as stack:
        web = {version: stack.enter_context(site.stream(version, port=WEB)) for version in BOTH}
        never = stack.enter_context(site.stream(4, port=SSH))
        _, revoked = probe.open_stream(site.stranger, SERVER[4], WEB, timeout=3)
        assert revoked is not None
        stack.enter_context(revoked)
        observing = site.run()
        site.ok("grant", STRANGER[4], "web")
        site.ok("revoke", STRANGER[4])
        observing.kill()
        assert probe.until_end(revoked, timeout=0.2) is None
        site.write_rules(CUTS)
        running = site.run()
        assert probe.until_end(revoked, timeout=1) is not None
        grants = site.status()["grants"]
        assert {(one["client"], one["source"], one["service"]) for one in grants} == {
            ("(admin)", CLIENT[version], "web") for version in BOTH
        }
        assert all(500 < one["seconds_left"] <= 600 for one in grants)
        family.kill(running, "keeper")
        wait_until(lambda: " replaced " in running.log)
        assert running.log.count(" granted web to ") == 2, "only a start lets in"
        assert probe.until_end(never, timeout=1) is not None
        for version in BOTH:
            assert f"granted web to {CLIENT[version]} until " in running.log
            assert f"`gatekeeper revoke {CLIENT[version]} web` takes it back" in running.log
            assert probe.until_end(web[version], timeout=0.2) is None
            assert site.connect(version, namespace=site.stranger, port=WEB, timeout=0.3) == "silent"
            site.ok("revoke", CLIENT[version])
            assert probe.until_end(web[version], timeout=1) is not None


def test_flows_to_what_is_served_elsewhere_are_found_by_where_they_went(site: Site, version: int) -> None:
    """A translated target is what the world sees; half-open connections and other ports are not among them."""
    seen, ports = SSH + 7, Ports(Transport.TCP, SSH + 7)
    iptables = "iptables" if version == 4 else "ip6tables"
    redirect = ["-p", "tcp", "--dport", str(seen), "-j", "REDIRECT", "--to-port"]
    site.shell(iptables, "-t", "nat", "-A", "PREROUTING", *redirect, str(SSH))
    with site.stream(version, port=seen) as stream, site.stream(version, port=WEB), inside(site.server):
        ours, mark = ip_address(SERVER[version]), 0x2000_0000
        expected = Connection(ours, seen, ip_address(CLIENT[version]), stream.getsockname()[1])
        every, elsewhere = Flows(ports), Flows(ports, (ip_address("192.0.2.99"),))
        assert conntrack.open_flows(every) == conntrack.open_flows(Flows(ports, (ours,))) == [expected]
        assert conntrack.open_flows(elsewhere) == []
        with closing(conntrack.FlowMarker(mark)) as marker:
            assert marker.put_tracked(expected)
            assert not marker.put_tracked(expected._replace(peer_port=1))
        assert [f"dport={seen} " in line for line in flows(site, version) if f" mark={mark} " in line] == [True]
