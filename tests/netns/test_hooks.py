"""Hooks on the kernel: run when grants begin and end, whoever does it, and in nobody's way."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from gatekeeper.demo.server import Gatekeeper
from tests.netns.family import children, stop
from tests.netns.site import CLIENT, RULES, Site, many, wait_until
from tests.netns.test_load import AS_NOBODY, state_of_nobody

TELL = "[/bin/sh, -c, 'echo $GATEKEEPER_EVENT $GATEKEEPER_REASON $GATEKEEPER_CLIENT $GATEKEEPER_SOURCE']"
HOOKS = f"on_open: {TELL}\non_close: {TELL}\n"


def told(running: Gatekeeper) -> list[str]:
    """What hooks have said, in order."""
    return re.findall(r'hook-said .* said="(.*)"', running.log)


def sockets(pid: int) -> set[str]:
    """Name the wires that a process has an end of: Unix sockets of whole messages."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()]
    wires = {f"socket:[{row[6]}]" for row in rows if row[4] == "0005"}
    return wires & {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}


def test_hooks_run_once_for_each_grant_whoever_begins_and_ends_it(site: Site) -> None:
    """A knock, a hand, time, a reload; not for what is renewed, and not again after a restart."""
    site.write_rules(RULES + HOOKS)
    site.rules.write_text(site.rules.read_text().replace("services: [ssh, echo]", "services: [ssh]"))
    running = site.run()
    expected = [f"open opened laptop {CLIENT[4]}"]
    site.knock(b"open_sesame", 4)
    wait_until(lambda: told(running) == expected)
    site.knock(b"open_sesame", 4)
    site.knock(b"close_sesame", 4)
    expected.append(f"close closed laptop {CLIENT[4]}")
    wait_until(lambda: told(running) == expected)
    site.ok("grant", "2001:db8:7::/64", "ssh", "--ttl", "2s")
    expected += ["open granted-elsewhere (admin) 2001:db8:7::/64", "close expired (admin) 2001:db8:7::/64"]
    wait_until(lambda: told(running) == expected)
    site.knock(b"open_sesame", 6)
    site.knock(b"open_desk", 4)  # two services
    wait_until(lambda: len(told(running)) == 7)
    running.stop()
    assert sorted(told(running)[4:]) == [f"open opened desk {CLIENT[4]}"] * 2 + [f"open opened laptop {CLIENT[6]}"]
    running = site.run()
    lines = [line for line in site.rules.read_text().splitlines(keepends=True) if "laptop" not in line]
    site.write_rules("".join(lines))
    site.ok("reload")
    wait_until(lambda: told(running) == [f"close ended laptop {CLIENT[6]}"])
    site.ok("revoke", CLIENT[4], "web")
    wait_until(lambda: told(running)[1:] == [f"close revoked-elsewhere desk {CLIENT[4]}"])
    assert running.stop() == 0
    assert "Traceback" not in running.log


def test_hooks_that_never_end_delay_no_knock_no_close_and_no_stop(site: Site) -> None:
    """All places of hooks are taken. A reload has brought them; it takes nobody down who is there already."""
    running = site.run()
    assert "hook-runner" not in children(running)
    site.write_rules(RULES + "on_open: [/bin/sleep, 600]\non_close: [/bin/sleep, 600]\nhook_timeout: 10m\n")
    site.ok("reload")
    pid = children(running)["hook-runner"]
    wires = sockets(running.process.pid) & sockets(children(running)["keeper"])
    assert wires, "the end by which the keeper says what is to be run"
    for name in ("worker", "guardian", "hook-runner"):
        assert not wires & sockets(children(running)[name]), name
    for number in range(4):
        site.ok("grant", many(4, number), "ssh")
    wait_until(lambda: len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) == 4)
    slowest = 0.0
    for _ in range(10):
        begin = time.monotonic()
        site.knock(b"open_sesame", 4)
        assert site.connect(4) == "open"
        slowest = max(slowest, time.monotonic() - begin)
        ended = running.log.count(" closed client=laptop ")
        site.knock(b"close_sesame", 4)  # what connects before it is carried out would be cut by it
        wait_until(lambda ended=ended: running.log.count(" closed client=laptop ") > ended)  # type: ignore[misc]
    assert slowest < 0.5
    stop(pid)  # and one who runs them and takes nothing
    site.knock(b"open_sesame", 4)
    assert site.connect(4) == "open"
    os.kill(pid, signal.SIGCONT)
    site.ok("reload")
    assert children(running)["hook-runner"] == pid
    begin = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - begin < 3
    assert running.log.count("killed, for run is stopping") == 4
    assert "hook-lost" in running.log


def test_a_hook_of_a_service_that_is_not_root_has_none_of_its_capabilities(site: Site) -> None:
    check = '[/bin/sh, -c, \'grep -E "^Cap(Prm|Eff|Amb)|^NoNew" /proc/self/status | tr -d "\\t\\n"\']'
    site.write_rules(RULES + f"on_open: {check}\n")
    with state_of_nobody(site):
        running = site.run(program=AS_NOBODY)
        site.knock(b"open_sesame", 4)
        none = "0" * 16
        wait_until(lambda: f"said=CapPrm:{none}CapEff:{none}CapAmb:{none}NoNewPrivs:1" in running.log)
        assert running.stop() == 0
