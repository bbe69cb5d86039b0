"""The ruleset and the sets stay what was loaded and granted, whatever others do; seen by a stranger who tries."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence

import pytest

from gatekeeper.demo.network import inside
from gatekeeper.firewall.netlink import NETFILTER, Netlink, attribute, message, nested, netfilter_header
from gatekeeper.store.sqlite import FILE
from tests.netns.device import Device, rules_for, send, server_key
from tests.netns.family import children, kill, stop
from tests.netns.prober import Prober, Probes
from tests.netns.site import CLIENT, RULES, SERVER, SSH, STRANGER, WEB, Site, wait_until
from tests.netns.test_sealed import WARPED

BOUND = {"nft": 0.05, "legacy": 0.3}
"""Seconds behind the end of what was done to the rules, after which a stranger gets no connect."""
TRIES = 3
"""One of so many must be within the bound: on a machine that does something else at that moment, not each is."""
EMPTY = "*mangle\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
PREFIX = {4: "iptables", 6: "ip6tables"}
Fault = Callable[[Site, str], None]


def tool(variant: str, version: int, action: str = "") -> str:
    return f"{PREFIX[version]}-{variant}{action}"


def wipe_filter(site: Site, variant: str) -> None:
    for version in (4, 6):
        for table in ("filter", "nat"):
            site.shell(tool(variant, version), "-t", table, "-F")
        site.shell(tool(variant, version), "-I", "INPUT", "-j", "ACCEPT")


def wipe(site: Site, variant: str) -> None:
    for version in (4, 6):
        for flag in ("-F", "-X"):  # which may be refused: it is being repaired meanwhile
            site.inside(site.server, tool(variant, version), "-t", "mangle", flag)


def insert_accept(site: Site, variant: str) -> None:
    for version in (4, 6):
        for base in ("INPUT", "OUTPUT"):
            site.shell(tool(variant, version), "-t", "mangle", "-I", base, "-j", "ACCEPT")


def restore_old(site: Site, variant: str) -> None:
    for version in (4, 6):
        site.shell(tool(variant, version, "-restore"), text=EMPTY)


def flush_ruleset(site: Site, variant: str) -> None:  # noqa: ARG001
    """Do what `nft flush ruleset` does: delete every table of every family, in one transaction."""
    with inside(site.server):
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    with kernel:
        begin, end = (message(kind, struct.pack("!BBH", 0, 0, 10)) for kind in (16, 17))
        kernel.send(begin + message(10 << 8 | 2, netfilter_header(0)) + end)


def probed(site: Site, fault: Fault, variant: str) -> tuple[float, float, Sequence[Probes]]:
    """Commit a fault while a stranger tries; tell when it began and ended, and how he fared."""
    with Prober(site.stranger, SERVER[4], SSH) as four, Prober(site.stranger, SERVER[6], SSH) as six:
        time.sleep(0.1)
        began = time.monotonic()
        fault(site, variant)
        ended = time.monotonic()
        time.sleep(BOUND[variant] + 0.2)
        return began, ended, [four.stop(), six.stop()]


@pytest.mark.timing
@pytest.mark.parametrize(("variant", "backend"), [("nft", "ipset"), ("nft", "rules"), ("legacy", "ipset")])
def test_what_others_do_to_the_rules_is_undone_before_it_matters(site: Site, variant: str, backend: str) -> None:
    """Granted streams go on meanwhile."""
    site.write_rules(f"{RULES}firewall: {{backend: {backend}, variant: {variant}}}\n")
    running = site.run()
    for version in (4, 6):
        site.knock(b"open_sesame", version)
    faults = [wipe_filter, wipe, restore_old, insert_accept, *([flush_ruleset] if variant == "nft" else [])]
    with site.stream(4) as four, site.stream(6) as six:
        for fault in faults:
            repairs = running.log.count(" repaired ")
            for _ in range(TRIES):
                late = how_late(site, fault, variant)
                if late <= BOUND[variant]:
                    break
                running.stop()  # or so many repairs at once would be taken for a fight
                running = site.run()
                repairs = 0
            assert late <= BOUND[variant], fault.__name__
            assert (running.log.count(" repaired ") > repairs) is (fault is not wipe_filter), fault.__name__
        for stream in (four, six):
            stream.recv(100)
            stream.sendall(b"on")
            assert stream.recv(100) == b"on"
    for version in (4, 6):
        assert site.connect(version) == "open", "grants outlive a repair"
        assert site.stranger_connects(version) == "silent"
    assert "all that is ours in mangle (IPv4)" in running.log
    assert variant == "legacy" or re.search(r'by="?[^"]*iptables-nft[^ ]* \(process \d+', running.log)
    assert "repair-failed" not in running.log
    assert running.stop() == 0


def how_late(site: Site, fault: Fault, variant: str) -> float:
    """Commit a fault; return how many seconds behind its end the last stranger got in. Shown with ``pytest -s``."""
    began, ended, probes = probed(site, fault, variant)
    last = [None if one.last is None else one.last - began for one in probes]
    shown = " ".join("-" if one is None else f"{one * 1000:.0f}ms" for one in (ended - began, *last))
    print(f"\n{fault.__name__} {variant}: {shown}", end="")  # noqa: T201
    for probe in probes:
        assert probe.rate > 500, "the stranger was not quick enough"
        assert fault is not wipe_filter or probe.connects == (), "nothing but the mangle table matters"
    return max((one for probe in probes for one in probe.after(ended)), default=0.0)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_any_change_of_a_chain_of_ours_is_undone_and_foreign_rules_elsewhere_stay(site: Site, variant: str) -> None:
    site.write_rules(f"{RULES}firewall: {{variant: {variant}}}\n")
    running = site.run()
    iptables = [tool(variant, 4), "-t", "mangle"]
    foreign = [["INPUT", "-s", "203.0.113.99", "-j", "DROP"], ["PREROUTING", "-j", "ACCEPT"]]
    before = rules_in(site, variant)
    site.shell(*iptables, "-I", foreign[0][0], "2", *foreign[0][1:])  # between our two jumps
    site.shell(*iptables, "-A", *foreign[1])
    time.sleep(0.3)
    assert "repaired" not in running.log, "ours keep their place"
    changes = (
        ["-I", "GKEEPER-IN-ssh", "-j", "RETURN"],
        ["-R", "GKEEPER-IN", "1", "-p", "tcp", "--dport", "1", "-g", "GKEEPER-IN-ssh"],
        ["-D", "OUTPUT", "-j", "GKEEPER-OUT"],
        ["-A", "INPUT", "-j", "GKEEPER-IN"],
    )
    for count, change in enumerate(changes, start=1):
        site.shell(*iptables, *change)
        wait_until(lambda count=count: running.log.count(" repaired ") == count)  # type: ignore[misc]
        time.sleep(0.1)
    for rule in foreign:
        site.shell(*iptables, "-D", *rule)
    assert rules_in(site, variant) == before


def rules_in(site: Site, variant: str) -> list[str]:
    saved = site.shell(tool(variant, 4, "-save"), "-t", "mangle")
    return sorted(line for line in saved.splitlines() if line.startswith("-A"))


@pytest.mark.parametrize("backend", ["ipset", "rules"])
def test_members_are_who_was_granted_whoever_changes_them(site: Site, backend: str) -> None:
    """A set or chain that was emptied is filled again, and whom nobody granted anything is taken out."""
    text = RULES.replace("max_ttl: 2h", f"max_ttl: 2h, always: ['{ALWAYS[4]}', '{ALWAYS[6]}']")
    site.write_rules(f"{text}firewall: {{backend: {backend}}}\n")
    running = site.run()
    for version in (4, 6):
        site.knock(b"open_sesame", version)
        wait_until(lambda version=version: site.connect(version) == "open")  # type: ignore[misc]
        change_members(site, backend, version)
    for version in (4, 6):
        lines = [
            f"was=shut-out source={CLIENT[version]} service=ssh",
            f"was=stray source={STRANGER[version]} service=web",
            *([f"was=wrong set=gatekeeper-a{version}-ssh"] if backend == "ipset" else []),
        ]
        wait_until(lambda lines=lines: all(line in running.log for line in lines))  # type: ignore[misc]
        assert site.connect(version) == "open"
        assert site.stranger_connects(version, WEB) == "silent"
        if backend == "ipset":
            assert site.members("ssh", version) == [CLIENT[version]]
            assert site.members("web", version) == []
            assert ALWAYS[version] in site.shell("ipset", "save", f"gatekeeper-a{version}-ssh")
    seen = len(running.lines)
    time.sleep(1.3)
    assert running.lines[seen:] == [], "what is in order is not mended again"


ALWAYS = {4: "198.18.9.0/24", 6: "2001:db8:cc::900/120"}


def change_members(site: Site, backend: str, version: int) -> None:
    """Take whom was granted something out, and let a stranger in."""
    if backend == "ipset":
        for name in (f"gatekeeper-{version}-ssh", f"gatekeeper-a{version}-ssh"):
            site.shell("ipset", "flush", name)
        site.shell("ipset", "add", f"gatekeeper-{version}-web", STRANGER[version])
        return
    iptables = [PREFIX[version], "-t", "mangle"]
    site.shell(*iptables, "-D", "GKEEPER-SRC-ssh", "1")
    for chain, flag, end in (("SRC", "-s", ["-g", "GKEEPER-PASS"]), ("DST", "-d", ["-j", "RETURN"])):
        site.shell(*iptables, "-I", f"GKEEPER-{chain}-web", flag, STRANGER[version], *end)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_what_is_changed_while_the_guardian_is_dead_is_not_taken_for_what_should_be(site: Site, variant: str) -> None:
    """Also where each chain has as many rules as it should."""
    site.write_rules(f"{RULES}firewall: {{variant: {variant}}}\n")
    running = site.run()
    before = rules_in(site, variant)
    guardian = children(running)["guardian"]
    stop(guardian)  # as good as dead, and not replaced yet
    for chain, number in (("GKEEPER-IN-ssh", "4"), ("GKEEPER-OUT-ssh", "4")):
        site.shell(tool(variant, 4), "-t", "mangle", "-R", chain, number, "-j", "RETURN")
    assert site.stranger_connects(4) == "open"
    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: rules_in(site, variant) == before)
    wait_until(lambda: " repaired " in running.log)
    assert site.stranger_connects(4) == "silent"


def test_the_log_says_for_how_long_from_the_change_on(site: Site) -> None:
    """Not from the last look, which was at somebody's harmless change long before."""
    running = site.run()
    site.shell("iptables", "-t", "mangle", "-A", "POSTROUTING", "-j", "ACCEPT")
    time.sleep(0.7)  # less than the seconds after which it looks by itself
    site.shell("iptables", "-t", "mangle", "-F", "GKEEPER-IN-ssh")
    wait_until(lambda: " repaired " in running.log)
    exposed = re.search(r" exposed=(\d+)ms ", running.log)
    assert exposed is not None
    assert int(exposed[1]) < 500


