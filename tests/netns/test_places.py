"""Where the port really is: on a host behind this machine, or on one to which this machine translates its own."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence

import pytest
from scapy.layers.inet import IP, TCP, IPOption_LSRR
from scapy.layers.l2 import Ether

from gatekeeper.client import ways
from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, ip, ip_in
from gatekeeper.demo.service import tcp_echo
from tests.netns.site import CLIENT, SERVER, SSH, STRANGER, UDP, WEB, Site, wait_until

BEHIND = {4: "10.99.0.2", 6: "fd99::2"}
"""A host behind the server. It serves SSH, WEB and UDP, at all its addresses."""
ELSEWHERE = {4: "100.64.9.9", 6: "2001:db8:dead::9"}
"""Nobody's address."""
GATEWAY = {4: "10.99.0.1", 6: "fd99::1"}
LENGTH = {4: 24, 6: 64}
PUBLISHED = 8443
"""The server's port that is translated to WEB of the host behind; SSH + 1 and UDP are, to the same numbers."""
SAME = SSH + 1
AT = "['10.99.0.2', 'fd99::2']"
CLIENTS = "clients: {laptop: {open: open_sesame, close: close_sesame, services: [SERVICES]}}\n"


class Place:
    """A site with a host behind its server."""

    def __init__(self, site: Site, behind: str) -> None:
        self.site = site
        self.behind = behind

    def start(self, services: str, more: str = "", *options: str) -> None:
        names = ", ".join(line.split(":")[0].strip() for line in services.splitlines())
        clients = CLIENTS.replace("SERVICES", names)
        self.site.write_rules(f"services:\n{services}\n{clients}{more}")
        self.running = self.site.run(*options)

    def connect(self, address: str, *ports: int, namespace: str | None = None) -> list[str]:
        """Connect to ports, all at once; say of each how it went."""
        return list(probe.scan(namespace or self.site.client, address, ports, timeout=0.25).values())

    def stranger(self, address: str, *ports: int) -> list[str]:
        return self.connect(address, *ports, namespace=self.site.stranger)

    def stream(self, address: str, port: int) -> socket.socket:
        attempt, stream = probe.open_stream(self.site.client, address, port, timeout=2)
        assert stream is not None, attempt
        return stream

    def stream_at_once(self, version: int, address: str, port: int) -> socket.socket:
        """Knock and connect, with no sleep between; the first SYN must do."""
        self.site.knock(b"open_sesame", version)
        attempt, stream = probe.open_stream(self.site.client, address, port, timeout=3)
        assert stream is not None, attempt
        assert attempt.resent == 0, attempt
        return stream

    def knock_by_syn(self, address: str, port: int, payload: bytes) -> None:
        way = ways.Syn(port)
        with inside(self.site.client), way.open(probe.family_of(address)) as one:
            way.send(one, payload, way.aim(one, address), address)

    def is_tidy(self) -> None:
        """Nothing of gatekeeper's is left after a flush."""
        self.running.stop()
        self.site.ok("flush")
        for kind in ("nft", "legacy"):
            for tool in ("iptables", "ip6tables"):
                assert "GKEEPER" not in self.site.shell(f"{tool}-{kind}-save")


@pytest.fixture
def place(site: Site) -> Iterator[Place]:
    name = site.server.removesuffix("server") + "behind"
    ip("netns", "add", name)
    with contextlib.ExitStack() as stack:
        stack.callback(ip, "netns", "del", name)
        ip_in(name, "link", "set", "lo", "up")
        ip_in(site.server, "link", "add", "behind", "type", "veth", "peer", "name", "uplink", "netns", name)
        for version in (4, 6):
            nodad = ["nodad"] if version == 6 else []
            length = LENGTH[version]
            ip_in(site.server, "address", "add", f"{GATEWAY[version]}/{length}", "dev", "behind", *nodad)
            ip_in(name, "address", "add", f"{BEHIND[version]}/{length}", "dev", "uplink", *nodad)
        ip_in(site.server, "link", "set", "behind", "up")
        ip_in(name, "link", "set", "uplink", "up")
        for version in (4, 6):
            ip_in(name, f"-{version}", "route", "add", "default", "via", GATEWAY[version])
        site.sysctl("net.ipv4.ip_forward", 1)
        site.sysctl("net.ipv6.conf.all.forwarding", 1)
        for port in (SSH, WEB, SAME):
            stack.enter_context(tcp_echo(name, port))
        yield Place(site, name)


