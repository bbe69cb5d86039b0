"""Floods end in the kernel: what cannot count wakes nobody, and what strangers send stands in nobody's way."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from tests.netns.device import Device, rules_for, send, server_key
from tests.netns.site import RULES, SERVER, SSH, Site, wait_until
from tests.netns.test_sealed import WARPED, granted, start

_FLOODER = """
import os, socket, sys, time
address, port, seconds, head = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), bytes.fromhex(sys.argv[4])
one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
one.connect((address, port))
print("up", flush=True)
sent, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    for _ in range(100):
        try:
            one.send(head + os.urandom(116 - len(head)))
            sent += 1
        except OSError:
            pass
    time.sleep(float((*sys.argv, "0")[5]))
print(sent)
"""


@contextlib.contextmanager
def flood(site: Site, version: int, *, head: bytes = b"", seconds: float = 4.0) -> Iterator[subprocess.Popen[str]]:
    """Send datagrams of the right size from the stranger, as many as one process can; they begin with ``head``."""
    argv = netns_argv(site.stranger, sys.executable, "-S", "-c", _FLOODER, SERVER[version], "62201", str(seconds))
    with subprocess.Popen([*argv, head.hex()], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


_AT_MOST = 1800
"""Knocks of one sender within two seconds: the kernel takes 4,000."""


def dropped(site: Site, version: int, *words: str, table: str = "raw") -> int:
    """Count what a rule that has these words has dropped."""
    tool = "iptables-save" if version == 4 else "ip6tables-save"
    lines = [line for line in site.shell(tool, "-c", "-t", table).splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, lines
    return int(lines[0].removeprefix("[").split(":")[0])


def test_junk_wakes_nobody_and_a_knock_in_it_opens_at_once(site: Site, version: int) -> None:
    """Not a packet of a flood of random datagrams meets the queue; the client's own do, at its first SYN."""
    _, device = start(site)
    site.connect(version, port=9)  # so that the neighbours know each other
    before = site.queued()
    with flood(site, version):
        time.sleep(0.5)
        assert site.queued() == before
        for _ in range(5):
            attempt = probe.connect(site.client, SERVER[version], SSH, timeout=3, knock=device.knock())
            assert (attempt.result, attempt.resent) == ("open", 0)
            send(site, device.knock(close=True), version)
            wait_until(lambda: not granted(site, version))
    assert dropped(site, version, "GKEEPER-RAW", "-j DROP") > 10_000


def test_junk_is_not_tracked(site: Site, version: int) -> None:
    start(site)
    with flood(site, version, seconds=0.5) as process:
        process.wait()
    assert "dport=62201" not in site.shell("conntrack", "-L", "-f", "ipv4" if version == 4 else "ipv6")


def test_captured_tags_from_one_place_are_few_for_a_process_and_shut_nobody_out(site: Site, version: int) -> None:
    """A sender of all that it can send with a right tag has two thousand looked at a second."""
    _, device = start(site)
    before = site.queued()
    with flood(site, version, head=device.knock()[:12], seconds=3.0) as process:
        time.sleep(0.3)
        send(site, device.knock(), version)
        wait_until(lambda: bool(granted(site, version)), seconds=1)
        said, _ = process.communicate()
    assert int(said) > 15_000
    assert site.queued() - before < 3 * 4000 + 20
    assert dropped(site, version, "GKEEPER-TAGGED", "--packets-gt", "-j DROP") > 3000


