"""What is done to fwknop's knocks on their way, and to the server between two of them."""

from __future__ import annotations

import base64
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from gatekeeper.fwknop import envelope
from gatekeeper.fwknop.message import Kind
from gatekeeper.settings import FwknopKeys
from tests.fwknop import written
from tests.netns.device import Device, forge, send, server_key
from tests.netns.site import CLIENT, SERVER, SSH, Site, many, wait_until
from tests.netns.spa import HMAC_KEY, KEY, fwknop, granted, refused, start
from tests.netns.test_fwknop import opened

SHARED = FwknopKeys(key=base64.b64decode(KEY), hmac_key=base64.b64decode(HMAC_KEY))


def knock_is_over(site: Site, source: str = CLIENT[4]) -> None:
    """Take back what was opened."""
    site.ok("revoke", source)
    wait_until(lambda: not granted(site))


def test_a_replay_opens_nothing_from_wherever_it_comes_and_whenever(site: Site) -> None:
    """Not with the source as seen, which is what a thief would have; not after a restart, nor after a crash."""
    running = start(site)
    knock = fwknop(site, who=("-s",))
    opened(site, CLIENT[4])
    knock_is_over(site)
    send(site, knock)
    refused(running, "replayed", times=1)
    send(site, knock, namespace=site.stranger)
    refused(running, "replayed", times=2)
    forge(site, knock, 4, source="198.18.7.7")
    refused(running, "replayed", times=3)
    for end in ("stop", "kill"):
        running.stop() if end == "stop" else running.kill()
        running = site.run()
        send(site, knock, namespace=site.stranger)
        refused(running, "replayed")
    assert granted(site) == []
    fwknop(site)
    opened(site, CLIENT[4])


def test_what_other_knocks_come_between_does_not_make_a_replay_good(site: Site) -> None:
    """Of devices that share a key, with clocks on both sides of the server's."""
    running = start(site)
    early, late = ("--time-offset-plus", "110"), ("--time-offset-minus", "110")
    knocks = [fwknop(site, *offset) for offset in (early, late, ())]
    wait_until(lambda: running.log.count("opened client=old") == 3)
    for number, knock in enumerate(knocks, 1):
        send(site, knock)
        refused(running, "replayed", times=number)
    fwknop(site, *late)
    wait_until(lambda: running.log.count("opened client=old") == 4)


def test_with_the_prefix_put_back_it_is_no_knock(site: Site) -> None:
    """As fwknopd has it: and before a process wakes up for it."""
    start(site)
    knock = fwknop(site, "-T")
    before = site.queued()
    send(site, envelope.PREFIX + knock)
    fwknop_again = fwknop(site)
    opened(site, CLIENT[4])
    knock_is_over(site)
    send(site, envelope.PREFIX + fwknop_again)
    time.sleep(0.3)
    assert site.queued() == before + 1
    assert granted(site) == []


MIDDLE = 100
ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "salt": lambda knock: knock[:3] + other(knock[3]) + knock[4:],
    "body": lambda knock: knock[:MIDDLE] + other(knock[MIDDLE]) + knock[MIDDLE + 1 :],
    "hmac": lambda knock: knock[:-5] + other(knock[-5]) + knock[-4:],
    "appended": lambda knock: knock + b"A",
    "appended-newline": lambda knock: knock + b"\n",
    "appended-padding": lambda knock: knock + b"=",
    "appended-null": lambda knock: knock + b"\0",
    "appended-much": lambda knock: knock + b"A" * 1000,
    "prepended": lambda knock: b"+" + knock,
    "prepended-block": lambda knock: b"8" * 64 + knock,
    "cut": lambda knock: knock[:-1],
    "no-hmac": lambda knock: knock[:-43],
    "twice": lambda knock: knock + knock,
    "null-inside": lambda knock: knock[:MIDDLE] + b"\0" + knock[MIDDLE + 1 :],
    "another-alphabet": lambda knock: knock.replace(b"+", b"-").replace(b"/", b"_").replace(b"a", b"-"),
}


