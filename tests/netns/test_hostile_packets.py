"""The worker survives any packet, and goes on serving good knocks."""

from __future__ import annotations

import json
import random
import socket
import sys
import time

from gatekeeper.demo.network import inside
from tests.netns.site import CLIENT, SERVER, SSH, Site, wait_until

# Packets by Scapy, sent from the stranger: a process of its own, since Scapy looks at interfaces once.
_SENDER = """
import json, sys, warnings
warnings.simplefilter("ignore")
from scapy.all import *
conf.verb = 0
source, target, mac = json.loads(sys.argv[1])
v6 = ":" in source
ip = (lambda **k: IPv6(src=source, dst=target, **k)) if v6 else (lambda **k: IP(src=source, dst=target, **k))
key = b"open_sesame"
frames = [
    ip()/UDP(dport=62201, len=4)/key, ip()/UDP(dport=62201, len=60000)/key, ip()/UDP(dport=62201, chksum=1)/key,
    ip()/UDP(dport=62201, chksum=0)/b"x", ip()/UDP(dport=62201)/b"", ip()/UDP(dport=62201)/(b"\\xff\\xfe\\x00" * 99),
    ip()/UDP(dport=62201)/("\\U0001f511 sesame".encode()), ip()/UDP(dport=62201)/(b"A" * 1400),
    ip()/UDP(dport=62201)/b"open_sesame \\xff\\xff", ip()/UDP(dport=62201)/b"open_sesame nosuch",
    ip()/UDP(sport=53, dport=62201)/(b"\\xc0\\x0c" * 40), ip()/UDP(sport=0, dport=62201)/key[:5],
    ip()/TCP(dport=PORT, flags="S")/key, ip()/TCP(dport=PORT, flags=0), ip()/TCP(dport=PORT, flags="FSRPAUEC"),
    ip()/TCP(dport=PORT, flags="S", dataofs=1), ip()/TCP(dport=PORT, flags="S", dataofs=15),
    ip()/TCP(dport=PORT, flags="A"), ip()/TCP(dport=PORT, flags="SA"), ip()/TCP(dport=PORT, flags="R"),
    ip()/TCP(dport=PORT, flags="S", options=[("MSS", 1), ("NOP", None), (254, b"junk" * 8)]),
]
if v6:
    frames += [
        ip()/IPv6ExtHdrHopByHop(options=[PadN(optdata=b"0" * 20)])/IPv6ExtHdrDestOpt()/UDP(dport=62201)/b"wrong",
        ip()/IPv6ExtHdrDestOpt(options=[PadN(optdata=b"0" * 60)])/TCP(dport=PORT, flags="S"),
        ip()/IPv6ExtHdrFragment(offset=0, m=0, id=7)/UDP(dport=62201)/b"atomic",
        ip()/IPv6ExtHdrRouting(addresses=[], segleft=0)/UDP(dport=62201)/b"routed",
        ip(plen=2)/UDP(dport=62201)/key,
    ]
    frames += fragment6(ip()/IPv6ExtHdrFragment(id=9)/UDP(dport=62201)/(b"B" * 3000), 1280)
    frames += fragment6(ip()/IPv6ExtHdrFragment(id=10)/TCP(dport=PORT, flags="S")/(b"B" * 3000), 1280)
else:
    frames += [
        ip(options=[IPOption_RR(), IPOption_EOL()])/UDP(dport=62201)/b"options",
        ip(options=[IPOption_LSRR(routers=[target])])/UDP(dport=62201)/b"source routed",
        ip(len=20)/UDP(dport=62201)/key, ip(len=24, proto=17)/b"abcd", ip(proto=6)/b"\\x16",
        ip(flags="DF", frag=0)/UDP(dport=62201)/key[:4], ip(proto=17, frag=5)/b"tail",
    ]
    frames += fragment(ip(id=9)/UDP(dport=62201)/(b"B" * 3000), 1000)
    frames += fragment(ip(id=10)/TCP(dport=PORT, flags="S")/(b"B" * 3000), 1000)
link = conf.L2socket(iface="uplink")
for frame in frames:
    link.send(Ether(dst=mac)/frame)
print(len(frames))
"""


