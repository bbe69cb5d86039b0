"""The ports of sequences look as they did, and neither a scan nor a flood gets anywhere."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper import steps
from gatekeeper.demo.network import inside, netns_argv
from tests.netns.family import children
from tests.netns.sequences import (
    CLOSE,
    OPEN,
    SEQUENCE,
    granted_to,
    knock,
    opens,
    seen,
    start,
)
from tests.netns.site import CLIENT, SERVER, Site, wait_until


@contextlib.contextmanager
def ssh_at(site: Site, port: int) -> Iterator[None]:
    """Say at a port of the server what ssh says."""
    with inside(site.server):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
                    connection.settimeout(1)
                    connection.recv(100)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


SCANS = (
    ("-sS", "-sU", "-p", "T:7000,8000-8001,9000,U:7000"),
    ("-sF", "-p", "8000,9000"),
    ("-sA", "-p", "8000,9000"),
    ("-sV", "-p", "8000,9000"),
)


@pytest.mark.parametrize("backend", ["ipset", "rules"])
def test_the_ports_look_to_a_scan_as_they_did_before(site: Site, version: int, backend: str) -> None:
    """Closed ones refuse, by a reset or by ICMP, an open one is open; with a worker and without one.

    (A scan of just these ports in any order may well knock the sequence.)
    """

    def scans() -> list[list[tuple[str, ...]]]:
        return [seen(site, version, *scan, namespace=site.client) for scan in SCANS]

    with ssh_at(site, 8000):
        before = scans()
        assert ("tcp", "9000", "closed", "reset") in [line[:4] for line in before[0]]
        assert ("tcp", "8000", "open", "syn-ack") in [line[:4] for line in before[0]]
        assert ("udp", "7000", "closed", "port-unreach") in [line[:4] for line in before[0]]
        assert ("ssh", "probed") in [line[5:7] for line in before[3]]
        running = start(site, more=f"firewall: {{backend: {backend}}}\n")
        assert scans() == before
        queued = site.queued()
        knock(site, version, *OPEN[:1])
        assert scans() == before, "nor in the midst of it"
        assert site.queued() > queued + 3
        running.kill()
        assert scans() == before


def test_the_hosts_own_firewall_decides_about_the_ports_and_hides_no_step(site: Site, version: int) -> None:
    start(site)
    tool = "iptables" if version == 4 else "ip6tables"
    for transport in ("tcp", "udp"):
        site.shell(tool, "-A", "INPUT", "-p", transport, "-m", "multiport", "--dports", "7000,8000,9000", "-j", "DROP")
    assert site.connect(version, port=9000) == "silent"
    knock(site, version, *OPEN)
    opens(site, version)


def test_the_doctor_says_if_steps_are_dropped_or_sent_elsewhere_before_they_are_heard(site: Site) -> None:
    start(site)
    for table, port in (("mangle", "8000"), ("raw", "9000")):
        site.shell("iptables", "-t", table, "-A", "PREROUTING", "-p", "tcp", "--dport", port, "-j", "DROP")
    site.shell(
        "iptables", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "--dport", "7000", "-j", "REDIRECT", "--to", "9"
    )
    told = site.command("doctor").stdout
    for port in ("8000", "9000"):
        assert f"knocks to tcp/{port} are dropped before gatekeeper sees them" in told
    assert "knocks to udp/7000 are sent elsewhere before gatekeeper sees them" in told


def test_nothing_but_steps_of_who_has_begun_meets_python(site: Site, version: int) -> None:
    start(site)
    before = site.queued()
    for ports in (("8000", "8000"), ("7000", "7001:udp", "8000:udp")):
        knock(site, version, *ports)
    assert site.queued() == before
    knock(site, version, "7000:udp", "8000", "7001")
    assert site.queued() == before + 2


@pytest.mark.timing
def test_one_senders_flood_takes_no_place_of_others(site: Site) -> None:
    """Neither one at the port that begins the sequence, nor one at its others."""
    start(site)
    for port in ("9000", "8000"):
        argv = netns_argv(site.stranger, "hping3", "-q", "-S", "-p", port, "--flood", SERVER[4])
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as flood:
            try:
                time.sleep(0.5)
                for _ in range(3):
                    knock(site, 4, *OPEN)
                    wait_until(partial(granted_to, site, CLIENT[4]), seconds=1)
                    knock(site, 4, *CLOSE)
                    wait_until(lambda: not granted_to(site, CLIENT[4]), seconds=1)
            finally:
                flood.kill()
    members = site.shell("ipset", "list", "gatekeeper-s4").splitlines()
    assert sum(" timeout " in line for line in members[members.index("Members:") :]) == 2


def test_a_scan_of_all_ports_opens_nothing(site: Site, version: int) -> None:
    """In order, which knocks at those of an ascending sequence one after the other; and in any order, three times."""
    start(site, "cam: {sequence: [7000, 8000, 9000], within: 1m, services: [ssh]}")
    argv = ["nmap", *(["-6"] if version == 6 else []), "-n", "-Pn", "-sS", "-T5", "--min-rate", "10000", "-p-"]
    for order in (["-r"], [], [], []):
        done = site.inside(site.stranger, *argv, *order, SERVER[version])
        assert done.returncode == 0, done.stderr
        assert site.status()["grants"] == []
    knock(site, version, "7000", "8000", "9000")
    opens(site, version)


# -- floods

_FORGER = """
import os, socket, struct, sys, time
ours, theirs, version, number, seconds = *(bytes.fromhex(one) for one in sys.argv[1:3]), *map(int, sys.argv[3:6])
target = bytes.fromhex(sys.argv[6])
size = 4 if version == 4 else 16
def frame(protocol, port):
    body = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 0x50, 2, 64000, 0, 0) if protocol == 6 else (
        struct.pack("!HHHH", 40000, port, 9, 0) + b"x")
    if version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, protocol, 0) + bytes(4) + target
        place, kind = 14 + 12, b"\\x08\\x00"
    else:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + bytes(16) + target
        place, kind = 14 + 8, b"\\x86\\xdd"
    return bytearray(theirs + ours + kind + head + body), place