@pytest.fixture(params=[(4, "nft", "ipset"), (6, "legacy", "rules")], ids=["ipv4-nft-ipset", "ipv6-legacy-rules"])
def kind(request: pytest.FixtureRequest) -> tuple[int, str, str]:
    """IP version, variant of iptables, backend: what they have in common is tested elsewhere (test_backends)."""
    version, variant, backend = request.param
    return int(version), str(variant), f"firewall: {{variant: {variant}, backend: {backend}}}\n"


def translate(
    site: Site, variant: str = "nft", *, at: Sequence[str] = ("-m", "addrtype", "--dst-type", "LOCAL")
) -> None:
    """Publish ports of the host behind as Docker does: by DNAT, and with the server's address for what it sends."""
    for version, tool in ((4, f"iptables-{variant}"), (6, f"ip6tables-{variant}")):
        nat = (tool, "-t", "nat", "-A")
        host = BEHIND[version] if version == 4 else f"[{BEHIND[version]}]"
        for transport, outer, inner in (("tcp", PUBLISHED, WEB), ("tcp", SAME, SAME), ("udp", UDP, UDP)):
            what = ("-p", transport, "--dport", str(outer), *at)
            site.shell(*nat, "PREROUTING", *what, "-j", "DNAT", "--to-destination", f"{host}:{inner}")
        network = f"{BEHIND[version]}/{LENGTH[version]}"
        outwards = ("-s", network, "!", "-o", "behind")
        site.shell(*nat, "POSTROUTING", *outwards, "-j", "SNAT", "--to-source", SERVER[version])


def hears(one: socket.socket) -> bool:
    """Whether anything comes on a UDP socket, besides what has come already."""
    one.settimeout(0)
    for pause in (0.05, 0.1):  # what is on its way when a close is carried out may still come
        with contextlib.suppress(BlockingIOError):
            while one.recv(100):
                pass
        time.sleep(pause)
    with contextlib.suppress(BlockingIOError):
        return bool(one.recv(100))
    return False


def answers(*streams: socket.socket) -> list[bool]:
    """Whether a question comes back on TCP streams, within the time in which what was lost is sent again."""
    for one in streams:
        one.settimeout(0)
        with contextlib.suppress(OSError):
            one.send(b"and now?")
    time.sleep(0.7)
    found = []
    for one in streams:
        try:
            found.append(b"now" in one.recv(4096))
        except OSError:
            found.append(False)
    return found


FORWARD = f"""\
  own: {{port: tcp/{SSH}}}
  ssh: {{port: tcp/{SSH}, address: {AT}, guard: forward, ttl: 1s}}
  web: {{port: tcp/{WEB}, address: {AT}, guard: forward, established: cut}}
  echo: {{port: udp/{UDP}, address: {AT}, guard: forward}}"""
PUBLISH = f"""\
  ssh: {{port: tcp/{PUBLISHED}, guard: published, ttl: 1s}}
  web: {{port: tcp/{SAME}, guard: published, established: cut}}
  echo: {{port: udp/{UDP}, guard: published}}
  proxy: {{port: tcp/{WEB}, guard: published}}"""