def test_the_rules_are_kept_while_there_is_no_store(site: Site) -> None:
    """The keeper cannot begin without one; who keeps the rules needs none."""
    running = site.run()
    before = rules_in(site, "nft")
    for path in site.state.glob(f"{FILE}*"):
        path.write_bytes(b"damaged" * 1000)
    kill(running, "keeper")
    wait_until(lambda: "the keeper cannot go on" in running.log)
    for version in (4, 6):
        site.shell(tool("nft", version), "-t", "mangle", "-F")
    wait_until(lambda: rules_in(site, "nft") == before)
    assert site.stranger_connects(4) == site.stranger_connects(6) == "silent"
    assert "Traceback" not in running.log
    begin = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - begin < 2


def test_rules_that_are_no_grants_do_not_stay_among_those_of_grants(site: Site) -> None:
    """Where grants are rules: whatever else they match, or for whom."""
    site.write_rules(f"{RULES}firewall: {{backend: rules}}\n")
    running = site.run()
    site.knock(b"open_sesame", 4)
    wait_until(lambda: site.connect(4) == "open")
    for what in (["-p", "tcp"], ["-i", "stranger"], ["!", "-s", "1.2.3.4"]):
        site.shell("iptables", "-t", "mangle", "-I", "GKEEPER-SRC-ssh", *what, "-g", "GKEEPER-PASS")
        out = ["-o", "stranger"] if what[0] == "-i" else ["-p", "tcp"]
        site.shell("iptables", "-t", "mangle", "-I", "GKEEPER-DST-ssh", *out, "-j", "RETURN")
        wait_until(lambda: site.stranger_connects(4) == "silent", seconds=4)
        assert site.connect(4) == "open"
    assert "rules that are nobody's grant were among those of grants; they are gone" in running.log


