"""``run --confirm``: what nobody confirms is put back as it was, whoever has died meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.demo.network import inside, netns_argv
from gatekeeper.demo.server import Gatekeeper, gatekeeper_argv
from gatekeeper.errors import GatekeeperError
from tests.netns.device import Device, rules_for, send, server_key
from tests.netns.site import RULES, STRANGER, Site, wait_until

QUICK = [
    sys.executable,
    "-c",
    "import sys; from gatekeeper.cli import main, options; options.seconds_to_confirm = int; sys.exit(main())",
]
"""The command line, but for how short --confirm may be."""
TOOLS = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")


@pytest.fixture
def site(site: Site) -> Iterator[Site]:
    """Leave nothing in the folder of locks: the numbers of namespaces are used again."""
    number = int(site.shell("stat", "-Lc", "%i", "/proc/self/ns/net"))
    yield site
    site.command("confirm", "--revert")
    for path in Path("/run/gatekeeper").glob(f"netns-{number}.*"):
        path.unlink(missing_ok=True)


def run(site: Site, seconds: int) -> Gatekeeper:
    return site.run("--confirm", str(seconds), program=QUICK)


def ours(site: Site) -> list[str]:
    """List the rules and chains of both variants in which there is something of ours, and our sets."""
    saved = [f"{tool} {line}" for tool in TOOLS for line in site.shell(f"{tool}-save").splitlines()]
    sets = [line for line in site.shell("ipset", "save").splitlines() if " gatekeeper-" in line]
    return [re.sub(r" \[\d+:\d+\]", "", line) for line in saved if "GKEEPER" in line or "THEIRS" in line] + sets


def ends(running: Gatekeeper, *, seconds: float = 8.0) -> int:
    """Wait until run has ended by itself; return the exit status."""
    wait_until(lambda: running.process.poll() is not None, seconds=seconds)
    return running.stop()


def is_open(site: Site) -> bool:
    return site.connect(4, namespace=site.stranger, timeout=0.2) == "open"


# -- not confirmed


def test_what_nobody_confirms_is_put_back_and_run_ends(site: Site) -> None:
    """Where nothing was, nothing is left; and who comes too late with ``confirm`` is told so."""
    running = run(site, 4)
    for version in (4, 6):
        assert site.connect(version, namespace=site.stranger, timeout=0.2) == "silent"
    site.knock(b"open_sesame", 6)
    wait_until(lambda: site.connect(6) == "open")
    assert ends(running) == 0
    assert ours(site) == []
    for version in (4, 6):
        assert site.stranger_connects(version) == "open"
    assert re.search(
        r"unless `gatekeeper confirm` comes within [1-4] s, the ruleset is put back as it was", running.log
    )
    assert "nobody confirmed within 4 s: the ruleset is put back as it was" in running.log
    assert "the ruleset is what it was: nothing of gatekeeper is in the kernel" in running.log
    assert "the ruleset stays" not in running.log
    late = site.command("confirm")
    assert late.returncode == 1
    assert "error: no ruleset waits to be confirmed" in late.stderr
    assert "nobody confirmed within 4 s" in late.stderr
    assert site.status()["grants"], "what was granted meanwhile stays in the store"
    assert "the earlier ruleset is put back" in site.ok("log", "--reason", "unconfirmed")


@pytest.mark.parametrize("death", ["kill -9", "terminal", "stubborn"])
def test_it_is_put_back_however_run_dies(site: Site, death: str) -> None:
    """Killed; with its terminal; or not at all, for it hangs."""
    if death == "terminal":
        master, slave = os.openpty()
        options = ["run", "--confirm", "4", "--rules", str(site.rules), "--state-dir", str(site.state)]
        argv = ["setsid", "--ctty", *netns_argv(site.server, *QUICK, *options)]
        with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave) as process:
            os.close(slave)
            said = b""
            while b" ready" not in said:
                said += os.read(master, 4096)
            assert not is_open(site)
            os.close(master)  # as a terminal does whose window is closed, or an ssh session that is cut
            assert process.wait(5) == -signal.SIGHUP
        assert not is_open(site)
    elif death == "kill -9":
        run(site, 2).kill()
        assert not is_open(site)
    else:
        run(site, 2).process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_open(site), seconds=12)
    wait_until(lambda: ours(site) == [])


@pytest.mark.parametrize("kinds", [("nft", "ipset", "legacy", "rules"), ("legacy", "rules", "nft", "ipset")])
def test_an_earlier_ruleset_comes_back_with_what_is_left_of_its_grants(site: Site, kinds: tuple[str, ...]) -> None:
    """From both variants and both backends; in its place among foreign rules; but for what was closed meanwhile."""
    first, first_backend, second, second_backend = kinds
    site.write_rules(f"{RULES}firewall: {{variant: {first}, backend: {first_backend}}}\n")
    running = site.run()
    sources = {"10.1.1.1": "forever", "10.1.1.2": "1h", "10.1.1.3": "2s", "10.1.1.4": "1h", "2001:db8:9::1": "1h"}
    for source, ttl in sources.items():
        site.ok("grant", source, "web" if ttl == "forever" else "ssh", "--ttl", ttl)
    short = time.monotonic() + 2.5
    running.stop()
    for tool in (f"iptables-{first}", f"ip6tables-{first}"):
        site.shell(tool, "-t", "mangle", "-N", "THEIRS")
        for place in ("1", "3"):
            site.shell(tool, "-t", "mangle", "-I", "INPUT", place, "-j", "THEIRS")
        site.shell(tool, "-t", "mangle", "-A", "INPUT", "-j", "THEIRS")
    before = ours(site)
    fewer = RULES.replace("desk:", "table:").replace("  web: {port: tcp/8080, ttl: 1h, established: cut}\n", "")
    fewer = fewer.replace("[ssh, web]", "[ssh]")
    site.write_rules(f"{fewer}firewall: {{variant: {second}, backend: {second_backend}}}\n")
    trial = run(site, 60)
    assert "IN-web" not in "".join(ours(site))
    site.ok("revoke", "10.1.1.4")
    site.ok("grant", STRANGER[4], "ssh")
    time.sleep(max(0, short - time.monotonic()))
    site.ok("confirm", "--revert")
    assert ends(trial) == 0
    assert "the ruleset is what it was: the earlier one" in trial.log
    after = ours(site)
    expected = [line for line in before if not _is_gone(line, first_backend)]
    assert list(map(_timeless, after)) == list(map(_timeless, expected))
    left = {line.split()[2]: int(line.split()[-1]) for line in after if line.startswith("add ")}
    if first_backend == "ipset":
        assert left.pop("10.1.1.1") == 0
        assert set(left) == {"10.1.1.2", "2001:db8:9::1"}
        assert all(3580 < seconds <= 3597 for seconds in left.values())


def _is_gone(line: str, backend: str) -> bool:
    """Say what does not come back: what was closed, and what has ended."""
    return "10.1.1.4" in line or (backend == "ipset" and "10.1.1.3" in line)


def _timeless(line: str) -> str:
    return re.sub(r"timeout [1-9]\d*$", "timeout N", line)


# -- stopped before


def test_who_stops_it_or_fails_to_start_it_has_put_it_back_at_once(site: Site) -> None:
    running = run(site, 60)
    assert not is_open(site)
    running.process.send_signal(signal.SIGINT)
    assert ends(running) == 0
    assert is_open(site)
    assert "run was stopped before it was confirmed: the ruleset is put back as it was" in running.log
    site.state = site.directory / "file"
    site.state.write_text("not a folder")
    with pytest.raises(GatekeeperError, match="cannot write"):
        run(site, 60)
    assert is_open(site)
    assert ours(site) == []


# -- confirmed


def test_what_is_confirmed_stays(site: Site) -> None:
    """Also if run has died and another has joined it; meanwhile there is no second one."""
    run(site, 60).kill()
    with pytest.raises(GatekeeperError, match=r"a ruleset waits to be confirmed already \(\d+ s are left\)"):
        run(site, 60)
    joined = site.run()
    wait_until(lambda: "unless `gatekeeper confirm` comes within" in joined.log)
    done = site.ok("confirm")
    assert re.fullmatch(r"confirmed with 5\d s left: the ruleset stays\n", done)
    wait_until(lambda: "confirmed: the ruleset stays" in joined.log)
    assert site.command("confirm").returncode == 1
    joined.stop()
    assert "closed stays closed" in joined.log
    assert not is_open(site)
    again = run(site, 60)
    again.kill()
    assert "run is not up: nobody answers knocks" in site.command("confirm").stderr


def test_revert_does_not_wait_and_does_without_a_guard(site: Site) -> None:
    running = run(site, 60)
    said = site.ok("confirm", "--revert")
    assert "`gatekeeper confirm --revert` was called: the ruleset is put back as it was" in said
    assert ends(running) == 0
    assert is_open(site)
    running = run(site, 60)
    with inside(site.server):
        guard = _guard(site)
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: "the guard of --confirm was killed" in running.log)
    assert "its guard had been killed" in site.ok("confirm", "--revert")
    assert ends(running) == 0
    assert is_open(site)
    run(site, 60).kill()
    os.kill(_guard(site), signal.SIGTERM)
    wait_until(lambda: is_open(site))


def test_flush_is_final_also_while_the_guard_tries_again(site: Site) -> None:
    site.run().stop()
    run(site, 60)
    site.shell("ipset", "create", "gatekeeper-t4-ssh", "hash:net", "timeout", "0")
    match = ["FORWARD", "-m", "set", "--match-set", "gatekeeper-t4-ssh", "src"]
    site.shell("iptables-nft", "-A", *match)  # so that the set cannot go, and nothing be put back
    argv = netns_argv(site.server, *gatekeeper_argv("confirm", "--revert"))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as revert, contextlib.ExitStack() as at_last:
        at_last.callback(revert.kill)
        assert revert.stdout is not None
        assert any("could not be put back" in line for line in revert.stdout)
        assert "it is too late" in site.command("confirm").stderr
        assert any("trying again in 5 s" in line for line in revert.stdout)  # time enough for what follows
        site.shell("iptables-nft", "-D", *match)
        assert "called off" in site.ok("flush", "--stop")
        assert revert.wait(10) == 1
    wait_until(lambda: _guards(site) == [])
    assert ours(site) == []
    assert is_open(site)


def test_what_lies_in_the_folder_is_no_trap_for_root(site: Site) -> None:
    """It can be the service's user's, who must not have root kill others, hang, or write to its terminal."""
    elsewhere = site.directory / "elsewhere"
    site.state.mkdir(mode=0o700)
    (site.state / "run.lock").symlink_to(elsewhere)
    holds = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('up'); sys.stdout.flush()"
    argv = netns_argv(site.server, sys.executable, "-c", f"{holds}; time.sleep(60)", str(elsewhere))
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        site.ok("flush", "--stop")
        assert other.poll() is None
        other.kill()
    (site.state / "run.lock").unlink()
    os.mkfifo(site.state / "run.lock")
    site.ok("flush", "--stop")
    with socket.socket(socket.AF_UNIX) as false:
        false.bind(f"/run/gatekeeper/netns-{site.shell('stat', '-Lc', '%i', '/proc/self/ns/net').strip()}.confirm.sock")
        false.listen()
        for answer in (b"[1]\n", b'{"state": "confirmed", "text": "", "left": null}\n', b"[" * 100_000 + b"\n"):
            argv = netns_argv(site.server, *gatekeeper_argv("confirm"))
            with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as asking:
                one, _ = false.accept()
                with one:
                    assert one.recv(64) == b"confirm\n"
                    one.sendall(answer)
                assert "error: no ruleset waits to be confirmed" in asking.communicate(timeout=10)[1]


def _guard(site: Site) -> int:
    """Find the guard in the server's namespace."""
    (guard,) = _guards(site)
    return guard


def _guards(site: Site) -> list[int]:
    number = int(site.shell("stat", "-Lc", "%i", "/proc/self/ns/net"))
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                b"gatekeeper.confirm.guard" in (process / "cmdline").read_bytes()
                and (process / "ns/net").stat().st_ino == number
            ):
                found.append(int(process.name))
    return found


def test_what_a_broken_boot_would_load_is_what_was_confirmed(site: Site) -> None:
    """Neither what was put back, nor what only observes."""
    kept = site.state / "closed.sh"
    running = run(site, 30)
    assert site.command("confirm", "--revert").returncode == 0
    ends(running)
    site.run("--observe").stop()
    assert not kept.exists()
    running = run(site, 30)
    assert not kept.exists()
    assert site.command("confirm").returncode == 0
    wait_until(kept.exists)
    running.stop()
    assert [path.name for path in site.state.glob("closed*")] == ["closed.sh"]


def test_it_is_put_back_also_while_knocks_come(site: Site) -> None:
    """Who knocks at the last moment, is in a set that counts."""
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}"))
    running = run(site, 3)
    while running.process.poll() is None:
        send(site, device.knock())
        time.sleep(0.2)
    assert running.stop() == 0
    assert ours(site) == []
