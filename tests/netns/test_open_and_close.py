"""The main job: closed at first, open by a knock for its sender, closed again for good."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import Any

import pytest

from gatekeeper import cli
from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from tests.netns.site import CLIENT, SERVER, SSH, STRANGER, UDP, WEB, Site, wait_until


def test_everything_is_closed_at_start(site: Site, version: int) -> None:
    """Without a knock nobody gets an answer from a protected port: no SYN-ACK, no reset."""
    site.run()
    assert site.connect(version) == "silent"
    assert site.stranger_connects(version) == "silent"
    assert site.connect(version, port=WEB) == "silent"


def test_nmap_calls_protected_ports_filtered(site: Site, version: int) -> None:
    """A scanner sees no difference between a protected port and a host that is not there."""
    site.run()
    options = ["-Pn", "-n", "-T5", "--max-retries", "1", "-p", f"{SSH},{WEB}", *(["-6"] if version == 6 else [])]
    for kind in ("-sS", "-sT", "-sA", "-sF"):
        report = site.inside(site.stranger, "nmap", kind, *options, SERVER[version]).stdout
        states = {line.split()[1] for line in report.splitlines() if "/tcp" in line}
        assert states <= {"filtered", "open|filtered"}, report  # nmap's words for "no answer"
        assert states, report


def test_a_plain_key_by_netcat_opens_for_its_sender_only(site: Site, version: int) -> None:
    """`printf open_sesame | nc -u` opens the service for the address that sent it, and for nobody else."""
    site.run()
    done = site.inside(site.client, "nc", "-u", "-w1", SERVER[version], "62201", text="open_sesame")
    assert done.returncode == 0, done.stderr
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"
    other = 6 if version == 4 else 4
    assert site.connect(other) == "silent"


def test_a_knock_opens_only_the_services_of_its_client(site: Site, version: int) -> None:
    site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    assert site.connect(version, port=WEB) == "silent"


def test_a_knock_that_names_a_service_opens_that_one_only(site: Site, version: int) -> None:
    site.run()
    site.knock(b"open_desk web", version)
    wait_until(lambda: site.connect(version, port=WEB) == "open")
    assert site.connect(version) == "silent"


def test_our_client_knocks_from_a_key_file_at_both_families(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gatekeeper knock NAME` reaches every address of a name, and reads the key from a file."""
    site.run()
    key = site.directory / "key"
    key.write_text("open_sesame\nclose_sesame\n")
    resolve = socket.getaddrinfo  # only the name is made up: everything else is real

    def two_addresses(_host: str, *arguments: Any, **more: Any) -> list[Any]:
        return [found for address in SERVER.values() for found in resolve(address, *arguments, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    for options, expected in (([], "open"), (["--close"], "silent")):
        with inside(site.client):
            assert cli.main(["knock", "bastion", "--key-file", str(key), *options]) == 0
        for version in (4, 6):
            _wait_for(site, version, expected)


def _wait_for(site: Site, version: int, expected: str) -> None:
    wait_until(lambda: site.connect(version, timeout=0.3) == expected)


@pytest.mark.timing
def test_a_close_cuts_a_tcp_stream_within_100_ms_and_for_good(site: Site, version: int) -> None:
    """The stream ends at once, and stays dead when the same address is let in again."""
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        stream.recv(100)
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
        site.knock(b"close_sesame", version)
        end = probe.until_end(stream, timeout=2)
        assert end is not None
        assert end[0] < 0.1, end
        site.knock(b"open_sesame", version)
        wait_until(lambda: site.connect(version) == "open")
        stream.settimeout(0.5)
        with pytest.raises(OSError):  # noqa: PT012  (the first send may still be taken)
            stream.sendall(b"are you there?")
            assert stream.recv(100) == b"", "the old stream lives"
            raise ConnectionError


def test_an_old_stream_stays_dead_when_its_client_hears_of_nothing(site: Site, version: int) -> None:
    """Even if the reset is lost, a stream that was cut does not resume under a new grant."""
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        stream.recv(100)
        site.inside(
            site.client, *_iptables(version), "-A", "INPUT", "-p", "tcp", "--tcp-flags", "RST", "RST", "-j", "DROP"
        )
        site.knock(b"close_sesame", version)
        wait_until(lambda: site.connect(version) == "silent")
        site.inside(site.client, *_iptables(version), "-F", "INPUT")
        site.knock(b"open_sesame", version)
        wait_until(lambda: site.connect(version) == "open")
        assert probe.until_end(stream, timeout=2) is not None


def _iptables(version: int) -> list[str]:
    return ["iptables" if version == 4 else "ip6tables", "-w"]


@pytest.mark.timing
def test_a_close_ends_udp_within_100_ms_though_the_server_keeps_sending(site: Site, version: int) -> None:
    """A server that goes on sending reaches nobody whose grant has ended, now or when asked again."""
    site.run()
    with site.udp_talker(), site.udp_socket(version) as one:
        site.knock(b"open_sesame", version)
        one.settimeout(0.5)
        one.send(b"hello")
        assert one.recv(100) == b"tick"
        site.knock(b"close_sesame", version)
        time.sleep(0.1)
        one.settimeout(0)
        while True:  # what came before the cut
            try:
                one.recv(100)
            except BlockingIOError:
                break
        one.settimeout(1.0)
        one.send(b"hello again")
        with pytest.raises(TimeoutError):
            one.recv(100)


def test_a_udp_datagram_right_behind_its_knock_arrives(site: Site, version: int) -> None:
    """The first datagram is held like a SYN: the client never waits."""
    site.run()
    with site.udp_talker(), site.udp_socket(version) as one:
        site.knock(b"open_sesame", version)
        one.send(b"hello")
        one.settimeout(1.0)
        assert one.recv(100) == b"tick"


def test_one_clients_close_does_not_end_anothers_grant(site: Site, version: int) -> None:
    """Two clients behind one address: the address stays open, and uncut, until both have closed."""
    site.run()
    site.knock(b"open_desk", version)
    with site.stream(version, knock=b"open_sesame") as stream:
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=0.5) is None
        assert site.connect(version) == "open"
        site.knock(b"close_desk", version)
        assert probe.until_end(stream, timeout=1) is not None
        assert site.connect(version) == "silent"


def test_a_close_leaves_other_addresses_alone(site: Site, version: int) -> None:
    """The stranger holds a key too: the client's close does not cut it."""
    site.run()
    attempt, other = probe.open_stream(site.stranger, SERVER[version], SSH, timeout=2, knock=b"open_sesame")
    assert other is not None, attempt
    with other, site.stream(version, knock=b"open_sesame") as stream:
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=1) is not None
        assert probe.until_end(other, timeout=0.3) is None