def change_tables(site: Site, *requests: tuple[int, int, bytes]) -> None:
    """Do what `nft` does, in one step."""
    with inside(site.server):
        kernel = Netlink(NETFILTER)
    with kernel:
        kernel.batch(10, requests)


@pytest.mark.parametrize("fault", ["dormant", "no hook", "behind all others"])
def test_rules_that_no_packet_meets_any_more_are_noticed_and_hooked_again(site: Site, fault: str) -> None:
    """By nft a table can be made dormant, and a base chain be declared anew without its hook."""
    running = site.run()
    before = rules_in(site, "nft")
    mangle = netfilter_header(socket.AF_INET) + attribute(1, b"mangle\0")
    new_table, new_chain, delete_chain, delete_rules = (10 << 8 | kind for kind in (0, 3, 5, 8))
    if fault == "dormant":
        change_tables(site, (new_table, 0, mangle + attribute(2, b"\0\0\0\1")))
    for name, number in (("INPUT", 1), ("OUTPUT", 3)) if fault != "dormant" else ():
        hook = nested(4, attribute(1, number.to_bytes(4)), attribute(2, (300).to_bytes(4)))
        kind = b"" if fault == "no hook" else hook + attribute(7, b"filter\0")
        chain = attribute(3, name.encode() + b"\0")
        change_tables(
            site,
            (delete_rules, 0, mangle + attribute(2, name.encode() + b"\0")),
            (delete_chain, 0, mangle + chain),
            (new_chain, 0x400, mangle + chain + kind),
        )
    wait_until(lambda: " repaired " in running.log)
    wait_until(lambda: rules_in(site, "nft") == before)
    assert site.stranger_connects(4) == "silent"
    assert "repair-failed" not in running.log


