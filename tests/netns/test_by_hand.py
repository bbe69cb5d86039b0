"""What an administrator does by hand: grant, revoke, status, flush; and both variants of iptables."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from gatekeeper.demo import probe
from tests.netns.family import children, stop
from tests.netns.site import CLIENT, WEB, Site, wait_until

NETWORK = {4: "198.51.100.0/24", 6: "2001:db8:c::/64"}
TOOLS = ("iptables", "ip6tables")


@pytest.mark.parametrize("is_up", [True, False], ids=["run-is-up", "run-is-not-up"])
def test_grant_and_revoke_an_address(site: Site, version: int, is_up: bool) -> None:
    running = site.run()
    if not is_up:
        running.stop()
    said = site.ok("grant", CLIENT[version], "ssh", "--ttl", "30m")
    assert said.startswith(f"granted ssh to {CLIENT[version]} until ")
    assert site.connect(version) == "open"
    assert site.connect(version, port=WEB) == "silent"
    assert site.stranger_connects(version) == "silent"
    with site.stream(version) as stream:
        said = site.ok("revoke", CLIENT[version])
        assert f"revoked ssh from {CLIENT[version]} (client (admin))" in said
        end = probe.until_end(stream, timeout=1)
        assert end is not None
    assert site.connect(version) == "silent"


def test_a_grant_by_hand_that_was_over_before_run_looked_is_cut_and_in_the_trail(site: Site, version: int) -> None:
    """`run` looks once a second, or later where the machine is busy; and a grant may be as short."""
    running = site.run()
    keeper = stop(children(running)["keeper"])
    site.ok("grant", CLIENT[version], "web", "--ttl", "1s")
    with site.stream(version, port=WEB) as stream:
        time.sleep(1.2)
        os.kill(keeper, signal.SIGCONT)
        assert probe.until_end(stream, timeout=3) is not None
    wait_until(lambda: " expired client=(admin) " in running.log)
    assert " expired " in site.ok("log")


def test_grant_and_revoke_a_network(site: Site, version: int) -> None:
    site.run()
    site.ok("grant", NETWORK[version], "ssh")
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"
    with site.stream(version) as stream:
        site.ok("revoke", NETWORK[version], "ssh")
        assert probe.until_end(stream, timeout=1) is not None
    assert site.connect(version) == "silent"


def test_revoking_a_network_ends_the_grants_inside_it(site: Site, version: int) -> None:
    site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    said = site.ok("revoke", NETWORK[version])
    assert "(client laptop)" in said
    assert site.connect(version) == "silent"


def test_run_logs_what_was_done_by_hand(site: Site) -> None:
    running = site.run()
    site.ok("grant", CLIENT[4], "ssh")
    wait_until(lambda: f"granted-elsewhere client=(admin) source={CLIENT[4]} service=ssh" in running.log)
    site.ok("revoke", CLIENT[4])
    wait_until(lambda: f"revoked-elsewhere client=(admin) source={CLIENT[4]} service=ssh" in running.log)


def test_revoking_one_service_leaves_the_others(site: Site, version: int) -> None:
    site.run()
    site.ok("grant", CLIENT[version], "ssh")
    site.ok("grant", CLIENT[version], "web")
    site.ok("revoke", CLIENT[version], "web")
    assert site.connect(version) == "open"
    assert site.connect(version, port=WEB) == "silent"


def test_revoking_an_address_inside_a_granted_network_says_that_it_is_still_open(site: Site) -> None:
    site.run()
    site.ok("grant", NETWORK[4], "ssh")
    site.ok("grant", CLIENT[4], "ssh")
    with site.stream(4) as stream:
        done = site.command("revoke", CLIENT[4])
        assert done.returncode == 0
        assert f"still open: ssh for {NETWORK[4]}" in done.stderr
        assert probe.until_end(stream, timeout=0.3) is None
    assert site.connect(4) == "open"


def test_a_grant_by_hand_replaces_its_time(site: Site) -> None:
    """Shorter or longer: the last word counts, in the store and in the kernel."""
    site.run()
    for ttl, low, high in (("2h", 7100, 7200), ("5m", 290, 300), ("1h", 3500, 3600)):
        site.ok("grant", CLIENT[4], "ssh", "--ttl", ttl)
        timeout = int(site.shell("ipset", "list", "gatekeeper-4-ssh").split("timeout ")[-1])
        assert low < timeout <= high
        assert len(site.status()["grants"]) == 1


def test_what_makes_no_sense_is_refused_with_a_hint(site: Site) -> None:
    for arguments, words in (
        (("grant", "192.0.2.999", "ssh"), "neither an address nor a network"),
        (("grant", "::ffff:0:0/0", "ssh"), "too wide"),
        (("grant", "192.0.2.1", "shh"), 'did you mean "ssh"?'),
        (("grant", "192.0.2.1", "ssh", "--ttl", "3h"), "longer than max_ttl"),
        (("grant", "192.0.2.1", "ssh", "--ttl", "forever"), "longer than max_ttl"),
        (("grant", "192.0.2.1", "ssh", "--ttl", "soon"), "is not a duration"),
        (("revoke", "192.0.2.1"), "there is no grant"),
    ):
        done = site.command(*arguments)
        assert done.returncode == 1, arguments
        assert done.stderr.startswith("gatekeeper: error: "), arguments
        assert words in done.stderr


def test_a_grant_before_the_first_run_takes_effect_with_it(site: Site) -> None:
    done = site.command("grant", CLIENT[4], "ssh")
    assert done.returncode == 0
    assert "stored, but not in the kernel yet" in done.stderr
    site.run()
    assert site.connect(4) == "open"


def test_status_tells_grants_services_and_counters(site: Site, version: int) -> None:
    running = site.run()
    site.knock(b"open_sesame", version)
    site.knock(b"wrong_sesame", version, namespace=site.stranger)
    site.knock(b"no", version, namespace=site.stranger)  # shorter than any key: nobody looks at it
    wait_until(lambda: {"opened", "unknown-key"} <= site.status()["counters"].keys())
    found = json.loads(site.ok("status", "--json"))
    assert (found["running"], found["pid"]) == (True, running.process.pid)
    assert found["kernel"] == {
        "ruleset": True,
        "observes": False,
        "backend": "ipset",
        "members": {"ssh": 1, "web": 0, "echo": 1},
        "dropped": {"no-tag": 1},
    }
    sources = {(grant["source"], grant["service"], grant["client"]) for grant in found["grants"]}
    assert sources == {(CLIENT[version], "ssh", "laptop"), (CLIENT[version], "echo", "laptop")}
    text = site.ok("status")
    assert text.startswith("run is up (process ")
    assert CLIENT[version] in text
    running.stop()
    found = json.loads(site.ok("status", "--json"))
    assert (found["running"], len(found["grants"])) == (False, 2)
    assert "run is not up" in site.ok("status")


def _everything(site: Site) -> str:
    """Return all rules and sets of the server, of both variants, without counters and comments."""
    lines: list[str] = []
    for tool in TOOLS:
        for variant in ("nft", "legacy"):
            saved = site.shell(f"{tool}-{variant}-save").splitlines()
            lines += [line.split(" [")[0] for line in saved if not line.startswith("#")]
    return "\n".join([*lines, site.shell("ipset", "list", "-n")])


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_flush_removes_all_of_ours_and_nothing_else(site: Site, variant: str) -> None:
    """Foreign rules, chains and sets, in the same tables, are as they were."""
    site.shell("ipset", "create", "theirs", "hash:ip")
    for tool in TOOLS:
        for table, chain in (("mangle", "INPUT"), ("raw", "PREROUTING"), ("filter", "INPUT")):
            site.shell(f"{tool}-{variant}", "-t", table, "-N", "THEIRS")
            site.shell(f"{tool}-{variant}", "-t", table, "-A", chain, "-p", "tcp", "--dport", "99", "-j", "THEIRS")
    before = _everything(site)
    site.write_rules(site.rules.read_text() + f"firewall: {{variant: {variant}}}\n")
    site.run()
    site.knock(b"open_sesame", 4)
    wait_until(lambda: site.connect(4) == "open")
    loaded = _everything(site)
    assert "GKEEPER-IN" in loaded
    removed = site.ok("flush", "--stop")
    assert f"removed iptables ({variant}): chain -t mangle GKEEPER-IN" in removed
    assert "removed ipset: set gatekeeper-6-ssh" in removed
    after = _everything(site)
    assert sorted(set(after.splitlines())) == sorted(set(before.splitlines()))
    assert site.stranger_connects(4) == "open"
    assert site.ok("flush") == "nothing of gatekeeper was in the kernel\n"


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_both_variants_open_and_close(site: Site, version: int, variant: str) -> None:
    site.write_rules(site.rules.read_text() + f"firewall: {{variant: {variant}, queue: 77, mark: 0x40}}\n")
    running = site.run()
    assert f"queues from 77, iptables {variant}" in running.log
    assert site.stranger_connects(version) == "silent"
    with site.stream(version, knock=b"open_sesame") as stream:
        assert probe.until_end(stream, timeout=0.2) is None
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=1) is not None
    assert site.connect(version) == "silent"


def test_a_change_of_variant_leaves_rules_in_one_only(site: Site) -> None:
    """With rules in both, each knock would be queued twice, and the second would look like a replay."""
    rules = site.rules.read_text()
    for variant, other in (("nft", "legacy"), ("legacy", "nft"), ("nft", "legacy")):
        site.write_rules(rules + f"firewall: {{variant: {variant}}}\n")
        running = site.run()
        assert "GKEEPER-IN" in site.shell(f"iptables-{variant}-save")
        assert "GATEKEEPER" not in site.shell(f"iptables-{other}-save")
        assert "GATEKEEPER" not in site.shell(f"ip6tables-{other}-save")
        site.knock(b"open_sesame", 4)
        wait_until(lambda: site.connect(4) == "open")
        site.knock(b"close_sesame", 4)
        wait_until(lambda: site.connect(4) == "silent")
        assert running.stop() == 0


def test_restarts_do_not_pile_up_jumps(site: Site) -> None:
    for _ in range(3):
        site.run().stop()
    saved = site.shell("iptables-save")
    assert saved.count("-j GKEEPER-IN") == 1
    assert saved.count("-j GKEEPER-RAW") == 1


def test_ruleset_prints_what_run_loads(site: Site) -> None:
    """The printed text, loaded by hand, gives what run loads."""
    text = site.ok("ruleset")
    sets, four, six = (part.split("\n", 1)[1] for part in text.split("# ip")[1:])
    site.run().stop()
    loaded = _everything(site)
    site.ok("flush")
    site.shell("ipset", "restore", text=sets)
    site.shell("iptables-restore", "--noflush", text=four)
    site.shell("ip6tables-restore", "--noflush", text=six)
    assert sorted(_everything(site).splitlines()) == sorted(loaded.splitlines())
