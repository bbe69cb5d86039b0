"""`refuse: reset`: protected ports look closed, as on a machine without a firewall; and are no more open for that."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from tests.netns.site import RULES, SERVER, SSH, UDP, WEB, Site, wait_until

CLOSED, CLOSED_UDP = 2299, 5399
"""Ports that nobody guards, and where nobody listens: the kernel answers by itself."""


@pytest.fixture(autouse=True)
def _rules(site: Site) -> None:
    site.write_rules(f"refuse: reset\n{RULES}")


def test_a_stranger_is_refused_and_whoever_knocks_gets_in(site: Site, version: int) -> None:
    site.run()
    assert site.stranger_connects(version) == "refused"
    assert site.connect(version) == "refused"
    attempt = probe.connect(site.client, SERVER[version], SSH, timeout=2, knock=b"open_sesame")
    assert attempt.result == "open", "right behind the knock"
    assert site.stranger_connects(version) == "refused"
    site.knock(b"close_sesame", version)
    wait_until(lambda: site.connect(version) == "refused")


@pytest.mark.timing
def test_a_refusal_comes_before_a_scanner_takes_it_for_silence(site: Site, version: int) -> None:
    """A scanner such as nmap waits for 100 ms at least; a knock that comes later than that is refused here."""
    site.run()
    site.connect(version, namespace=site.stranger, port=9)
    for _ in range(5):
        attempt = probe.connect(site.stranger, SERVER[version], SSH, timeout=2)
        assert attempt.result == "refused"
        assert attempt.seconds < 0.09


@pytest.mark.timing
def test_nmap_finds_no_difference_to_a_port_where_nobody_listens(site: Site, version: int) -> None:
    """Whatever it sends: SYN, connect, ACK, FIN, Xmas, Null, Window, Maimon; and UDP."""
    site.run()
    site.connect(version, namespace=site.stranger, port=9)
    for kind in ("-sS", "-sT", "-sA", "-sF", "-sX", "-sN", "-sW", "-sM"):
        states = scanned(site, version, kind, "tcp", f"{SSH},{WEB},{CLOSED}")
        assert states[SSH] == states[WEB] == states[CLOSED], (kind, states)
        assert "filtered" not in states[SSH].split(), states
    states = scanned(site, version, "-sU", "udp", f"{UDP},62201,{CLOSED_UDP}")
    assert states[UDP] == states[62201] == states[CLOSED_UDP], states
    assert states[UDP].startswith("closed"), states


def scanned(site: Site, version: int, kind: str, transport: str, ports: str) -> dict[int, str]:
    """Return what nmap says of each port, and why (with the TTL of the answer)."""
    options = [
        "-Pn",
        "-n",
        "-T4",
        "--max-retries",
        "2",
        "--reason",
        "-v",
        "-p",
        ports,
        *(["-6"] if version == 6 else []),
    ]
    report = site.inside(site.stranger, "nmap", kind, *options, SERVER[version]).stdout
    rows = re.findall(rf"^(\d+)/{transport}\s+(\S+)\s+\S+\s+(.*)$", report, re.MULTILINE)
    assert len(rows) == ports.count(",") + 1, report
    return {int(port): f"{state} {reason}" for port, state, reason in rows}


def test_who_is_never_let_in_is_refused_like_anybody(site: Site, version: int) -> None:
    site.write_rules(f"refuse: reset\nnever: [203.0.113.0/24, '2001:db8:f::/64']\n{RULES}")
    site.run()
    assert site.stranger_connects(version) == "refused"
    site.knock(b"open_sesame", version, namespace=site.stranger)
    time.sleep(0.2)
    assert site.stranger_connects(version) == "refused"


def test_without_a_worker_it_is_silent_and_nobody_gets_in(site: Site, version: int) -> None:
    site.run().kill()
    assert site.stranger_connects(version) == "silent"


def test_nothing_that_befalls_the_filter_table_opens(site: Site, version: int) -> None:
    site.run()
    for tool in ("iptables", "ip6tables"):
        site.shell(tool, "-I", "INPUT", "-j", "ACCEPT")
        site.shell(tool, "-F")
    assert site.stranger_connects(version) == "refused"


def test_a_flood_is_answered_within_bounds_and_honest_knocks_go_on(site: Site) -> None:
    """The budget: a flood of SYNs does not become a flood of resets."""
    running = site.run()
    site.connect(4, port=9)
    done = site.inside(site.stranger, "hping3", "-S", "-p", str(SSH), "-i", "u200", "-c", "4000", "-q", SERVER[4])
    answered = int(re.search(r"(\d+) packets received", done.stderr + done.stdout)[1])  # type: ignore[index]
    assert 0 < answered < 1500, done.stderr
    site.knock(b"open_sesame", 4)
    wait_until(lambda: site.connect(4) == "open")
    assert "internal-error" not in running.log


def test_a_cut_stream_is_reset_and_its_old_packets_are_too(site: Site, version: int) -> None:
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        stream.recv(100)
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=2) is not None


@pytest.mark.timing
def test_a_connection_that_outlives_its_grant_is_not_reset_for_a_late_packet(site: Site, version: int) -> None:
    """Connection tracking takes a packet outside the window for INVALID, and so for none of the flow that is kept."""
    site.write_rules(f"refuse: reset\n{RULES.replace('ttl: 1h, max_ttl: 2h', 'ttl: 1s')}")
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream, sniffer(site) as link:
        stream.recv(100)
        time.sleep(1.2)
        assert site.connect(version) == "refused"
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
        time.sleep(0.2)  # so that all of it is acknowledged
        replay_outside_the_window(site, last_segment(link))
        time.sleep(0.2)
        stream.sendall(b"still here")
        assert stream.recv(100) == b"still here"


@contextlib.contextmanager
def sniffer(site: Site) -> Iterator[socket.socket]:
    """See what the client sends."""
    with inside(site.client):
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL
    with link:
        link.bind(("uplink", 0))
        link.settimeout(2)
        yield link


def last_segment(link: socket.socket) -> bytes:
    """Return the last frame that the client sent by TCP."""
    found = b""
    link.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, (_, _, kind, *_) = link.recvfrom(2048)
            if kind == socket.PACKET_OUTGOING and TCP in Ether(frame):
                found = frame
    assert found
    return found


def replay_outside_the_window(site: Site, frame: bytes) -> None:
    """Send a segment again, as if it came a thousand million bytes later."""
    ether = Ether(frame)
    ether[TCP].seq = (ether[TCP].seq + 1_000_000_000) & 0xFFFF_FFFF
    del ether[TCP].chksum
    with inside(site.client):
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with link:
        link.bind(("uplink", 0))
        link.send(bytes(ether))