def test_captured_tags_from_the_clients_own_address_do_not_shut_it_out(site: Site, version: int) -> None:
    """Whoever shares its address (that of a router, or 64 bits of it) can record a tag and send a thousand a second."""
    _, device = start(site)
    argv = netns_argv(site.client, sys.executable, "-S", "-c", _FLOODER, SERVER[version], "62201", "4")
    with subprocess.Popen([*argv, device.knock()[:12].hex(), "0.1"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        for _ in range(8):
            time.sleep(0.35)
            send(site, device.knock(), version)
            wait_until(lambda: bool(granted(site, version)), seconds=0.5)
            site.shell("ipset", "flush", f"gatekeeper-{version}-ssh")
        process.kill()


@pytest.mark.timing
@pytest.mark.parametrize("spoofed", [False, True], ids=["one-source", "many-sources"])
def test_a_flood_of_first_packets_is_bounded_and_the_clients_own_is_not_among_the_dropped(
    site: Site, spoofed: bool
) -> None:
    """At most so many of a stranger's, and of all strangers', are held; who has just knocked is exempt."""
    _, device = start(site)
    argv = ["hping3", "-S", "-p", str(SSH), "--flood", *(["--rand-source"] if spoofed else []), SERVER[4]]
    with subprocess.Popen(
        netns_argv(site.stranger, *argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as one:
        try:
            time.sleep(1)
            for _ in range(20):
                attempt = probe.connect(site.client, SERVER[4], SSH, timeout=3, knock=device.knock())
                assert (attempt.result, attempt.resent) == ("open", 0)
                send(site, device.knock(close=True))
                wait_until(lambda: not granted(site, 4))
        finally:
            one.kill()
    assert dropped(site, 4, "-A GKEEPER-NEW -j DROP" if spoofed else "--hashlimit-above", table="mangle") > 10_000


@pytest.mark.timing
def test_a_flood_of_pings_from_many_sources_costs_no_ping(site: Site) -> None:
    """Where knocks may come in pings, each sender's are bounded. A full table of senders would drop them all."""
    device = Device(server_key(site))
    site.write_rules(f"knock: {{via: [udp, icmp]}}\n{RULES}  phone: {{key: {device.key}, services: [ssh]}}\n")
    site.run()
    site.connect(4, port=9)
    argv = netns_argv(site.stranger, "hping3", "--icmp", "--flood", "--rand-source", SERVER[4])
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        try:
            time.sleep(3)
            said = site.inside(site.client, "ping", "-c", "40", "-i", "0.05", "-W", "1", "-q", SERVER[4]).stdout
            known = site.shell("cat", "/proc/net/ipt_hashlimit/gatekeeper-pings-4").count("\n")
        finally:
            one.kill()
    assert int(said.partition(" received")[0].split()[-1]) >= 38, said
    assert 1000 < known < 30_000, "fewer than the smallest table holds"


def test_a_knock_to_a_port_that_is_redirected_to_the_knock_port_opens(site: Site, version: int) -> None:
    """Its tag cannot be looked for before its port is translated, so it is bounded as what has no tag."""
    _, device = start(site)
    rule = ("PREROUTING", "-p", "udp", "--dport", "53", "-j", "REDIRECT", "--to-ports", "62201")
    site.shell("iptables" if version == 4 else "ip6tables", "-t", "nat", "-A", *rule)
    with inside(site.client), socket.socket(probe.family_of(SERVER[version]), socket.SOCK_DGRAM) as one:
        one.sendto(device.knock(), (SERVER[version], 53))
    wait_until(lambda: bool(granted(site, version)), seconds=1)


def test_a_flood_of_what_a_plain_key_may_be_delays_no_sealed_knock(site: Site, version: int) -> None:
    """It has a queue of its own, and there only so much of each sender's."""
    device = Device(server_key(site))
    plain = f"  long: {{open: {'x' * 116}, services: [ssh]}}\n"
    site.write_rules(RULES + plain + f"  phone: {{key: {device.key}, services: [ssh]}}\n")
    site.run()
    before = site.queued()
    with flood(site, version, seconds=3) as process:
        time.sleep(0.3)
        send(site, device.knock(), version)
        wait_until(lambda: bool(granted(site, version)), seconds=1)
        said, _ = process.communicate()
    assert int(said) > 5000
    assert site.queued() - before < 100 + 50 * 4 + 20


def tags(site: Site, version: int) -> str:
    """Return the rules that know tags."""
    tool = "iptables-save" if version == 4 else "ip6tables-save"
    return "\n".join(line for line in site.shell(tool, "-t", "raw").splitlines() if "-A GKEEPER-TAGS " in line)


def test_tags_are_renewed_when_their_time_has_come_and_when_the_clock_is_set(site: Site, version: int) -> None:
    """Knocks of the new time open within moments, and those of the old meet nobody; nothing had to be repaired."""
    clock = site.directory / "clock"
    clock.write_text("0")
    key = server_key(site)
    laptop, phone = Device(key), Device(key)  # one that has knocked cannot go back in time
    each = {name: f"{{key: {one.key}, services: [ssh]}}" for name, one in (("laptop", laptop), ("phone", phone))}
    site.write_rules(rules_for(**each))
    running = site.run(program=[sys.executable, WARPED, str(clock), "-"])
    ahead = 0
    for step, device in ((120, laptop), (3600, laptop), (-7200, phone)):
        before = tags(site, version)
        ahead += step
        clock.write_text(str(ahead))
        wait_until(partial(differ, site, version, before))
        wait_until(partial(opens, site, device, version, late=-ahead))
        if abs(step) > 300:
            queued = site.queued()
            send(site, device.knock(late=step - ahead), version)
            assert site.queued() == queued
        send(site, device.knock(late=-ahead, close=True), version)
        wait_until(lambda: not granted(site, version))
    assert " repaired " not in running.log


def differ(site: Site, version: int, before: str) -> bool:
    """Say whether the tags are not what they were."""
    return tags(site, version) != before


def have_met(site: Site, number: int) -> bool:
    """Say whether the queue has had so many packets."""
    return site.queued() == number


def opens(site: Site, device: Device, version: int, *, late: float) -> bool:
    """Knock, by a clock that is late; say whether that opened within moments."""
    send(site, device.knock(late=late), version)
    time.sleep(0.2)
    return bool(granted(site, version))


def test_no_knock_is_lost_while_tags_are_renewed(site: Site, version: int) -> None:
    """The chain is swapped as a whole: a hundred times here, under knocks that come without a pause."""
    _, device = start(site)
    tool = "iptables-restore" if version == 4 else "ip6tables-restore"
    text = f"*raw\n:GKEEPER-TAGS - [0:0]\n{tags(site, version)}\nCOMMIT\n"
    before, sent = site.queued(), 0
    for _ in range(100):
        with subprocess.Popen(netns_argv(site.server, tool, "--noflush"), stdin=subprocess.PIPE, text=True) as swap:
            assert swap.stdin is not None
            swap.stdin.write(text)
            swap.stdin.close()
            while swap.poll() is None and sent < _AT_MOST:
                send(site, device.knock(), version)
                sent += 1
        if sent >= _AT_MOST:
            time.sleep(2.1)  # fewer than the kernel takes from one sender
            wait_until(partial(have_met, site, before + sent))
            before, sent = site.queued(), 0
    wait_until(partial(have_met, site, before + sent))


def test_without_gatekeeper_the_last_tags_stay_and_nothing_opens(site: Site, version: int) -> None:
    """Junk still ends in the kernel, and a knock opens nothing until it is back."""
    running, device = start(site)
    before = tags(site, version)
    running.kill()
    assert tags(site, version) == before != ""
    send(site, b"junk" * 29, version)
    assert dropped(site, version, "GKEEPER-RAW", "-j DROP") == 1
    send(site, device.knock(), version)
    assert site.connect(version) == "silent"
    site.run()
    assert opens(site, device, version, late=0)


def test_tags_that_others_take_out_are_put_back(site: Site, version: int) -> None:
    running, device = start(site)
    before = tags(site, version)
    site.shell("iptables" if version == 4 else "ip6tables", "-t", "raw", "-F", "GKEEPER-TAGS")
    wait_until(lambda: tags(site, version) == before)
    wait_until(lambda: "chain GKEEPER-TAGS" in running.log)
    assert opens(site, device, version, late=0)
