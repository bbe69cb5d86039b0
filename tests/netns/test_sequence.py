"""Port sequences, knocked by Debian's `knock`: what opens, what does not, and what nobody can tell by looking."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gatekeeper import steps
from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.firewall import snapshot
from tests.netns.device import SERVICES
from tests.netns.family import children, kill
from tests.netns.site import CLIENT, SERVER, SSH, Site, wait_until
from tests.netns.test_heal import flush_ruleset

SEQUENCE = "sequence: [7000/udp, 8000, 9000], close_sequence: [9000, 8000, 7000/udp]"
CAM = f"cam: {{{SEQUENCE}, within: 5s, services: [ssh]}}"
OPEN, CLOSE = ("7000:udp", "8000", "9000"), ("9000", "8000", "7000:udp")


def start(site: Site, *clients: str, more: str = "") -> Gatekeeper:
    """Run a server that knows these clients."""
    lines = "".join(f"  {one}\n" for one in clients or (CAM,))
    site.write_rules(f"{SERVICES}clients:\n{lines}{more}")
    return site.run()


def knock(site: Site, version: int, *ports: str, delay: int = 1, namespace: str = "") -> None:
    """Run Debian's `knock`."""
    done = site.inside(namespace or site.client, "knock", f"-{version}", "-d", str(delay), SERVER[version], *ports)
    assert done.returncode == 0, done.stderr


def granted(site: Site, version: int) -> bool:
    """Say whether the client has a grant, and nobody else."""
    found = [one["source"] for one in site.status()["grants"]]
    assert found in ([], [CLIENT[version]]), found
    return bool(found)


def opens(site: Site, version: int) -> None:
    wait_until(partial(granted, site, version))
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"


def stays_closed(site: Site, version: int) -> None:
    time.sleep(0.2)
    assert not granted(site, version)
    assert site.connect(version, timeout=0.3) == "silent"


def close(site: Site, version: int, *ports: str) -> None:
    knock(site, version, *(ports or CLOSE))
    wait_until(lambda: not granted(site, version))


def test_a_sequence_opens_for_who_knocked_and_another_one_closes(site: Site, version: int) -> None:
    running = start(site)
    for cycle in range(1, 4):
        knock(site, version, *OPEN)
        opens(site, version)
        close(site, version)
        assert site.connect(version) == "silent"
        assert running.log.count("opened client=cam") == running.log.count("closed client=cam") == cycle
    assert "knocks by udp/62201, port sequences" in running.log


@pytest.mark.timing
@pytest.mark.parametrize("workers", [1, 4])
def test_a_connect_right_behind_the_last_step_succeeds_at_its_first_syn(site: Site, version: int, workers: int) -> None:
    start(site, more=f"workers: {workers}\n")
    site.connect(version, port=9)  # so that the neighbours know each other
    for _ in range(6):  # with more at once it would look like a scan
        knock(site, version, *OPEN, delay=0)
        attempt = probe.connect(site.client, SERVER[version], SSH, timeout=3)
        assert (attempt.result, attempt.resent) == ("open", 0)
        close(site, version)


@pytest.mark.parametrize(
    "wrong",
    [
        ("7000", "8000", "9000"),
        ("7000:udp", "8000:udp", "9000"),
        ("7000:udp", "9000", "8000"),
        ("7000:udp", "8000", "8000", "9000"),
        ("8000", "9000"),
        ("7000:udp", "8000"),
    ],
)
def test_a_wrong_step_resets(site: Site, wrong: Sequence[str]) -> None:
    open_only = "cam: {sequence: [7000/udp, 8000, 9000], services: [ssh]}"
    start(site, open_only, "other: {sequence: [7000, 8000/udp, 1000], services: [ssh]}")
    for version in (4, 6):
        knock(site, version, *wrong)
        stays_closed(site, version)
        knock(site, version, *OPEN)
        opens(site, version)
        site.ok("revoke", CLIENT[version])


def test_half_by_one_and_half_by_another_open_for_nobody(site: Site, version: int) -> None:
    start(site)
    knock(site, version, *OPEN[:2])
    knock(site, version, *OPEN[1:], namespace=site.stranger)
    stays_closed(site, version)
    assert site.stranger_connects(version) == "silent"
    knock(site, version, *OPEN[2:])
    opens(site, version)


def test_a_sequence_must_be_done_in_time(site: Site, version: int) -> None:
    start(site, f"cam: {{{SEQUENCE}, within: 1s, services: [ssh]}}")
    knock(site, version, *OPEN, delay=600)
    stays_closed(site, version)
    knock(site, version, *OPEN, delay=100)
    opens(site, version)


def test_several_that_begin_alike_advance_each_on_its_own(site: Site, version: int) -> None:
    short, long = "short: {sequence: [1, 2, 3], services: [ssh]}", "long: {sequence: [1, 2, 3, 4], services: [web]}"
    running = start(site, short, "other: {sequence: [1, 2, 5], services: [echo]}", long)
    knock(site, version, "1", "2", "5")
    wait_until(lambda: "opened client=other" in running.log)
    knock(site, version, "1", "2", "3", "4")
    wait_until(lambda: "opened client=short" in running.log and "opened client=long" in running.log)
    assert site.ok("check").count("ok") == 1


