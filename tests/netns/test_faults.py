"""What fails on real machines: who is in stays in, who is out stays out, and the door works again by itself.

During each fault a stranger tries the port, hundreds of times a second; what is asserted is how often he got in.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper.demo.network import inside, netns_argv
from gatekeeper.demo.probe import family_of
from tests.netns.family import children, is_alive, is_whole, kill, stop
from tests.netns.prober import Prober
from tests.netns.site import CLIENT, SERVER, SSH, Site, wait_until

WARPED = str(Path(__file__).with_name("warped.py"))
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78  # linux/in.h, linux/in6.h
RATE = 500
"""Tries a second that a prober must have made at least, or it has seen nothing."""


@contextlib.contextmanager
def watched(site: Site, version: int) -> Iterator[socket.socket]:
    """Have a stream open by a grant, and a stranger at the door; both are as before when it is over."""
    with (
        Prober(site.stranger, SERVER[version], SSH, rate=RATE * 3) as prober,
        site.stream(version, knock=b"open_sesame") as stream,
    ):
        answers(stream)
        yield stream
        answers(stream)
        probes = prober.stop()
    assert probes.connects == ()
    assert probes.rate > RATE, f"{probes.rate} tries a second"


def answers(stream: socket.socket) -> None:
    stream.settimeout(3)
    words = os.urandom(8)
    stream.sendall(words)
    heard = b""
    while not heard.endswith(words):
        more = stream.recv(100)
        assert more, f"it ended after {heard!r}"
        heard += more


def opens(site: Site, version: int) -> None:
    """Knock from another address, and get in; then close again."""
    address = "198.18.0.1" if version == 4 else "2001:db8:cc::1"

    def connects() -> bool:
        with contextlib.suppress(OSError), _socket(site, address, socket.SOCK_STREAM) as one:
            one.settimeout(0.3)
            one.connect((SERVER[version], SSH))
            return True
        return False

    with _socket(site, address, socket.SOCK_DGRAM) as knocker:
        assert not connects()
        for key, is_open in ((b"open_desk", True), (b"close_desk", False)):
            knocker.sendto(key, (SERVER[version], 62201))
            wait_until(lambda is_open=is_open: connects() is is_open)  # type: ignore[misc]


def _socket(site: Site, address: str, kind: socket.SocketKind) -> socket.socket:
    with inside(site.client):
        one = socket.socket(family_of(address), kind)
    level, option = (socket.IPPROTO_IPV6, _IPV6_FREEBIND) if ":" in address else (socket.IPPROTO_IP, _IP_FREEBIND)
    one.setsockopt(level, option, 1)
    one.bind((address, 0))
    return one


# -- processes


@pytest.mark.parametrize("name", ["worker", "keeper", "guardian"])
def test_a_process_that_is_killed_is_replaced_within_a_second(site: Site, version: int, name: str) -> None:
    running = site.run()
    with watched(site, version):
        for _ in range(3):
            before = kill(running, name)
            begin = time.monotonic()
            wait_until(lambda before=before: children(running).get(name) not in {None, before})  # type: ignore[misc]
            wait_until(lambda: is_whole(running))
            opens(site, version)
            assert time.monotonic() - begin < 1
    assert f"the {name} (process {before}) was killed by SIGKILL; it is replaced" in running.log
    assert "Traceback" not in running.log


def test_when_the_supervisor_is_killed_the_others_end_and_the_next_run_takes_over(site: Site, version: int) -> None:
    running = site.run()
    with watched(site, version):
        others = children(running)
        running.kill()
        wait_until(lambda: not any(map(is_alive, others.values())), seconds=1)
        assert site.connect(version) == "open"
        site.run()
        opens(site, version)


def test_a_process_that_hangs_is_killed_and_replaced(site: Site) -> None:
    """Not only one that died: after 20 s, and here after one."""
    code = (
        "import sys; from gatekeeper import cli; from gatekeeper.processes import child, supervisor; "
        "child.LIFE_EVERY, supervisor._SILENCE, supervisor._LOOK_EVERY = 0.2, 1.5, 0.2; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    running = site.run(program=[sys.executable, "-c", code])
    with watched(site, 4):
        for name in ("worker", "keeper", "guardian"):
            pid = children(running)[name]
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: not is_alive(pid), seconds=4)  # type: ignore[misc]
            wait_until(lambda: is_whole(running))
            opens(site, 4)
            assert f"the {name} (process {pid}) hangs; it is killed" in running.log


def test_without_memory_the_door_stays_shut_and_works_again_when_there_is_some(site: Site, version: int) -> None:
    running = site.run()
    with watched(site, version):
        for name in ("worker", "keeper", "guardian"):
            pid = children(running)[name]
            resource.prlimit(pid, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
            for _ in range(30):
                site.knock(b"open_desk" + b"x" * 60_000, version)
                site.knock(b"open_desk", version)
            time.sleep(0.2)
            with contextlib.suppress(ProcessLookupError):
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
            wait_until(lambda: is_whole(running))
            opens(site, version)


# -- the state directory


@contextlib.contextmanager
def state_on_a_disk_of_its_own(site: Site, *, megabytes: int = 2) -> Iterator[None]:
    """Put the state directory on a file system of its own, which turns read-only when it meets an error."""
    site.state.mkdir(mode=0o700)
    image = site.directory / "disk"
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], check=True)
    _mount(site)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(site.state)], check=True)


def _mount(site: Site) -> None:
    options = "loop,errors=remount-ro"
    subprocess.run(["mount", "-o", options, str(site.directory / "disk"), str(site.state)], check=True)


def full(site: Site) -> Callable[[], object]:
    filler = site.state / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    return filler.unlink


def read_only(site: Site) -> Callable[[], object]:
    """Have the kernel find an error on the disk."""
    device = os.path.realpath(
        f"/sys/dev/block/{os.major(site.state.stat().st_dev)}:{os.minor(site.state.stat().st_dev)}"
    )
    Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("a test")

    def mount_anew() -> None:
        """Do what an administrator does then (and a check of the disk, in between)."""
        subprocess.run(["umount", str(site.state)], check=True)
        _mount(site)

    return mount_anew


def test_a_full_disk_shuts_nobody_out_who_comes_to_make_room(site: Site, version: int) -> None:
    """On a disk that had room when `run` was started, which is the usual one; also when processes die meanwhile."""
    with state_on_a_disk_of_its_own(site, megabytes=80):
        running = site.run()
        with watched(site, version):
            full(site)
            for victim in ("worker", "keeper", None):
                opens(site, version)
                if victim is not None:
                    kill(running, victim)
                    wait_until(lambda: is_whole(running))
            site.ok("reload")
            wait_until(lambda: is_whole(running))
            opens(site, version)
            running.stop()
            again = site.run()
            opens(site, version)
        for log in (running.log, again.log):
            assert "not-applied" not in log
            assert "no room could be taken" not in log
        again.stop()


@pytest.mark.parametrize("fault", [full, read_only])
def test_a_disk_that_takes_nothing_opens_nothing_closes_and_recovers(
    site: Site, version: int, fault: Callable[[Site], Callable[[], object]]
) -> None:
    with state_on_a_disk_of_its_own(site):  # a small one: no room was taken ahead of time
        running = site.run()
        assert "no room could be taken for the store ahead of time (the disk has little left)" in running.log
        with watched(site, version):
            mend = fault(site)
            site.knock(b"open_desk", version)
            wait_until(lambda: "not-applied error=" in running.log)
            kill(running, "worker")
            wait_until(lambda: is_whole(running))
            if fault is full:
                assert [one["client"] for one in site.status()["grants"]] == ["laptop"] * 2
                mend()
            else:
                running.stop()
                mend()
                running = site.run()
            opens(site, version)
        running.stop()


# -- the clock


@pytest.mark.parametrize("step", [3600, -3600])
def test_when_the_clock_is_set_grants_last_as_long_as_they_were_given(site: Site, version: int, step: int) -> None:
    """And new ones are given; what is set while nobody runs counts too."""
    clock = site.directory / "clock"
    running = site.run(program=[sys.executable, WARPED, str(clock), "-"])

    def left() -> list[int]:
        lines = site.shell("ipset", "list", f"gatekeeper-{version}-ssh").splitlines()
        return [int(line.split()[2]) for line in lines if line.startswith(CLIENT[version])]

    with watched(site, version):
        clock.write_text(str(step))
        wait_until(lambda: f"clock-stepped by={step:+d}s" in running.log)
        assert 3590 < left()[0] <= 3600
        assert site.connect(version) == "open"
        opens(site, version)
        running.kill()
        clock.write_text(str(-step))
        again = site.run(program=[sys.executable, WARPED, str(clock), "-"])
        assert 3580 < left()[0] <= 3600
        assert len(left()) == 1
        opens(site, version)
        assert " ended " not in again.log


# -- the kernel


def test_a_queue_that_overflows_loses_packets_and_no_grant(site: Site, version: int) -> None:
    """The worker stands still under a flood (ENOBUFS, a full queue), and works again when it goes on."""

    def queue() -> list[str]:
        lines = site.shell("cat", "/proc/net/netfilter/nfnetlink_queue").splitlines()
        return next(fields for line in lines if (fields := line.split())[0] == "6252")  # of what bears no tag

    running = site.run()
    with watched(site, version):
        worker = children(running)["worker"]
        stop(worker)
        flood = ["hping3", "--udp", "-p", "62201", "-d", "12", "--flood", "--rand-source", SERVER[4]]
        done = subprocess.Popen(netns_argv(site.stranger, *flood), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: any(int(lost) for lost in queue()[5:7]))
        finally:
            done.kill()
            done.wait()
            os.kill(worker, signal.SIGCONT)
        time.sleep(4)  # senders are forgotten again, of whom the kernel counts so many (a knock without a tag is one)
        # what the stranger sends meanwhile is held for a while
        wait_until(lambda: int(queue()[2]) < 600)
        opens(site, version)
        assert children(running)["worker"] == worker


def test_a_full_table_of_connections_is_said_and_keeps_no_knock_out(site: Site) -> None:
    """Running streams go on; new ones wait until there is room."""
    running = site.run()
    with watched(site, 4):
        _fill_connection_table(site)
        wait_until(lambda: "new ones, also of granted sources, are dropped" in running.log, seconds=3)
        site.knock(b"open_desk", 4)
        wait_until(lambda: "opened client=desk" in running.log)
        site.shell("conntrack", "-F")
        wait_until(lambda: "there is room again" in running.log, seconds=3)
        assert site.connect(4) == "open"


def _fill_connection_table(site: Site) -> None:
    most = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    argv = netns_argv(site.server, sys.executable, "-c", _FILL, str(most))
    subprocess.run(argv, check=True, timeout=60)


_FILL = """
import socket, struct, sys
from gatekeeper.firewall.netlink import *
from gatekeeper.firewall.netlink import attribute as a, nested as n
one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
one.bind((0, 0))

