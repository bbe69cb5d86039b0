"""The client never waits: a connect sent right behind its knock succeeds at its first SYN, every time."""

from __future__ import annotations

import socket
import statistics
import sys
import time
from subprocess import DEVNULL, Popen

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from tests.netns.site import SERVER, SSH, Site, many

pytestmark = pytest.mark.timing
PAIRS = 200
_IPV6_FREEBIND = 78  # linux/in6.h


def knock_and_connect(site: Site, version: int, number: int) -> tuple[float, int]:
    """Knock and connect with no sleep, from a source of its own; return seconds and SYNs sent again."""
    source = many(version, number)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with inside(site.client):
        knocker, stream = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
    with knocker, stream:
        for one in (knocker, stream):
            if version == 6:
                one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            one.bind((source, 0))
        stream.settimeout(5)
        begin = time.monotonic()
        knocker.sendto(b"open_sesame ssh", (SERVER[version], 62201))
        stream.connect((SERVER[version], SSH))
        return time.monotonic() - begin, probe.resent_syns(stream)


@pytest.mark.parametrize("rps", [False, True], ids=["one-cpu", "rps"])
def test_no_first_syn_is_lost(site: Site, version: int, rps: bool) -> None:
    """200 pairs with no sleep, from 200 addresses: not one SYN is sent twice, also with packets on two CPUs."""
    if rps:
        site.spread_packets_over_two_cpus()
    site.run()
    site.connect(version, port=9)  # so that the neighbours know each other: ARP is not what is measured
    results = [knock_and_connect(site, version, number) for number in range(1, PAIRS + 1)]
    resent = [number for number, (_, again) in enumerate(results) if again]
    slow = [seconds for seconds, _ in results if seconds > 0.5]
    assert (resent, slow) == ([], [])
    assert statistics.median(seconds for seconds, _ in results) < 0.1


def test_a_syn_that_overtakes_its_knock_is_not_lost(site: Site, version: int) -> None:
    """A SYN that arrives up to some 100 ms before its knock waits for it."""
    site.run()
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    for early in (0.002, 0.02, 0.06):
        with inside(site.client):
            stream = socket.socket(family)
        with stream:
            stream.setblocking(False)
            stream.connect_ex((SERVER[version], SSH))
            time.sleep(early)
            site.knock(b"open_sesame", version)
            stream.settimeout(0.5)
            assert stream.recv(100) == b"welcome\n"
            assert probe.resent_syns(stream) == 0
        site.knock(b"close_sesame", version)
        while site.connect(version, timeout=0.3) != "silent":
            pass


def test_strangers_syns_do_not_keep_a_client_waiting(site: Site, version: int) -> None:
    """A stranger that knocks at the protected port without a pause fills no queue that a client needs."""
    site.run()
    flood = ["hping3", "-S", "-p", str(SSH), "-i", "u500", "-c", "4000", "-q", SERVER[4]]
    flooder = Popen(netns_argv(site.stranger, *flood), stdout=DEVNULL, stderr=DEVNULL)
    try:
        time.sleep(0.3)
        results = [knock_and_connect(site, version, number) for number in range(1, 51)]
        assert flooder.poll() is None, "the flood ended too early to prove anything"
    finally:
        flooder.kill()
        flooder.wait()
    assert [again for _, again in results] == [0] * 50


def test_a_first_syn_waits_for_a_slow_disk(site: Site, version: int) -> None:
    """Its grant is on its way: it is given back when that is stored, be it a quarter of a second later."""
    code = (
        "import sys, time; from gatekeeper import cli; from gatekeeper.store.sqlite import SqliteStore as s; "
        "commit = s.commit; s.commit = lambda *a, **k: time.sleep(0.25) or commit(*a, **k); "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    site.run(program=[sys.executable, "-c", code])
    attempt = probe.connect(site.client, SERVER[version], SSH, timeout=3, knock=b"open_sesame")
    assert (attempt.result, attempt.resent) == ("open", 0)
    assert attempt.seconds > 0.2