def other(character: int) -> bytes:
    """Return another character of the alphabet."""
    return b"A" if character != ord("A") else b"B"


def test_what_was_altered_appended_or_prepended_opens_nothing_and_spends_nothing(site: Site) -> None:
    start(site)
    knock = fwknop(site, "-T")
    for change in ALTERED.values():
        send(site, change(knock))
    time.sleep(0.3)
    assert granted(site) == []
    send(site, knock)
    opened(site, CLIENT[4])


def test_fields_that_make_no_sense_are_refused_and_said(site: Site) -> None:
    """By one who has the keys; all of them are tried in tests/knocks."""
    running = start(site)
    now = time.time()
    wrong = [
        written.around(written.fields(now, text=written.b64("0.0.0.0,tcp/-22")), keys=SHARED),
        written.around(written.fields(now, text=written.b64("0.0.0.0,tcp/2222\0")), keys=SHARED),
        written.around(written.fields(now, text=written.b64("1" * 600)), keys=SHARED),
        written.around(written.fields(now, time=b"-1"), keys=SHARED),
    ]
    for number, knock in enumerate(wrong, 1):
        send(site, knock)
        refused(running, "bad-fields", times=number)
    assert granted(site) == []


@pytest.mark.parametrize("doubled", [False, True], ids=["removed", "doubled"])
def test_a_rule_that_somebody_removes_or_doubles_between_two_knocks_is_put_right(site: Site, doubled: bool) -> None:
    running = start(site)
    fwknop(site, "-f", "3")
    opened(site, CLIENT[4])
    chain = [line for line in site.shell("iptables", "-t", "mangle", "-S").splitlines() if "GKEEPER-IN " in line]
    rule = next(line for line in chain if "--bytecode" in line).split()
    rule[0] = "-A" if doubled else "-D"
    bytecode = rule.index("--bytecode")
    end = next(place for place in range(bytecode + 1, len(rule)) if rule[place].endswith('"'))
    rule[bytecode + 1 : end + 1] = [" ".join(rule[bytecode + 1 : end + 1]).strip('"')]
    site.shell("iptables", "-t", "mangle", *rule)
    wait_until(lambda: "repaired" in running.log)
    now = [line for line in site.shell("iptables", "-t", "mangle", "-S").splitlines() if "GKEEPER-IN " in line]
    assert now == chain
    wait_until(lambda: not granted(site))
    fwknop(site)
    opened(site, CLIENT[4])
    assert site.stranger_connects(4) == "silent"