def test_sets_that_were_destroyed_with_the_rules_are_made_and_filled_again(site: Site) -> None:
    """A rule knows its set by a number, which may be another's afterwards."""
    running = site.run()
    for version in (4, 6):
        site.knock(b"open_sesame", version)
        wait_until(lambda version=version: site.connect(version) == "open")  # type: ignore[misc]
    keeper = stop(children(running)["guardian"])  # or it would be quicker than we are
    swap = ["ipset", "swap", "gatekeeper-4-ssh", "gatekeeper-4-web"]
    while any(site.inside(site.server, *swap).returncode for _ in range(2)):  # it stands still while it lists them
        os.kill(keeper, signal.SIGCONT)
        time.sleep(0.05)
        stop(keeper)
    flush_ruleset(site, "nft")
    for name in sorted(site.shell("ipset", "list", "-n").split()):
        # The kernel lets go of a set some time after its rules have gone: long after, where it has much to clean up.
        gone = lambda name=name: site.inside(site.server, "ipset", "destroy", name).returncode == 0  # noqa: E731
        wait_until(gone, seconds=20)
    site.shell("ipset", "create", "somebody-elses", "hash:ip")
    for version in (6, 4):
        site.shell("ipset", "create", f"gatekeeper-{version}-web", "hash:net", "timeout", "0", *family(version))
    os.kill(keeper, signal.SIGCONT)
    wait_until(lambda: " repaired " in running.log)
    for version in (4, 6):
        wait_until(lambda version=version: site.connect(version, timeout=0.3) == "open")  # type: ignore[misc]
        assert site.connect(version, port=WEB, timeout=0.3) == "silent"
        assert site.stranger_connects(version) == "silent"
    assert "repair-failed" not in running.log


def family(version: int) -> list[str]:
    options = ["hashsize", "1024", "maxelem", "1048576"]
    return ["family", "inet" if version == 4 else "inet6", *options]


def test_two_who_undo_each_other_do_so_with_pauses(site: Site) -> None:
    running = site.run()
    end = time.monotonic() + 5
    while time.monotonic() < end and " fighting " not in running.log:
        site.inside(site.server, "iptables", "-t", "mangle", "-D", "INPUT", "-j", "GKEEPER-IN")
        time.sleep(0.05)
    assert re.search(r" fighting with=\"?.*iptables", running.log)
    repairs = running.log.count(" repaired ")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        site.inside(site.server, "iptables", "-t", "mangle", "-D", "INPUT", "-j", "GKEEPER-IN")
        time.sleep(0.02)
    assert running.log.count(" repaired ") - repairs <= 3
    assert running.log.count(" fighting ") == 1
    wait_until(lambda: site.connect(4, timeout=0.3) == "silent", seconds=6)


@pytest.mark.parametrize("is_due", ["at the start", "after a step of the clock"])
def test_what_is_wiped_when_tags_are_due_is_put_back(site: Site, is_due: str) -> None:
    """New tags lead to a chain that is gone too: that must not keep the guardian from its work."""
    clock = site.directory / "clock"
    clock.write_text("0")
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}"))
    running = site.run(program=(sys.executable, WARPED, str(clock), "-"))
    guardian = children(running)["guardian"]
    stopped = running.process.pid if is_due == "at the start" else guardian
    stop(stopped)
    if is_due == "at the start":
        os.kill(guardian, signal.SIGKILL)
    else:
        clock.write_text("3600")
    flush_ruleset(site, "nft")
    assert site.stranger_connects(4) == "open"
    os.kill(stopped, signal.SIGCONT)
    time.sleep(2)
    assert [site.stranger_connects(version) for version in (4, 6)] == ["silent", "silent"], running.log
    send(site, device.knock(late=-float(clock.read_text())))
    wait_until(lambda: site.members("ssh", 4) == [CLIENT[4]])