def opens_keeps_and_cuts(place: Place, version: int, host: str, kept_port: int, cut_port: int) -> None:
    """At once by a knock; a stream outlives its grant where it may; a close ends all, for good."""
    site, ports = place.site, (kept_port, cut_port)
    assert place.stranger(host, *ports) == place.connect(host, *ports) == ["silent"] * 2
    with place.stream_at_once(version, host, kept_port) as kept, site.udp_socket(version, host) as talk:
        assert place.stranger(host, *ports) == ["silent"] * 2
        talk.send(b"hello")
        with place.stream(host, cut_port) as stream:
            wait_until(lambda: place.connect(host, kept_port) == ["silent"])
            assert probe.until_end(kept, timeout=0.1) is None
            assert probe.until_end(stream, timeout=0.1) is None
            assert hears(talk)
            site.knock(b"close_sesame", version)
            wait_until(lambda: place.connect(host, cut_port) == ["silent"])
            assert not hears(talk)
            for one in (kept, stream):
                one.send(b"are you there?")
            site.knock(b"open_sesame", version)
            wait_until(lambda: place.connect(host, *ports) == ["open"] * 2)
            talk.send(b"hello")
            assert hears(talk), "udp has no streams"
            assert not any(answers(kept, stream)), "it went on under a later grant"


def test_a_host_behind_is_guarded_on_the_way_to_it(place: Place, kind: tuple[int, str, str]) -> None:
    """By the addresses that the service names; the same port of this machine is another service's."""
    version, _, firewall = kind
    host = BEHIND[version]
    place.start(FORWARD, firewall)
    assert place.stranger(SERVER[version], SSH) == ["silent"]
    assert place.stranger(host, SAME) == ["open"], "what is not named is not guarded"
    with place.site.udp_talker(namespace=place.behind, at=(host,)):
        opens_keeps_and_cuts(place, version, host, SSH, WEB)
    assert place.connect(SERVER[version], SSH) == ["open"]
    place.is_tidy()


def test_a_published_port_is_guarded_before_it_is_translated(place: Place, kind: tuple[int, str, str]) -> None:
    """For a host behind too, and where a program of this machine serves it; not at the inner address, nor for us."""
    version, variant, firewall = kind
    host, site = SERVER[version], place.site
    translate(site, variant)
    place.start(PUBLISH, firewall)
    assert place.stranger(host, WEB) == place.connect(host, WEB, namespace=place.behind) == ["silent"]
    assert place.connect(host, WEB, namespace=site.server) == ["open"], "loopback"
    assert place.stranger(BEHIND[version], WEB) == ["open"], "its inner address is not guarded"
    with site.udp_talker(namespace=place.behind, at=(BEHIND[version],)):
        opens_keeps_and_cuts(place, version, host, PUBLISHED, SAME)
    with place.stream(host, WEB) as proxied:
        site.knock(b"close_sesame", version)
        assert probe.until_end(proxied, timeout=1) is not None
    place.is_tidy()


OWN = 2300
"""The server's port that is translated to its own SSH."""
BY_HAND = f"""\
  ssh: {{port: tcp/{PUBLISHED}-{PUBLISHED + 1}, guard: published}}
  echo: {{port: udp/{UDP}, guard: published, established: cut}}
  own: {{port: tcp/{OWN}, guard: published, always: ['{STRANGER[4]}', '{STRANGER[6]}']}}
  inner: {{port: tcp/{SAME}, guard: published}}
  behind: {{port: tcp/{SAME}, guard: forward, address: {AT}}}"""