def test_packets_without_the_flags_are_neither_steps_nor_wrong_ones(site: Site) -> None:
    fin = "fin: {sequence: [7001, 7002, 7003], flags: [fin, '!ack'], services: [ssh]}"
    running = start(site, CAM, fin)
    for port, flags in (("7001", "-F"), ("7002", "-S"), ("7002", "-FA"), ("7002", "-F"), ("7003", "-FP")):
        site.inside(site.client, "hping3", "-q", "-c", "1", flags, "-p", port, SERVER[4])
    wait_until(lambda: "opened client=fin" in running.log)
    knock(site, 4, *OPEN[:2])
    for flags in ("-A", "-R", "-F", "-SA"):
        site.inside(site.client, "hping3", "-q", "-c", "1", flags, "-p", "8000", SERVER[4])
    knock(site, 4, *OPEN[2:])
    wait_until(lambda: "opened client=cam" in running.log)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_any_tcp_packet_may_be_a_step_where_the_flags_say_so(site: Site, variant: str) -> None:
    """As with knockd, if it names none; and all but some."""
    every = "every: {sequence: [7001, 7002, 7003], flags: [], services: [ssh]}"
    running = start(
        site,
        every,
        "some: {sequence: [1, 2, 3], flags: '!rst', services: [ssh]}",
        more=f"firewall: {{variant: {variant}}}\n",
    )
    sent = [("7001", "-A"), ("7002", "-R"), ("7003", "-SA"), ("1", "-A"), ("2", "-R"), ("2", "-F"), ("3", "-S")]
    for port, flags in sent:
        site.inside(site.client, "hping3", "-q", "-c", "1", flags, "-p", port, SERVER[4])
    wait_until(lambda: "opened client=every" in running.log and "opened client=some" in running.log)
    assert "0 wrong" in site.command("doctor").stdout


# -- once


def test_one_time_sequences_count_once_each_also_after_a_restart_and_after_a_kill(site: Site, version: int) -> None:
    (site.directory / "once.txt").write_text(" 7000:udp,8000,9000\n 8001, 8000, 9000\n# 1,2,3\n")
    (site.directory / "once.txt").chmod(0o600)
    running = start(site, "once: {sequence_file: once.txt, close_sequence: [5, 6, 7], services: [ssh]}")
    knock(site, version, *OPEN)
    opens(site, version)
    close(site, version, "5", "6", "7")
    for end in ("", "stop", "kill"):
        if end:
            getattr(running, end)()
            running = site.run()
        knock(site, version, *OPEN)
        knock(site, version, *OPEN, namespace=site.stranger)
        wait_until(lambda running=running: running.log.count("reason=replayed client=once") == 2)  # type: ignore[misc]
        stays_closed(site, version)
        assert site.stranger_connects(version) == "silent"
    knock(site, version, "8001", "8000", "9000")
    opens(site, version)


def test_a_worker_that_dies_loses_what_was_in_progress_and_nothing_else(site: Site) -> None:
    running = start(site)
    knock(site, 4, *OPEN[:2])
    kill(running, "worker")
    wait_until(lambda: "worker" in children(running))
    knock(site, 4, *OPEN)
    opens(site, 4)


# -- as every client


def test_what_holds_for_every_client_holds_for_a_sequence(site: Site) -> None:
    later = (
        time.strftime("%H:%M", time.gmtime(time.time() + 7200)),
        time.strftime("%H:%M", time.gmtime(time.time() + 10800)),
    )
    running = start(
        site,
        "a: {sequence: [1, 2, 3], from: [192.0.2.128/25], services: [ssh]}",
        f"b: {{sequence: [1, 2, 4], when: {later[0]}-{later[1]} UTC, services: [ssh]}}",
        "c: {sequence: [1, 2, 5], not_after: 2026-01-01, services: [ssh]}",
        "d: {sequence: [1, 2, 6], ttl: 90s, prefix: {ipv4: 24}, services: [ssh]}",
        more=f"never: [{CLIENT[6]}]\n",
    )
    for last, said in (("3", "source-not-allowed client=a"), ("4", "outside-hours client=b"), ("5", "client-expired")):
        knock(site, 4, "1", "2", last)
        wait_until(lambda said=said: f"reason={said}" in running.log)  # type: ignore[misc]
    knock(site, 6, "1", "2", "6")
    wait_until(lambda: "reason=never client=d" in running.log)
    assert site.status()["grants"] == []
    knock(site, 4, "1", "2", "6")
    wait_until(lambda: "opened client=d source=198.51.100.0/24 service=ssh ttl=90s" in running.log)


# -- what can be seen