def tuple_of(kind, source, to, ports):
    ip = n(1, a(1, source), a(2, to))
    return n(kind, ip, n(2, a(1, b"\\x06"), a(2, ports[:2]), a(3, ports[2:])))

def body(source, port):
    to, ports, back = bytes([192, 0, 2, 1]), struct.pack("!HH", port, 80), struct.pack("!HH", 80, port)
    text = netfilter_header(2) + tuple_of(1, source, to, ports) + tuple_of(2, to, source, back)
    text += a(3, struct.pack("!I", 0xE)) + a(7, struct.pack("!I", 600)) + n(4, n(1, a(1, b"\\x03")))
    return message(0x100, text, flags=1 | 0x400)

def places(text, what):
    return [place for place in range(len(text)) if text.startswith(what, place)]

text = bytearray(body(b"\\x0a\\xde\\xad\\xbe", 50000))
sources = places(text, b"\\x0a\\xde\\xad\\xbe")
assert len(sources) == 2
for start in range(0, int(sys.argv[1]) + 1000, 500):
    batch = bytearray()
    for number in range(start, start + 500):
        source = struct.pack("!I", 0x0A000000 + number)
        for place in sources:
            text[place:place + 4] = source
        batch += text
    one.send(batch)
    try:
        while True:
            one.recv(65536, socket.MSG_DONTWAIT)
    except OSError:
        pass
"""
