"""A close leaves nothing behind through which one could come in again."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from tests.netns.site import CLIENT, SERVER, SSH, WEB, Site, wait_until

_TCP_ESTABLISHED = 1  # linux/tcp_states.h
MARK = 0x2000_0000

SHORT = f"""\
services:
  ssh: {{port: tcp/{SSH}, ttl: 2s}}
clients:
  laptop: {{open: open_sesame, close: close_sesame, services: [ssh]}}
"""


def _connect_from(site: Site, version: int, port: int) -> str:
    """Connect from a chosen source port."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with inside(site.client):
        stream = socket.socket(family)
    with stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stream.bind((CLIENT[version], port))
        stream.settimeout(1.5)  # its SYN is sent again after a second
        try:
            stream.connect((SERVER[version], SSH))
        except TimeoutError:
            return "not open"
        return "open"


def test_a_close_leaves_no_tracked_flow(site: Site, version: int) -> None:
    """Not the flow that was open, nor one that was over already; so their ports are no way in."""
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        port = stream.getsockname()[1]
        assert site.connect(version) == "open"
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=1) is not None
    wait_until(lambda: f"dport={SSH}" not in _tracked(site, version))
    assert _connect_from(site, version, port) == "not open"


def test_a_kept_flow_admits_no_new_connection(site: Site, version: int) -> None:
    """After the end by time, a SYN with the ports of a flow that is still tracked is nobody's way in.

    The server closes its side and forgets the socket; the client never says a word more, so that the
    flow stays ESTABLISHED or closing in connection tracking, with our mark.
    """
    site.write_rules(SHORT)
    site.sysctl("net.ipv4.tcp_fin_timeout", 1)
    site.run()
    stream = site.stream(version, knock=b"open_sesame")
    stream.recv(100)
    port = stream.getsockname()[1]
    mute = [_iptables(version), "-A", "OUTPUT", "-p", "tcp", "--sport", str(port), "-m", "tcp", "--tcp-flags"]
    for flags in (("RST", "RST"), ("FIN", "FIN")):
        assert site.inside(site.client, *mute, *flags, "-j", "DROP").returncode == 0
    site.stop_services()  # the server's side ends: FIN, and the socket is gone a second later
    site.start_services()
    wait_until(lambda: site.connect(version, timeout=0.2) == "silent", seconds=5)
    time.sleep(1.5)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.close()
    assert f"sport={port} dport={SSH}" in _tracked(site, version), "there is nothing to test with"
    assert _connect_from(site, version, port) == "not open"


def _iptables(version: int) -> str:
    return "iptables" if version == 4 else "ip6tables"


def test_a_close_ends_a_handshake_whose_reply_has_not_arrived(site: Site, version: int) -> None:
    """Its flow is marked, though no reply was seen; the answers that the server goes on sending open nothing."""
    site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    answers = ["INPUT", "-p", "tcp", "--sport", str(SSH), "-j", "DROP"]
    assert site.inside(site.client, _iptables(version), "-A", *answers).returncode == 0
    with inside(site.client):
        stream = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    with stream:
        stream.setblocking(False)
        stream.connect_ex((SERVER[version], SSH))
        wait_until(lambda: f"sport={stream.getsockname()[1]} dport={SSH}" in _tracked(site, version))
        site.knock(b"close_sesame", version)
        wait_until(lambda: f"dport={SSH}" not in _tracked(site, version))
        assert site.inside(site.client, _iptables(version), "-D", *answers).returncode == 0
        time.sleep(3.2)  # the SYN and its answer would be sent again after 1 and after 3 seconds
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_ESTABLISHED
    assert f"mark={MARK}" not in _tracked(site, version)


def _tracked(site: Site, version: int) -> str:
    return site.shell("conntrack", "-L", "-f", "ipv4" if version == 4 else "ipv6")