def summed(data):  # the header's checksum, without which the packet is not taken
    total = sum(struct.unpack("!10H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~((total & 0xffff) + (total >> 16)) & 0xffff
one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
one.bind(("uplink", 0))
frames = [frame(17, 7000), frame(6, 8000), frame(6, 9000)]
print("up", flush=True)
sent, end, pool = 0, time.monotonic() + seconds, b""
while sent < number and time.monotonic() < end:
    pool = os.urandom(size * 1000)
    for start in range(0, len(pool), size):
        source = pool[start : start + size]
        source = b"\\x2d" + source[1:] if version == 4 else b"\\x20\\x01\\x0d\\xb8" + source[4:]
        for raw, place in frames:
            raw[place : place + size] = source
            if version == 4:
                raw[24:26] = b"\\0\\0"
                raw[24:26] = summed(bytes(raw[14:34])).to_bytes(2, "big")
            try:
                sent += one.send(raw) > 0
            except OSError:
                pass
print(sent)
"""


@contextlib.contextmanager
def forged_flood(site: Site, version: int, *, number: int, seconds: int) -> Iterator[subprocess.Popen[str]]:
    """Send packets to all ports of the sequence, each time from three of an address that nobody has sent from."""
    addresses = [mac(site, site.stranger, "uplink"), mac(site, site.server, "stranger")]
    target = ip_address(SERVER[version]).packed.hex()
    argv = [sys.executable, "-S", "-c", _FORGER, *addresses, str(version), str(number), str(seconds), target]
    with subprocess.Popen(netns_argv(site.stranger, *argv), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def mac(site: Site, namespace: str, link: str) -> str:
    """Return the address of a link, as hexadecimal digits."""
    text = site.inside(namespace, "ip", "-br", "link", "show", link).stdout
    found = re.search(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", text)
    assert found is not None, text
    return found[0].replace(":", "")


def memory(pid: int) -> int:
    """Return how many bytes a process has in memory that are its own."""
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    return 1024 * int(fields[fields.index("Private_Dirty:") + 1])


@pytest.mark.timing
def test_a_million_forged_packets_neither_grow_memory_nor_reset_who_is_knocking(site: Site, version: int) -> None:
    """Each of their addresses knocks the whole sequence: there is no more to be done to it. Figures: ``pytest -s``."""
    running = start(site, f"cam: {{{SEQUENCE}, within: 1m, services: [ssh]}}")
    worker = children(running)["worker"]
    knock(site, version, *OPEN[:1])
    time.sleep(0.1)
    before, queued, began = memory(worker), site.queued(), time.monotonic()
    with forged_flood(site, version, number=1_000_000, seconds=30) as flood:
        time.sleep(1)
        knock(site, version, OPEN[1])
        time.sleep(0.5)
        tries = 0
        while not granted_to(site, CLIENT[version]):  # in a flood the network may lose it
            knock(site, version, OPEN[2])
            tries += 1
            assert tries < 20
            time.sleep(0.1)
        sent, _ = flood.communicate()
    took = time.monotonic() - began
    grown, met = memory(worker) - before, site.queued() - queued
    room = len(site.shell("ipset", "list", f"gatekeeper-s{version}").splitlines())
    said = f"{sent.strip()} packets in {took:.1f} s, {met} met Python, {grown >> 10} kB more memory, {room} noted"
    print(f"\n{said}, the last step was sent {tries} times", end="")  # noqa: T201
    assert int(sent) > 300_000
    assert children(running)["worker"] == worker
    assert grown < 16 * 2**20
    assert met < 3 * (100 + steps.IN_KERNEL / 60 * took) + 100
    assert room < steps.IN_KERNEL + 10


@pytest.mark.timing
def test_without_ipset_a_flood_is_bounded_too_but_takes_the_places_of_honest_steps(site: Site, version: int) -> None:
    """What is promised there is less: memory is bounded, and behind the flood all is as before."""
    running = start(site, more="firewall: {backend: rules}\n")
    worker = children(running)["worker"]
    before, queued, began = memory(worker), site.queued(), time.monotonic()
    with forged_flood(site, version, number=300_000, seconds=10) as flood:
        flood.communicate()
    took = time.monotonic() - began
    assert memory(worker) - before < 16 * 2**20
    assert site.queued() - queued < (1000 + 1000) * (took + 1) + 200
    knock(site, version, *OPEN)
    opens(site, version)
