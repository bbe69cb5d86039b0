"""What is promised survives: stops, kills, reboots, damage."""

from __future__ import annotations

import ctypes
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside, netns_argv
from gatekeeper.demo.server import Gatekeeper, gatekeeper_argv
from gatekeeper.errors import FirewallError, GatekeeperError
from gatekeeper.firewall import tools
from gatekeeper.firewall.netlink import DUMP, NETFILTER, REQUEST, attribute, message, netfilter_header
from tests.netns.family import children, is_whole
from tests.netns.site import SSH, Site, wait_until


def reboot(site: Site) -> None:
    """Leave of the kernel what a reboot leaves: nothing of ours."""
    site.ok("flush")


@pytest.mark.timing
def test_a_stop_takes_less_than_a_second_and_leaves_everything(site: Site) -> None:
    running = site.run()
    for version in (4, 6):
        site.knock(b"open_sesame", version)
        wait_until(lambda version=version: site.connect(version) == "open")  # type: ignore[misc]
    begin = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - begin < 1
    for version in (4, 6):
        assert site.connect(version) == "open"
        assert site.stranger_connects(version) == "silent"


def test_a_stop_that_comes_to_another_thread_is_heard(site: Site) -> None:
    """As one that comes just before a loop waits. Keeper and worker have a second thread, for the log."""
    running = site.run()
    tgkill = 234 if platform.machine() == "x86_64" else 131  # asm/unistd.h: amd64, or arm64 and riscv64
    for name in ("worker", "keeper", "guardian"):
        pid = children(running)[name]
        others = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid]
        assert ctypes.CDLL(None).syscall(tgkill, pid, others[0], int(signal.SIGTERM)) == 0
        wait_until(lambda pid=pid, name=name: children(running).get(name) not in {None, pid})  # type: ignore[misc]
    wait_until(lambda: is_whole(running))
    assert running.stop() == 0


def test_the_worker_is_confined_and_the_others_are_not(site: Site) -> None:
    """All its threads; what that means is tested in tests/processes/test_confine.py; the keeper must run iptables."""
    running = site.run()
    found = {
        name: {
            line.split()[1]
            for status in Path(f"/proc/{pid}/task").glob("*/status")
            for line in status.read_text().splitlines()
            if line.startswith("Seccomp:")
        }
        for name, pid in {**children(running), "supervisor": running.process.pid}.items()
    }
    assert found == {"worker": {"2"}, "keeper": {"0"}, "guardian": {"0"}, "supervisor": {"0"}}
    assert "not confined" not in running.log


def test_somebody_who_lists_a_set_does_not_keep_run_from_starting(site: Site) -> None:
    """The kernel swaps no set that is being listed (EBUSY)."""
    site.run().stop()
    members = "".join(f"add gatekeeper-4-ssh 10.0.{n // 256}.{n % 256} timeout 600\n" for n in range(5000))
    site.shell("ipset", "restore", text=members)
    with inside(site.server):
        lister = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    lister.bind((0, 0))
    which = attribute(1, b"\6") + attribute(2, b"gatekeeper-4-ssh\0")
    lister.send(message(6 << 8 | 7, netfilter_header(socket.AF_INET) + which, flags=REQUEST | DUMP))
    with pytest.raises(FirewallError, match="busy"), inside(site.server):
        tools.run(["ipset", "swap", "gatekeeper-4-ssh", "gatekeeper-4-web"])
    threading.Timer(0.8, lister.close).start()  # it has read nothing until then
    site.run()
    assert site.members("ssh", 4) == []


def test_grants_are_back_after_a_reboot_before_the_ready_line(site: Site, version: int) -> None:
    """With the time that they have left, and without those that ended meanwhile."""
    running = site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    site.ok("grant", "10.9.8.7", "ssh", "--ttl", "1s")
    running.kill()
    reboot(site)
    assert site.stranger_connects(version) == "open", "a reboot leaves no ruleset"
    time.sleep(1.2)
    site.run()
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"
    left = {grant["source"]: grant["seconds_left"] for grant in site.status()["grants"] if grant["service"] == "ssh"}
    assert len(left) == 1
    assert 3500 < next(iter(left.values())) < 3600
    timeout = int(site.shell("ipset", "list", f"gatekeeper-{version}-ssh").split("timeout ")[-1])
    assert 3500 < timeout <= 3600


def test_open_streams_live_through_a_restart(site: Site, version: int) -> None:
    """The ruleset and the sets are swapped in one step each: a granted stream notices nothing."""
    running = site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        running.stop()
        site.run()
        assert probe.until_end(stream, timeout=0.5) is None


def test_a_grant_that_took_effect_is_there_after_kill_9(site: Site, version: int) -> None:
    """Killed right after the connect that its knock made possible: the grant is in the store."""
    running = site.run()
    with site.stream(version, knock=b"open_sesame"):
        running.kill()
    reboot(site)
    site.run()
    assert site.connect(version) == "open"