def test_loopback_is_left_alone(site: Site, version: int) -> None:
    """A program on the server itself reaches the service as before, by any address of the server's."""
    site.run()
    for address in (SERVER[version], "127.0.0.1" if version == 4 else "::1"):
        assert probe.connect(site.server, address, SSH, timeout=1).result == "open"


def test_nothing_is_ever_sent_in_reply_to_a_knock(site: Site, version: int) -> None:
    """Right or wrong, empty or huge: a knock is answered by no packet at all."""
    site.run()
    knocks = [b"open_sesame", b"close_sesame", b"wrong", b"", b"x" * 1400, b"open_sesame nosuch"]
    wanted = f"src host {SERVER[version]} and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 137)"
    sniffer = subprocess.Popen(
        netns_argv(site.client, "tcpdump", "-n", "-i", "uplink", "-l", "--immediate-mode", wanted),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert sniffer.stderr is not None
    while "listening on" not in (line := sniffer.stderr.readline()):
        assert line, "tcpdump did not start"
    for payload in knocks:
        site.knock(payload, version)
    time.sleep(0.5)
    assert site.connect(version, timeout=0.3) == "silent"
    # proof that the sniffer sees what the server does send: an answer from an unguarded port
    assert site.connect(version, port=9) == "refused"
    time.sleep(0.2)
    sniffer.terminate()
    seen = [line for line in sniffer.communicate()[0].splitlines() if line]
    assert len(seen) == 1, seen
    assert ".9 >" in seen[0]
    assert "Flags [R" in seen[0]


def test_without_a_worker_nobody_new_gets_in(site: Site, version: int) -> None:
    """A killed daemon leaves the ports closed, and open to whoever has a grant."""
    running = site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    running.kill()
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"
    site.knock(b"open_sesame", version, namespace=site.stranger)
    assert site.stranger_connects(version) == "silent"


def test_knocks_and_loopback_leave_no_trace_in_connection_tracking(site: Site, version: int) -> None:
    """A full conntrack table cannot eat a knock that is never tracked."""
    site.run()
    site.knock(b"open_sesame", version)
    site.knock(b"wrong", version)
    wait_until(lambda: site.connect(version) == "open")
    family = "ipv4" if version == 4 else "ipv6"
    tracked = site.shell("conntrack", "-L", "-f", family)
    assert f"dport={SSH}" in tracked
    assert "dport=62201" not in tracked


def test_a_knock_that_passes_through_keeps_its_address_translation(site: Site) -> None:
    """A server that is also a router: its clients' knocks at other hosts are translated as before."""
    site.sysctl("net.ipv4.ip_forward", 1)
    site.shell("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "stranger", "-j", "MASQUERADE")
    with inside(site.stranger):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with other:
        other.bind((STRANGER[4], 62201))
        other.settimeout(2)
        for start in (lambda: None, site.run):
            start()
            probe.send(site.client, STRANGER[4], b"open somewhere else")
            assert other.recvfrom(100)[1][0] == "203.0.113.1"


def test_foreign_connmark_bits_are_kept(site: Site, version: int) -> None:
    """Our mark is one bit; the others belong to whoever set them."""
    rule = ["-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "--dport", str(SSH)]
    site.shell(*_iptables(version), *rule, "-j", "CONNMARK", "--set-xmark", "0x5/0xf")
    site.run()
    with site.stream(version, knock=b"open_sesame"):
        family = "ipv4" if version == 4 else "ipv6"
        tracked = site.shell("conntrack", "-L", "-f", family)
        mark = int(tracked.split("mark=")[1].split()[0])
        assert mark == 0x2000_0005


def test_granted_traffic_never_meets_python(site: Site, version: int) -> None:
    """Once a source is granted, no packet of its connections is queued."""
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        stream.recv(100)
        before = site.queued()
        for _ in range(200):
            stream.sendall(b"x" * 100)
            stream.recv(100)
        with site.stream(version) as another:
            another.recv(100)
        assert site.queued() == before


def test_udp_service_and_its_port_are_silent_to_strangers(site: Site, version: int) -> None:
    site.run()
    with site.udp_talker(), inside(site.stranger):
        probe.send(site.stranger, SERVER[version], b"hello", port=UDP)
        report = site.inside(
            site.stranger,
            "nmap",
            "-sU",
            "-Pn",
            "-n",
            "-p",
            str(UDP),
            *(["-6"] if version == 6 else []),
            SERVER[version],
        ).stdout
        assert "open|filtered" in report, report


def test_the_log_names_client_source_and_service(site: Site, version: int) -> None:
    running = site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: "opened" in running.log)
    line = next(line for line in running.lines if " opened " in line and "service=ssh" in line)
    assert f"client=laptop source={CLIENT[version]} service=ssh ttl=3600s" in line
    assert "open_sesame" not in running.log
