"""Several workers: nothing rests on which of them meets a packet, and one that ends takes nothing along.

What arrives from the moment on in which a worker was killed is looked at, by its successor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.firewall.lanes import MAX_WORKERS, Lane
from gatekeeper.inlet import Inlet
from gatekeeper.store.sqlite import FILE
from tests.netns.device import Device, forge, rules_for, send, server_key
from tests.netns.family import children, is_alive, kill, stop, workers
from tests.netns.site import RULES, SERVER, SSH, Site, many, wait_until

FOUR = f"workers: 4\n{RULES}"
QUEUE = 6220
_IPV6_FREEBIND = 78  # linux/in6.h


def sockets(site: Site, version: int, number: int) -> tuple[socket.socket, socket.socket]:
    """Make a UDP and a TCP socket of one of many sources."""
    source = many(version, number)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with inside(site.client):
        both = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
    for one in both:
        if version == 6:
            one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        one.bind((source, 0))
    return both


def pair(site: Site, version: int, number: int, knock: bytes = b"open_sesame ssh") -> int:
    """Knock, and connect right behind it; return how many SYNs were sent again."""
    knocker, stream = sockets(site, version, number)
    with knocker, stream:
        stream.settimeout(5)
        knocker.sendto(knock, (SERVER[version], 62201))
        stream.connect((SERVER[version], SSH))
        return probe.resent_syns(stream)


def knock(site: Site, version: int, number: int) -> None:
    knocker, stream = sockets(site, version, number)
    stream.close()
    with knocker:
        knocker.sendto(b"open_sesame ssh", (SERVER[version], 62201))


def granted(site: Site) -> int:
    return len(site.status()["grants"])


def met(site: Site, lane: Lane) -> list[int]:
    """Count the packets that each queue of a lane has had."""
    first = QUEUE + lane * MAX_WORKERS
    rows = {row[0]: row[7] for row in site.queues()}
    return [rows[number] for number in range(first, first + MAX_WORKERS) if number in rows]


@contextlib.contextmanager
def flood(site: Site, version: int, *options: str) -> Iterator[None]:
    """Have the stranger send as fast as it can, by the version of the test, for some seconds at most."""
    argv = netns_argv(site.stranger, sys.executable, "-S", "-c", _FLOOD, SERVER[version], *options)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as flooder:
        try:
            assert flooder.stdout is not None
            assert flooder.stdout.readline() == b"up\n"
            yield
            assert flooder.poll() is None, "the flood ended too early to prove anything"
        finally:
            flooder.kill()


_FLOOD = """
import socket, struct, sys, time
address, kind = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
if kind == "echo":
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    one = socket.socket(family, socket.SOCK_RAW, protocol)
    message = struct.pack("!BBHHH", 128 if family == socket.AF_INET6 else 8, 0, 0, 1, 1) + bytes(48)
    if family == socket.AF_INET:
        total = sum(struct.unpack(f"!{len(message) // 2}H", message))
        message = message[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + message[4:]
    to = (address, 0)
else:
    one, message, to = socket.socket(family, socket.SOCK_DGRAM), b"junk", (address, int(kind))
print("up", flush=True)
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        one.sendto(message, to)
    except OSError:
        pass
"""


def test_no_first_syn_is_lost_with_four_workers(site: Site, version: int) -> None:
    """1,000 pairs with no sleep, from 1,000 addresses, with packets on two CPUs: not one SYN is sent twice."""
    device = Device(server_key(site))
    site.write_rules(f"{FOUR}  phone: {{key: {device.key}, services: [ssh]}}\n")
    site.spread_packets_over_two_cpus()
    running = site.run()
    assert "4 workers" in running.log
    site.connect(version, port=9)  # so that the neighbours know each other
    again = [number for number in range(1, 1001) if pair(site, version, number, device.knock())]
    assert again == []
    for lane in (Lane.KNOCKS, Lane.STRANGERS):
        counts = met(site, lane)
        assert len(counts) == 4
        assert all(count > 100 for count in counts), "each of the four has had its share"


def test_each_worker_that_is_killed_is_replaced_alone_and_no_knock_is_lost(site: Site, version: int) -> None:
    """Knocks and their SYNs go on without a pause while each of four is killed in turn, and all of them open."""
    site.write_rules(FOUR)
    running = site.run()
    site.connect(version, port=9)
    before = workers(running)
    assert len(before) == 4
    keeper = children(running)["keeper"]
    number = 0
    for victim in before:
        time.sleep(0.3)
        os.kill(victim, signal.SIGKILL)
        for number in range(number + 1, number + 31):  # noqa: B020  (it goes on where it was)
            assert pair(site, version, number) == 0
        wait_until(lambda victim=victim: len(workers(running) - {victim}) == 4)  # type: ignore[misc]
    assert not workers(running) & before
    assert children(running)["keeper"] == keeper
    assert granted(site) == number


def test_what_arrives_while_nobody_is_there_waits_for_the_next_worker(site: Site, version: int) -> None:
    """Also when the keeper dies, and everybody with it."""
    running = site.run()
    for victim in ("worker", "keeper"):
        number = granted(site) + 1
        pid = children(running)[victim]
        supervisor = running.process.pid
        stop(supervisor)  # so that nobody is replaced until we have knocked
        try:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
            for other in range(number, number + 20):
                knock(site, version, other)
        finally:
            os.kill(supervisor, signal.SIGCONT)
        wait_until(lambda number=number: granted(site) == number + 19)  # type: ignore[misc]
    assert "Traceback" not in running.log


def test_what_a_dead_worker_had_in_hand_is_not_lost(site: Site, version: int) -> None:
    """Its first packets, which wait for their knocks, go back to the rules, and to its successor."""
    running = site.run()
    time.sleep(1.1)  # what kills a worker that has just begun may be the packet
    knocker, stream = sockets(site, version, 1)
    with knocker, stream:
        stream.settimeout(5)
        begin = time.monotonic()
        stream.setblocking(False)
        stream.connect_ex((SERVER[version], SSH))
        wait_until(lambda: site.waiting() > 0, seconds=0.1)
        kill(running, "worker")
        knocker.sendto(b"open_sesame ssh", (SERVER[version], 62201))
        stream.settimeout(5)
        assert stream.recv(100) == b"welcome\n"
        assert probe.resent_syns(stream) == 0
        assert time.monotonic() - begin < 1
    wait_until(lambda: site.waiting() == 0)


def test_what_a_young_worker_had_in_hand_when_its_keeper_died_is_not_lost(site: Site, version: int) -> None:
    """It is not to blame. What it took after that nobody was there to carry out, and it hears that only then."""
    running = site.run()
    for number in range(1, 41):
        knock(site, version, number)
        if number == 10:
            kill(running, "keeper")
    wait_until(lambda: granted(site) == 40)


def test_a_packet_that_kills_workers_is_dropped_in_the_end(site: Site) -> None:
    """Whoever takes it dies of it. It is given back once, and not to a worker that has just begun."""
    code = (
        "import os, sys; from gatekeeper import cli; from gatekeeper.gate import Gate; inspect = Gate.inspect; "
        "Gate.inspect = lambda self, raw, **k: os._exit(9) if b'poison' in raw else inspect(self, raw, **k); "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    running = site.run(program=[sys.executable, "-c", code])
    time.sleep(1.1)
    site.knock(b"poison_sesame", 4)
    wait_until(lambda: running.log.count("replaced after=") >= 1)
    knock(site, 4, 1)
    wait_until(lambda: granted(site) == 1)
    time.sleep(0.5)
    assert site.waiting() == 0
    assert is_alive(children(running)["worker"])


def test_a_knock_that_two_workers_meet_opens_once(site: Site, version: int) -> None:
    """The same datagram from many addresses: whichever worker has it, the store takes its stamp once."""
    device = Device(server_key(site))
    site.write_rules("workers: 4\n" + rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}"))
    running = site.run()
    datagram = device.knock()
    sources = [many(version, number) for number in range(1, 31)]
    for source in sources:
        forge(site, datagram, version, source=source)
    wait_until(lambda: running.log.count("reason=replayed") == len(sources) - 1)
    assert granted(site) == 1
    assert all(count > 0 for count in met(site, Lane.KNOCKS)), "each of the four has had it"
    send(site, device.knock(), version)
    wait_until(lambda: granted(site) == 2)
    wait_until(lambda: site.status()["counters"].get("opened") == 2)
    wait_until(lambda: site.status()["counters"]["replayed"] == len(sources) - 1)


def test_a_grant_by_hand_and_a_close_are_known_to_every_worker(site: Site, version: int) -> None:
    site.write_rules(FOUR)
    site.run()
    for number in range(1, 4):
        address = many(version, number)
        knocker, stream = sockets(site, version, number)
        with knocker, stream:
            stream.setblocking(False)
            stream.connect_ex((SERVER[version], SSH))
            site.ok("grant", address, "ssh")
            stream.settimeout(5)
            assert stream.recv(100) == b"welcome\n"
        site.ok("revoke", address)
    assert site.stranger_connects(version) == "silent"
    assert all(site.members("ssh", one) == [] for one in (4, 6))


def test_a_first_syn_waits_for_a_slow_disk_whichever_worker_has_it(site: Site, version: int) -> None:
    code = (
        "import sys, time; from gatekeeper import cli; from gatekeeper.store.sqlite import SqliteStore as s; "
        "commit = s.commit; s.commit = lambda *a, **k: time.sleep(0.25) or commit(*a, **k); "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    site.write_rules(FOUR)
    site.run(program=[sys.executable, "-c", code])
    site.connect(version, port=9)
    assert [pair(site, version, number) for number in range(1, 9)] == [0] * 8


@pytest.mark.parametrize(("lane", "kind"), [(Lane.OTHERS, "echo"), (Lane.STRANGERS, "5353")])
def test_a_flood_in_one_lane_keeps_no_knock_waiting(site: Site, version: int, lane: Lane, kind: str) -> None:
    """In each turn a worker takes 64 packets of a lane at most, some 2 ms, and the knocks' lane is the first.

    A flood of what has no grant fills its own queue (8,192 packets: a tenth of a second and more). The bound is what a
    busy machine needs besides; what stood behind a full queue each time would be slower. While it observes, for then
    the kernel bounds nothing.
    """
    site.write_rules(f"mode: observe\n{RULES}knock: {{via: [udp, icmp]}}\n")
    running = site.run()
    with flood(site, version, kind):
        wait_until(lambda: sum(met(site, lane)) > 5000)
        times = []
        for number in range(1, 21):
            begin, source = time.monotonic(), f"source={many(version, number)}"
            while f"{source} " not in running.log:  # the flood may crowd out a knock on its way, before any queue
                knock(site, version, number)
                with contextlib.suppress(AssertionError):
                    wait_until(lambda source=source: f"{source} " in running.log, seconds=1)  # type: ignore[misc]
            times.append(time.monotonic() - begin)
    assert sorted(times)[len(times) // 2] < 0.1


def restarted(site: Site, count: int, running: Gatekeeper | None) -> Gatekeeper:
    """Run with so many workers; all that ran before is killed, at once."""
    site.write_rules(RULES if count == 1 else f"workers: {count}\n{RULES}")
    if running is not None:
        family = [*workers(running), *children(running).values()]
        running.kill()
        wait_until(lambda: not any(map(is_alive, family)))
    return site.run()


def test_another_number_of_workers_loses_nothing_that_comes_behind_the_ready_line(site: Site, version: int) -> None:
    running = None
    number = 0
    for count in (4, 2, 4):
        running = restarted(site, count, running)
        assert len(workers(running)) == count
        assert len(site.queues()) == 3 * count
        for number in range(number + 1, number + 21):  # noqa: B020  (it goes on where it was)
            assert pair(site, version, number) == 0
        assert site.stranger_connects(version) == "silent"
    assert granted(site) == number
    assert running is not None
    running.kill()
    assert site.stranger_connects(version) == "silent", "nothing is left open"


def test_who_has_a_queue_is_told_whichever_it_is(site: Site) -> None:
    """One of four, in the last lane: the kernel tells a port, which says nothing of the process."""
    site.write_rules(FOUR)
    number = QUEUE + Lane.OTHERS * MAX_WORKERS + 3
    code = (
        "import socket; other = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12); other.bind((0, 0));"
        f"from netfilterqueue import NetfilterQueue; q = NetfilterQueue(); q.bind({number}, print);"
        "print('up', flush=True); input()"
    )
    argv = netns_argv(site.server, sys.executable, "-c", code)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        with pytest.raises(Exception, match=f"queue {number} is taken by process {other.pid}"):
            site.run()
        other.kill()
    running = site.run()
    findings = site.inside(site.server, *_doctor(site)).stdout
    assert "`run` has queues 6220-6223, 6236-6239, 6252-6255" in findings
    assert [row["worker"] for row in site.status()["queues"]] == [1, 2, 3, 4] * 3
    held = {pid: _queue_sockets(pid) for pid in (*workers(running), *children(running).values())}
    assert {pid: len(found) for pid, found in held.items() if pid not in workers(running)} == {
        pid: 0 for pid in held if pid not in workers(running)
    }, "who does not look at packets has no queue"
    assert len(set().union(*held.values())) == sum(map(len, held.values())) == 12, "each worker has its own"


def _doctor(site: Site) -> list[str]:
    places = ["--rules", str(site.rules), "--state-dir", str(site.state)]
    return [sys.executable, "-m", "gatekeeper", "doctor", "--verbose", *places]


def _queue_sockets(pid: int) -> set[str]:
    """Return the netlink sockets of a process that packets are queued to."""
    ports = {line.split()[1] for line in Path(f"/proc/{pid}/net/netfilter/nfnetlink_queue").read_text().splitlines()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]]
    queued = {f"socket:[{row[9]}]" for row in rows if row[1] == "12" and row[2] in ports}
    return {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()} & queued


def test_without_a_worker_for_long_what_is_only_observed_goes_on(site: Site, version: int) -> None:
    """Its queues are unbound then, and bound again by whoever comes next."""
    code = (
        "import sys; from gatekeeper import cli; from gatekeeper.processes import staff, supervisor; "
        "supervisor._PAUSES = (0.0, *[4.0] * 6); work = staff.work; "
        "staff.work = lambda plan, control, end, seat: "
        "work(plan, control, end, seat) if not seat.left else sys.exit(3); "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    site.write_rules(f"mode: observe\n{RULES}")
    running = site.run(program=[sys.executable, "-c", code])
    time.sleep(1.1)
    kill(running, "worker")  # and its successor ends at once
    wait_until(lambda: "worker (process" in running.log and site.queues() == [], seconds=5)
    assert site.stranger_connects(version) == "open"
    wait_until(lambda: len(site.queues()) == 3, seconds=8)
    assert site.stranger_connects(version) == "open"


def test_a_queue_that_was_taken_for_a_moment_is_had_again(site: Site) -> None:
    """While nobody was there, somebody took one of a worker's queues: the others are no obstacle when it is free."""
    running = site.run()
    saved = {path: path.read_bytes() for path in site.state.glob(f"{FILE}*")}
    kill(running, "keeper")
    for path in saved:
        path.write_bytes(b"junk" * 4000)
    wait_until(lambda: not site.queues())
    with inside(site.server):
        theirs = Inlet(QUEUE + MAX_WORKERS)
    for path, content in saved.items():
        path.write_bytes(content)
    wait_until(lambda: f"cannot bind queue {QUEUE + MAX_WORKERS}" in running.log)
    time.sleep(1.5)  # it is tried again and again
    theirs.close()
    wait_until(lambda: len(workers(running)) == 1)
    assert probe.connect(site.client, SERVER[4], SSH, timeout=3, knock=b"open_sesame").result == "open"