def test_grants_of_clients_and_services_that_are_gone_end_at_the_restart(site: Site) -> None:
    running = site.run()
    site.knock(b"open_desk", 4)
    wait_until(lambda: site.connect(4) == "open")
    running.stop()
    site.write_rules(f"services: {{ssh: {{port: tcp/{SSH}}}}}\nclients: {{new: {{open: open_new, services: [ssh]}}}}\n")
    again = site.run()
    assert site.connect(4) == "silent"
    assert "ended client=desk" in again.log
    assert site.status()["grants"] == []
    assert "web" not in site.shell("ipset", "list", "-n")


def test_a_damaged_store_is_a_clear_error_and_leaves_the_port_closed(site: Site, version: int) -> None:
    site.run().stop()
    reboot(site)
    for name in ("gatekeeper.db-wal", "gatekeeper.db-shm"):
        (site.state / name).unlink(missing_ok=True)
    (site.state / "gatekeeper.db").write_bytes(b"SQLite format 3\0" + b"garbage" * 2000)
    with pytest.raises(GatekeeperError) as failure:
        site.run()
    assert "damaged" in failure.value.message
    assert "Traceback" not in failure.value.message
    assert site.connect(version) == "silent"


def test_a_store_that_is_a_folder_is_a_clear_error_and_leaves_the_port_closed(site: Site) -> None:
    (site.state / "gatekeeper.db").mkdir(parents=True)
    with pytest.raises(GatekeeperError) as failure:
        site.run()
    assert "gatekeeper: error: the store" in failure.value.message
    assert "Traceback" not in failure.value.message
    assert site.connect(4) == "silent"


def test_bad_rules_change_nothing(site: Site) -> None:
    site.write_rules("services: {ssh: {port: tcp/99999}}")
    with pytest.raises(GatekeeperError) as failure:
        site.run()
    assert "rules.yaml:1:24: port 99999 is out of range" in failure.value.message
    assert site.connect(4) == "open"


def test_a_state_directory_that_cannot_be_used_leaves_the_port_closed(site: Site, version: int) -> None:
    """On a fresh start too, when there was no ruleset before."""
    site.state.write_text("not a folder")
    with pytest.raises(GatekeeperError) as failure:
        site.run()
    assert "gatekeeper: error: cannot write" in failure.value.message
    assert site.connect(version) == "silent"


def test_a_second_gatekeeper_on_one_state_directory_is_refused(site: Site) -> None:
    """Also from another network namespace."""
    running = site.run()
    with pytest.raises(GatekeeperError) as failure:
        Gatekeeper(site.client, site.rules, site.state)
    assert f"(process {running.process.pid})" in failure.value.message
    assert running.process.poll() is None


def test_a_second_gatekeeper_in_one_network_namespace_is_refused(site: Site) -> None:
    """Chains and sets have the same names for all: a second one would take the first one's away."""
    running = site.run()
    site.state = site.directory / "other-state"
    site.write_rules("services: {other: {port: tcp/9}}\nfirewall: {queue: 9}\n")
    with pytest.raises(GatekeeperError) as failure:
        site.run()
    assert f"guards this machine or network namespace (process {running.process.pid})" in failure.value.message
    assert running.process.poll() is None
    assert site.stranger_connects(4) == "silent"


def test_a_queue_that_another_program_has_is_refused(site: Site) -> None:
    code = (
        "from netfilterqueue import NetfilterQueue; q = NetfilterQueue(); q.bind(6220, print);"
        "print('up', flush=True); input()"
    )
    argv = netns_argv(site.server, sys.executable, "-c", code)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        with pytest.raises(GatekeeperError) as failure:
            site.run()
        other.kill()
    assert f"queue 6220 is taken by process {other.pid}" in failure.value.message


@pytest.mark.timing
def test_a_log_that_nobody_reads_does_not_keep_it_from_stopping(site: Site) -> None:
    """Nor from serving."""
    argv = gatekeeper_argv("run", "--rules", str(site.rules), "--state-dir", str(site.state))
    with subprocess.Popen(netns_argv(site.server, *argv), stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: site.shell("cat", "/proc/net/netfilter/nfnetlink_queue") != "", seconds=10)
            for _ in range(1500):
                site.knock(b"open_sesame", 4)
            wait_until(lambda: site.connect(4) == "open", seconds=10)
            begin = time.monotonic()
            process.terminate()
            assert process.wait(timeout=5) == 0
            assert time.monotonic() - begin < 1
        finally:
            process.kill()


def test_the_state_is_private(site: Site) -> None:
    """Nobody but its owner can read who was granted what."""
    site.run()
    site.knock(b"open_sesame", 4)
    wait_until(lambda: site.connect(4) == "open")
    assert site.state.stat().st_mode & 0o777 == 0o700
    assert {
        path.name: path.stat().st_mode & 0o077 for path in site.state.iterdir() if path.stat().st_mode & 0o077
    } == {}