def seen(site: Site, version: int, *options: str, namespace: str) -> list[tuple[str, ...]]:
    """Ask nmap what each port is, why it thinks so, and what serves there."""
    argv = ["nmap", *(["-6"] if version == 6 else []), "-n", "-Pn", "--reason", "-oX", "-", *options, SERVER[version]]
    done = site.inside(namespace, *argv)
    assert done.returncode == 0, done.stderr
    found = []
    for port in ET.fromstring(done.stdout).iter("port"):  # noqa: S314 (nmap is ours)
        state, service = port.find("state"), port.find("service")
        assert state is not None
        what = (state.get("state", ""), state.get("reason", ""), state.get("reason_ttl", ""))
        by = () if service is None else (service.get("name", ""), service.get("method", ""), service.get("conf", ""))
        found.append((port.get("protocol", ""), port.get("portid", ""), *what, *by))
    return found


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


def granted_to(site: Site, source: str) -> bool:
    return source in [one["source"] for one in site.status()["grants"]]


# -- kept so


@pytest.mark.parametrize(("variant", "backend"), [("nft", "ipset"), ("legacy", "ipset"), ("nft", "rules")])
def test_it_works_and_is_kept_in_every_dialect(site: Site, version: int, variant: str, backend: str) -> None:
    running = start(site, more=f"firewall: {{variant: {variant}, backend: {backend}}}\n")
    knock(site, version, *OPEN)
    opens(site, version)
    close(site, version)
    tool = f"{'iptables' if version == 4 else 'ip6tables'}-{variant}"
    for chain in ("GKEEPER-STEPS", "GKEEPER-BEGIN", "GKEEPER-GO-ON", "INPUT"):
        repairs = running.log.count(" repaired ")
        site.shell(tool, "-t", "mangle", "-F", chain)
        wait_until(lambda repairs=repairs: running.log.count(" repaired ") > repairs)  # type: ignore[misc]
        time.sleep(0.45)
    knock(site, version, *OPEN)
    opens(site, version)
    assert "repair-failed" not in running.log
    done = site.command("doctor")
    assert "0 wrong" in done.stdout, done.stdout
    assert "nobody can knock" not in done.stdout
    assert running.stop() == 0


def test_sets_that_were_destroyed_with_the_rules_come_back(site: Site) -> None:
    running = start(site)
    os.kill(guardian := children(running)["guardian"], signal.SIGSTOP)  # or it would be quicker than we are
    swap = ["ipset", "swap", "gatekeeper-s4", "gatekeeper-k4"]
    while any(site.inside(site.server, *swap).returncode for _ in range(2)):  # it stands still while it lists them
        os.kill(guardian, signal.SIGCONT)
        time.sleep(0.05)
        os.kill(guardian, signal.SIGSTOP)
    flush_ruleset(site, "nft")
    for name in ("gatekeeper-s4", "gatekeeper-s6"):  # the kernel lets go of a set some time after its rules have gone
        wait_until(lambda name=name: site.inside(site.server, "ipset", "destroy", name).returncode == 0)  # type: ignore[misc]
    os.kill(guardian, signal.SIGCONT)
    wait_until(lambda: " repaired " in running.log)
    for version in (4, 6):
        knock(site, version, *OPEN)
        wait_until(partial(granted_to, site, CLIENT[version]))
    assert "repair-failed" not in running.log


def test_what_a_probation_puts_back_is_what_was_there(site: Site) -> None:
    """Chains in their order, jumps at their ends, and who has begun a sequence."""

    def there() -> list[str]:
        texts = [site.shell(tool, "-t", "mangle") for tool in ("iptables-save", "ip6tables-save")]
        lines = [line for text in texts for line in text.splitlines() if line.startswith(("-A", ":GK"))]
        return [re.sub(r" \[.*", "", line) for line in lines]

    start(site, "cam: {sequence: [7000, 8000, 9000], within: 1m, services: [ssh]}").stop()
    knock(site, 4, "7000")
    before = there()
    with inside(site.server):
        taken = snapshot.take()
        site.ok("flush")
        assert there() == []
        assert snapshot.put_back(taken) == []
    assert there() == before
    assert CLIENT[4] in site.shell("ipset", "list", "gatekeeper-s4")
    site.run()
    knock(site, 4, "7000", "8000", "9000")
    wait_until(partial(granted_to, site, CLIENT[4]))


def test_rules_without_sequences_leave_nothing_of_them(site: Site) -> None:
    running = start(site)
    assert "GKEEPER-STEPS" in site.shell("iptables-save")
    running.stop()
    running = start(site, "desk: {open: open_desk, services: [ssh]}")
    assert "GKEEPER-STEPS" not in site.shell("iptables-save")
    assert "gatekeeper-s4" not in site.shell("ipset", "list", "-n")
    running.stop()
    start(site).stop()
    assert "set gatekeeper-s6" in site.ok("flush", "--stop")
    assert "GKEEPER" not in site.shell("iptables-save") + site.shell("ipset", "list", "-n")


def test_while_it_observes_a_sequence_grants_and_nobody_is_kept_out(site: Site, version: int) -> None:
    running = start(site, more="mode: observe\n")
    assert site.stranger_connects(version) == "open"
    knock(site, version, *OPEN)
    wait_until(partial(granted, site, version))
    close(site, version)
    wait_until(lambda: "would-refuse reason=no-grant" in running.log)
    assert seen(site, version, "-sS", "-p", "9000", namespace=site.stranger)[0][2:4] == ("closed", "reset")