def _gateway_mac(site: Site) -> str:
    links = json.loads(site.shell("ip", "-j", "link", "show", "dev", "stranger"))
    return str(links[0]["address"])


def test_the_worker_survives_every_kind_of_broken_packet(site: Site, version: int) -> None:
    """Truncated, fragmented, with options and extension headers, bad checksums, odd bytes: none opens or kills."""
    running = site.run()
    arguments = json.dumps(["203.0.113.2" if version == 4 else "2001:db8:f::2", SERVER[version], _gateway_mac(site)])
    sender = _SENDER.replace("PORT", str(SSH))
    done = site.inside(site.stranger, sys.executable, "-c", sender, arguments)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    time.sleep(0.3)
    assert site.stranger_connects(version) == "silent"
    assert site.members("ssh", version) == []
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    wait_until(lambda: "unknown-key" in site.status()["counters"])
    counters = site.status()["counters"]
    assert counters["bad-checksum"] >= 1
    assert counters["service-not-allowed"] >= 1
    assert "internal-error" not in counters, running.log
    assert "Traceback" not in running.log


def test_random_bytes_as_packets(site: Site, version: int) -> None:
    """Five thousand packets of random bytes behind a valid IP header; then a good knock opens."""
    running = site.run()
    dice = random.Random(7)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with inside(site.stranger):
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW if version == 4 else socket.IPPROTO_UDP)
        tcp = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with raw, tcp:
        for number in range(5000):
            port = (62201 if number % 2 else SSH).to_bytes(2)
            body = dice.randbytes(2) + port + dice.randbytes(dice.choice([0, 1, 4, 8, 16, 60, 1200]))
            if version == 4:
                protocol = 17 if number % 2 else 6
                header = bytes([0x45, 0, 0, 0]) + dice.randbytes(2) + bytes([0, 0, 64, protocol, 0, 0])
                raw.sendto(
                    header + socket.inet_aton("203.0.113.2") + socket.inet_aton(SERVER[4]) + body, (SERVER[4], 0)
                )
            else:
                (raw if number % 2 else tcp).sendto(body, (SERVER[6], 0))
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open", seconds=10)
    assert site.stranger_connects(version) == "silent"
    wait_until(lambda: "malformed" in site.status()["counters"])
    assert "internal-error" not in site.status()["counters"], running.log


def test_a_forged_source_opens_for_that_source_and_not_for_the_forger(site: Site) -> None:
    """What a plain key can promise, and no more: whoever has the key chooses the address (docs say so)."""
    site.run()
    key = site.directory / "key"
    key.write_bytes(b"open_sesame")
    forge = ["--udp", "-p", "62201", "-a", CLIENT[4], "-c", "1", "-d", "11", "-E", str(key), "-q", SERVER[4]]
    site.inside(site.stranger, "hping3", *forge)  # it exits 1, for nothing answers
    wait_until(lambda: site.connect(4) == "open")
    assert site.stranger_connects(4) == "silent"


def test_a_flood_of_junk_is_summarised_in_the_log(site: Site) -> None:
    """Thousands of packets are a few for a process to look at; these make few lines, and each is counted."""
    running = site.run()
    begun = time.monotonic()
    for _ in range(3000):
        site.knock(b"wrong_sesame", 4, namespace=site.stranger)
    most = 100 + 50 * (time.monotonic() - begun)
    wait_until(lambda: site.status()["counters"].get("unknown-key", 0) >= 100, seconds=15)
    assert site.status()["counters"]["unknown-key"] <= most + 10
    refused = [line for line in running.lines if " refused " in line]
    assert 1 <= len(refused) <= 80
    site.knock(b"open_sesame", 4)
    wait_until(lambda: site.connect(4) == "open")