@pytest.mark.timing
def test_a_thousand_knocks_open_grants_that_all_end_on_time_and_a_short_one_among_them(site: Site) -> None:
    """What fwknopd cannot: from 39 open rules on, its new ones stay. Here 999 of 8 s, and one of 2 s behind them."""
    running = start(site, "services: [ssh, web]")
    begin = time.monotonic()
    for number in range(1, 1000):
        knock = written.packet(time.time(), "0.0.0.0,tcp/8080", keys=SHARED, kind=Kind.TIMED_ACCESS, timeout=8)
        with inside(site.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knocker:
            knocker.bind((many(4, number), 0))
            knocker.sendto(knock, (SERVER[4], 62201))
        time.sleep(0.001)
    fwknop(site, "-f", "2")
    short = time.monotonic()
    wait_until(lambda: len(granted(site, service="web")) == 999 and granted(site) != [])
    assert time.monotonic() - begin < 7, "too slow to tell the short one from the long ones"
    last_long = time.monotonic()
    wait_until(lambda: granted(site) == [], seconds=4)
    assert time.monotonic() - short == pytest.approx(2, abs=1.2)
    wait_until(lambda: granted(site, service="web") == [], seconds=11)
    assert time.monotonic() - last_long < 9.5
    wait_until(lambda: site.status()["grants"] == [], seconds=3)
    assert "refused" not in running.log


# -- floods

_FLOODER = """
import base64, os, socket, sys, time
kind, address, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
one.connect((address, 62201))
print("up", flush=True)
sent, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    for _ in range(50):
        text = base64.b64encode(os.urandom(150))
        junk = {
            "random": os.urandom(204),
            "another-first": b"A" + text,
            "short": b"+" + text[:138],
            "long": b"+" + text * 8,
            "like-one": b"+" + text,
        }[kind]
        try:
            one.send(junk)
            sent += 1
        except OSError:
            pass
print(sent)
"""


@contextlib.contextmanager
def flood(site: Site, kind: str, version: int, *, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Send datagrams of a kind from the stranger, as many as one process can."""
    argv = netns_argv(site.stranger, sys.executable, "-S", "-c", _FLOODER, kind, SERVER[version], str(seconds))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_what_cannot_be_a_knock_of_its_wakes_nobody(site: Site, version: int, variant: str) -> None:
    start(site, firewall=f"{{variant: {variant}}}")
    before = site.queued()
    for kind in ("random", "another-first", "short", "long"):
        with flood(site, kind, version, seconds=0.3) as process:
            said, _ = process.communicate(timeout=10)
        assert int(said) > 100
    # One of 64 of random bytes begins as a knock does; that it has 99 more that are no letters happens to nobody.
    assert site.queued() == before


def test_with_ip_options_it_is_known_too(site: Site) -> None:
    """The length of the header is read, not assumed."""
    start(site)
    knock = fwknop(site, "-T")
    with inside(site.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 8)
        one.sendto(knock, (SERVER[4], 62201))
    opened(site, CLIENT[4])


def test_a_flood_of_what_looks_like_one_is_bounded_and_delays_no_sealed_knock(site: Site, version: int) -> None:
    """It has a queue of its own, and there only so much of each sender's. fwknop's own knocks go on as well."""
    device = Device(server_key(site))
    start(site, others={"laptop": f"{{key: {device.key}, services: [ssh]}}"})
    site.connect(version, port=9)  # so that the neighbours know each other
    before = site.queued()
    begin = time.monotonic()
    with flood(site, "like-one", version, seconds=3) as process:
        time.sleep(0.3)
        for _ in range(5):
            attempt = probe.connect(site.client, SERVER[version], SSH, timeout=3, knock=device.knock())
            assert (attempt.result, attempt.resent) == ("open", 0)
            send(site, device.knock(close=True), version)
            wait_until(lambda: not granted(site, version))
        send(site, fwknop(site, "-T", who=("-s",)), version)
        opened(site, CLIENT[version], version=version)
        said, _ = process.communicate(timeout=10)
    assert int(said) > 3000
    assert site.queued() - before < 100 + 50 * (time.monotonic() - begin) + 100


def test_a_flood_with_forged_sources_is_bounded_in_all(site: Site) -> None:
    """Then fwknop's own knocks are lost in it, as those of any format without a tag; sealed ones are not."""
    device = Device(server_key(site))
    running = start(site, others={"laptop": f"{{key: {device.key}, services: [ssh]}}"})
    site.connect(4, port=9)  # so that the neighbours know each other
    before, begin = site.queued(), time.monotonic()
    (site.directory / "junk").write_bytes(written.packet(0))
    forged = ("--rand-source", "-i", "u30", "-c", "60000", "-d", "204", "-E", str(site.directory / "junk"))
    argv = netns_argv(site.stranger, "hping3", "--udp", "-p", "62201", "-q", *forged, SERVER[4])
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        time.sleep(1.5)
        attempt = probe.connect(site.client, SERVER[4], SSH, timeout=3, knock=device.knock())
        process.kill()
    assert (attempt.result, attempt.resent) == ("open", 0)
    assert 500 < site.queued() - before < 1000 + 1000 * (time.monotonic() - begin) + 100
    assert "overrun" not in running.log