def test_connects_during_a_close_leave_nothing_alive(site: Site, version: int) -> None:
    """Whoever connects without a pause while the close is carried out has no stream afterwards."""
    site.run()
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    alive: list[socket.socket] = []
    halt = threading.Event()

    def connect_without_a_pause() -> None:
        while not halt.is_set():
            with inside(site.client):
                stream = socket.socket(family)
            stream.settimeout(0.2)
            try:
                stream.connect((SERVER[version], SSH))
                alive.append(stream)
            except OSError:
                stream.close()

    for _ in range(5):
        site.knock(b"open_sesame", version)
        wait_until(lambda: site.connect(version, timeout=0.3) == "open")
        halt.clear()
        threads = [threading.Thread(target=connect_without_a_pause) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        site.knock(b"close_sesame", version)
        time.sleep(0.3)
        halt.set()
        for thread in threads:
            thread.join()
        assert len(alive) > 20
        for stream in alive:
            assert not _echoes(stream)
            stream.close()
        alive.clear()


def _echoes(stream: socket.socket) -> bool:
    stream.settimeout(0.02)
    try:
        stream.sendall(b"?")
        while data := stream.recv(100):
            if b"?" in data:
                return True
    except OSError:
        return False
    return False


def test_a_kept_stream_is_cut_by_a_close_and_by_a_revoke_after_its_grant_has_ended(site: Site, version: int) -> None:
    """A close always cuts: also what was kept when its grant ended by time."""
    site.write_rules(SHORT)
    site.run()
    for end_it in (lambda: site.knock(b"close_sesame", version), lambda: site.ok("revoke", CLIENT[version])):
        with site.stream(version, knock=b"open_sesame") as stream:
            wait_until(lambda: site.status()["grants"] == [], seconds=5)
            assert probe.until_end(stream, timeout=0.3) is None
            end_it()
            assert probe.until_end(stream, timeout=1) is not None


def test_a_revoke_closes_a_service_that_its_rules_no_longer_have(site: Site) -> None:
    """Rules that were edited under a running gatekeeper do not make a revoke a lie."""
    site.run()
    site.knock(b"open_sesame", 4)
    wait_until(lambda: site.connect(4) == "open")
    site.write_rules(site.rules.read_text().replace("ssh", "shell"))
    assert "revoked ssh" in site.command("revoke", CLIENT[4]).stdout
    assert site.connect(4) == "silent"


def test_run_carries_out_what_a_killed_command_had_only_stored(site: Site, version: int) -> None:
    """The store is the truth: a command that dies between store and kernel is finished by the daemon."""
    site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    sql = "delete from grants" if version == 4 else "delete from grants where version = 6"
    site.shell("python3", "-c", f"import sqlite3; c = sqlite3.connect({str(site.state / 'gatekeeper.db')!r}); "
               f"c.execute({sql!r}); c.commit()")  # fmt: skip
    wait_until(lambda: site.connect(version, timeout=0.3) == "silent", seconds=3)


def test_a_full_disk_does_not_keep_a_door_open(site: Site, version: int) -> None:
    """A close that cannot be stored still closes and cuts, and is stored as soon as there is room."""
    site.state.mkdir()
    site.shell("mount", "-t", "tmpfs", "-o", "size=600k,mode=700", "tmpfs", str(site.state))
    try:
        running = site.run()
        with site.stream(version, knock=b"open_sesame") as stream:
            filler = site.state / "filler"
            with pytest.raises(OSError, match="No space"):
                filler.write_bytes(b"x" * 2_000_000)
            site.knock(b"close_sesame", version)
            assert probe.until_end(stream, timeout=1) is not None
            assert site.connect(version) == "silent"
            wait_until(lambda: "is full" in running.log)
            done = site.command("revoke", CLIENT[version])
            assert done.returncode == 1
            assert "closed in the kernel, but a restart would open it again" in done.stderr
            site.knock(b"open_sesame", version)
            assert site.connect(version) == "silent"
            filler.unlink()
            wait_until(lambda: site.status()["grants"] == [], seconds=5)
            site.knock(b"open_sesame", version)
            wait_until(lambda: site.connect(version) == "open")
        running.stop()
    finally:
        site.shell("umount", "-l", str(site.state))


def test_a_close_by_knock_spares_what_a_grant_by_hand_covers(site: Site) -> None:
    """Also when that grant was given a moment ago, by another process."""
    site.run()
    site.knock(b"open_sesame", 4)
    wait_until(lambda: site.connect(4) == "open")
    with site.stream(4) as stream:
        site.ok("grant", "198.51.100.0/24", "ssh")
        site.knock(b"close_sesame", 4)
        assert probe.until_end(stream, timeout=0.5) is None
    assert site.connect(4, port=WEB) == "silent"


def test_a_close_cuts_also_when_an_open_is_right_behind_it(site: Site, version: int) -> None:
    """The new grant lets in what is new: it does not spare what the close was for."""
    site.run()
    for _ in range(10):
        with site.stream(version, knock=b"open_sesame") as stream:
            site.knock(b"close_sesame", version)
            site.knock(b"open_sesame", version)
            assert probe.until_end(stream, timeout=1) is not None
            wait_until(lambda: site.connect(version, timeout=0.3) == "open")