def test_a_translation_that_names_no_address_leads_nobody_in_by_anothers(
    place: Place, kind: tuple[int, str, str]
) -> None:
    """But who is let in where the port is published comes by it; what is guarded behind it too is let in there."""
    version, variant, firewall = kind
    site, host, other = place.site, SERVER[version], ELSEWHERE[version]
    translate(site, variant, at=())
    for tool in (f"iptables-{variant}", f"ip6tables-{variant}"):
        to = ("-p", "tcp", "--dport", str(OWN), "-j", "REDIRECT", "--to-ports", str(SSH))
        site.shell(tool, "-t", "nat", "-A", "PREROUTING", *to)
    assert place.stranger(other, PUBLISHED, OWN) == ["open"] * 2
    with contextlib.ExitStack() as stack:
        stack.enter_context(site.udp_talker(namespace=place.behind, at=(BEHIND[version],)))
        ours, others = (stack.enter_context(site.udp_socket(version, address)) for address in (host, other))
        for one in (others, ours):
            one.send(b"hello")
            wait_until(lambda one=one: hears(one))  # type: ignore[misc]
        place.start(BY_HAND, firewall)
        assert not hears(others)
        assert not hears(ours), "udp has no streams that could live on, whoever sends"
        assert place.stranger(other, PUBLISHED, SAME, OWN) == ["silent"] * 3
        assert place.stranger(host, PUBLISHED, SAME, OWN) == ["silent", "silent", "open"]
        place.stream_at_once(version, host, PUBLISHED).close()
        assert place.connect(host, SAME, OWN) == ["open"] * 2
        assert place.connect(other, PUBLISHED, SAME, OWN) == ["silent", "open", "silent"]
        with site.udp_socket(version, other) as fresh:
            fresh.send(b"hello")
            assert not hears(fresh)
        ours.send(b"hello")
        wait_until(lambda: hears(ours))
    place.is_tidy()


BOTH = f"""\
  behind: {{port: [tcp/{SSH}, udp/{UDP}], address: {AT}, guard: forward}}
  outside: {{port: [tcp/{PUBLISHED}, udp/{UDP}], guard: published}}"""


@pytest.mark.parametrize(("version", "variant"), [(4, "legacy"), (6, "nft")])
def test_refusals_come_in_the_name_of_the_host_that_was_asked(place: Place, version: int, variant: str) -> None:
    """And what was cut is reset; no packet leaves with our mark. A knock in a SYN opens there too."""
    site = place.site
    translate(site, variant)
    place.start(BOTH, f"refuse: reset\nknock: {{via: [udp, syn]}}\nfirewall: {{variant: {variant}}}\n")
    tool = f"{'iptables' if version == 4 else 'ip6tables'}-{variant}"
    marked = ("POSTROUTING", "-p", "tcp", "-m", "mark", "--mark", "0x20000000/0x20000000")
    site.shell(tool, "-t", "mangle", "-A", *marked)
    for host, port in ((BEHIND[version], SSH), (SERVER[version], PUBLISHED)):
        assert place.stranger(host, port) == ["refused"]
        with site.udp_socket(version, host) as talk:
            talk.settimeout(1)
            talk.send(b"hello")
            with pytest.raises(ConnectionRefusedError):
                talk.recv(100)
        for knock, way in ((b"open_sesame", "open"), (b"close_sesame", "refused")):
            place.knock_by_syn(host, port, knock)
            wait_until(lambda host=host, port=port, way=way: place.connect(host, port) == [way])  # type: ignore[misc]
        with place.stream_at_once(version, host, port) as stream:
            stream.recv(100)
            site.knock(b"close_sesame", version)
            end = probe.until_end(stream, timeout=1)
            assert end is not None
            assert "reset" in end[1]
        assert place.stranger(host, port) == ["refused"]
    assert f"[0:0] -A {' '.join(marked)}" in site.shell(f"{tool}-save", "-c", "-t", "mangle").splitlines()


def test_both_places_can_be_observed(place: Place) -> None:
    """Strangers get in at once, and the log says that they would not."""
    version = 6
    translate(place.site)
    place.start(BOTH, "", "--observe")
    for host, port in ((BEHIND[version], SSH), (SERVER[version], PUBLISHED)):
        assert place.stranger(host, port) == ["open"]
        wait_until(lambda port=port: f"port=tcp/{port}" in place.running.log)  # type: ignore[misc]
    assert place.running.log.count("would-refuse reason=no-grant") == 2
    place.site.knock(b"open_sesame", version)
    wait_until(lambda: place.running.log.count(" opened ") == 2)
    assert place.connect(BEHIND[version], SSH) == ["open"]
    with place.stream(SERVER[version], PUBLISHED) as stream:
        place.site.knock(b"close_sesame", version)
        wait_until(lambda: "would-cut connections=" in place.running.log)
        assert probe.until_end(stream, timeout=0.2) is None


