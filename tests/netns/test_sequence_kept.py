"""Port sequences in every dialect of the firewall: kept there, put back, taken out, and while it only observes."""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial

import pytest

from gatekeeper.demo.network import inside
from gatekeeper.firewall import snapshot
from tests.netns.family import children, stop
from tests.netns.sequences import (
    OPEN,
    close,
    granted,
    granted_to,
    knock,
    opens,
    seen,
    start,
)
from tests.netns.site import CLIENT, Site, wait_until
from tests.netns.test_heal import flush_ruleset


@pytest.mark.parametrize(("variant", "backend"), [("nft", "ipset"), ("legacy", "ipset"), ("nft", "rules")])
def test_it_works_and_is_kept_in_every_dialect(site: Site, version: int, variant: str, backend: str) -> None:
    running = start(site, more=f"firewall: {{variant: {variant}, backend: {backend}}}\n")
    knock(site, version, *OPEN)
    opens(site, version)
    close(site, version)
    tool = f"{'iptables' if version == 4 else 'ip6tables'}-{variant}"
    for chain in ("GKEEPER-STEPS", "GKEEPER-BEGIN", "GKEEPER-GO-ON", "INPUT"):
        repairs = running.log.count(" repaired ")
        site.shell(tool, "-t", "mangle", "-F", chain)
        wait_until(lambda repairs=repairs: running.log.count(" repaired ") > repairs)  # type: ignore[misc]
        time.sleep(0.45)
    knock(site, version, *OPEN)
    opens(site, version)
    assert "repair-failed" not in running.log
    done = site.command("doctor")
    assert "0 wrong" in done.stdout, done.stdout
    assert "nobody can knock" not in done.stdout
    assert running.stop() == 0


def test_sets_that_were_destroyed_with_the_rules_come_back(site: Site) -> None:
    running = start(site)
    guardian = stop(children(running)["guardian"])  # or it would be quicker than we are
    swap = ["ipset", "swap", "gatekeeper-s4", "gatekeeper-k4"]
    while any(site.inside(site.server, *swap).returncode for _ in range(2)):  # it stands still while it lists them
        os.kill(guardian, signal.SIGCONT)
        time.sleep(0.05)
        stop(guardian)
    flush_ruleset(site, "nft")
    for name in ("gatekeeper-s4", "gatekeeper-s6"):  # the kernel lets go of a set some time after its rules have gone
        wait_until(lambda name=name: site.inside(site.server, "ipset", "destroy", name).returncode == 0)  # type: ignore[misc]
    os.kill(guardian, signal.SIGCONT)
    wait_until(lambda: " repaired " in running.log)
    for version in (4, 6):
        knock(site, version, *OPEN)
        wait_until(partial(granted_to, site, CLIENT[version]))
    assert "repair-failed" not in running.log


def test_what_a_probation_puts_back_is_what_was_there(site: Site) -> None:
    """Chains in their order, jumps at their ends, and who has begun a sequence."""

    def there() -> list[str]:
        texts = [site.shell(tool, "-t", "mangle") for tool in ("iptables-save", "ip6tables-save")]
        lines = [line for text in texts for line in text.splitlines() if line.startswith(("-A", ":GK"))]
        return [re.sub(r" \[.*", "", line) for line in lines]

    start(site, "cam: {sequence: [7000, 8000, 9000], within: 1m, services: [ssh]}").stop()
    knock(site, 4, "7000")
    before = there()
    with inside(site.server):
        taken = snapshot.take()
        site.ok("flush")
        assert there() == []
        assert snapshot.put_back(taken) == []
    assert there() == before
    assert CLIENT[4] in site.shell("ipset", "list", "gatekeeper-s4")
    site.run()
    knock(site, 4, "7000", "8000", "9000")
    wait_until(partial(granted_to, site, CLIENT[4]))


def test_rules_without_sequences_leave_nothing_of_them(site: Site) -> None:
    running = start(site)
    assert "GKEEPER-STEPS" in site.shell("iptables-save")
    running.stop()
    running = start(site, "desk: {open: open_desk, services: [ssh]}")
    assert "GKEEPER-STEPS" not in site.shell("iptables-save")
    assert "gatekeeper-s4" not in site.shell("ipset", "list", "-n")
    running.stop()
    start(site).stop()
    assert "set gatekeeper-s6" in site.ok("flush", "--stop")
    assert "GKEEPER" not in site.shell("iptables-save") + site.shell("ipset", "list", "-n")


def test_while_it_observes_a_sequence_grants_and_nobody_is_kept_out(site: Site, version: int) -> None:
    running = start(site, more="mode: observe\n")
    assert site.stranger_connects(version) == "open"
    knock(site, version, *OPEN)
    wait_until(partial(granted, site, version))
    close(site, version)
    wait_until(lambda: "would-refuse reason=no-grant" in running.log)
    assert seen(site, version, "-sS", "-p", "9000", namespace=site.stranger)[0][2:4] == ("closed", "reset")