def test_what_runs_through_when_it_is_first_guarded_lives_on(place: Place) -> None:
    """As far as the kernel tracks it, which it does where it translates; a close by hand cuts it."""
    translate(place.site)
    streams = [place.stream(*to) for to in ((BEHIND[4], SSH), (SERVER[4], PUBLISHED))]
    place.start(BOTH)
    assert answers(*streams) == [True, True]
    assert place.connect(BEHIND[4], SSH) == place.connect(SERVER[4], PUBLISHED) == ["silent"]
    place.site.ok("revoke", CLIENT[4])
    assert answers(*streams) == [False, False]
    for one in streams:
        one.close()


def test_an_interface_is_the_one_by_which_packets_come(place: Place) -> None:
    """On others these places are as if gatekeeper were not there."""
    translate(place.site, at=())
    services = "\n".join(line[:-1] + ", interface: stranger}" for line in BOTH.splitlines())
    place.start(services)
    for host, port in ((BEHIND[4], SSH), (SERVER[4], PUBLISHED), (ELSEWHERE[4], PUBLISHED)):
        assert place.connect(host, port) == ["open"]
        assert place.stranger(host, port) == ["silent"]
    place.site.knock(b"open_sesame", 4, namespace=place.site.stranger)
    wait_until(lambda: place.stranger(BEHIND[4], SSH) == place.stranger(SERVER[4], PUBLISHED) == ["open"])


def test_a_close_spares_what_passes_by_to_the_same_port_elsewhere(place: Place) -> None:
    """A gateway may translate the sources of what it forwards; that is nothing of a published port's."""
    site = place.site
    translate(site)
    site.shell("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "behind", "-j", "MASQUERADE")
    place.start(PUBLISH)
    with place.stream(BEHIND[4], SAME) as passing, place.stream_at_once(4, SERVER[4], SAME) as stream:
        site.knock(b"close_sesame", 4)
        assert probe.until_end(stream, timeout=1) is not None
        flow = f"dst={BEHIND[4]} sport={passing.getsockname()[1]} dport={SAME}"
        assert flow in site.shell("conntrack", "-L", "-f", "ipv4")


def test_what_is_broadcast_to_a_published_port_needs_a_grant_too(place: Place) -> None:
    """It is for none of this machine's addresses, and a program that serves the port hears it."""
    site = place.site
    place.start(PUBLISH)
    site.knock(b"open_sesame", 4)
    wait_until(lambda: " opened " in place.running.log)
    with contextlib.ExitStack() as stack:
        ones = []
        for namespace in (site.server, site.stranger, site.client):
            with inside(namespace):
                ones.append(stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        served, *senders = ones
        served.bind(("", UDP))
        served.settimeout(2)
        for one, net in zip(senders, ("203.0.113", "198.51.100"), strict=True):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            one.sendto(b"all", (f"{net}.255", UDP))
        assert served.recvfrom(100)[1][0] == CLIENT[4]


def test_source_routing_is_no_way_round(place: Place) -> None:
    """It names this machine until it has passed the rules; a machine must be told to take part in it."""
    site = place.site
    for name in ("all", "client"):
        site.sysctl(f"net.ipv4.conf.{name}.accept_source_route", 1)
    place.start(FORWARD)
    with inside(place.behind):
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    with inside(site.client):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with link, raw:
        link.bind(("uplink", 0))
        link.settimeout(2)
        for port in (SSH, WEB, SAME):  # the last is not guarded, and shows that the others would have come
            head = IP(src=CLIENT[4], dst=SERVER[4], options=[IPOption_LSRR(routers=[BEHIND[4]])])
            raw.sendto(bytes(head / TCP(sport=4444, dport=port, flags="S")), (SERVER[4], 0))
        while TCP not in (frame := Ether(link.recv(2048))):
            pass
        assert frame[TCP].dport == SAME
