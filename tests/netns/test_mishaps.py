"""What went wrong once: packets that filled the queue, foreign rules, tools that fail, processes that die half-way."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import time
from ipaddress import ip_network
from typing import Any

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from gatekeeper.errors import FirewallError, GatekeeperError
from gatekeeper.firewall import apply, backends, members, ruleset, tools
from gatekeeper.model import BY_HAND, Admit, Grant
from gatekeeper.rules import load
from gatekeeper.store.lock import ChangeLock
from gatekeeper.store.sqlite import FILE, SqliteStore
from tests.netns.site import CLIENT, MANY, RULES, SERVER, SSH, STRANGER, UDP, WEB, Site, wait_until

BY_RULES = f"{RULES}firewall: {{backend: rules}}\n"
SO_TIMESTAMPNS = 35


# -- the queue


def test_no_packet_stays_in_the_queue_however_long_it_is(site: Site, version: int) -> None:
    """The message for a long packet with a timestamp is longer than the library reads; it got no verdict, for ever."""
    site.write_rules(f"{RULES}knock: {{via: [udp, icmp, syn]}}\n")
    site.run()
    with inside(site.server):
        stamped = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stamped, inside(site.stranger):
        stamped.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # as tcpdump, ping or an NTP daemon have it
        one = socket.socket(probe.family_of(SERVER[version]), socket.SOCK_DGRAM)
        with one:
            for size in (3900, 3990, 4000, 4096, 9000, 60_000):
                one.sendto(b"x" * size, (SERVER[version], 62201))
                one.sendto(b"x" * size, (SERVER[version], UDP))
                ping = ["ping", f"-{version}", "-c2", "-i0.01", "-W1", "-s", str(size), SERVER[version]]
                assert site.inside(site.stranger, *ping).returncode == 0, size
    wait_until(lambda: site.waiting() == 0)
    assert probe.connect(site.client, SERVER[version], SSH, timeout=2, knock=b"open_sesame").result == "open"


# -- foreign rules


@pytest.mark.parametrize("mode", ["guard", "observe"])
def test_the_hosts_own_rules_in_the_mangle_table_still_decide(site: Site, version: int, mode: str) -> None:
    """What the queue lets go on skips the rest of the table, so it comes last there: with and without a worker."""
    tool = "iptables" if version == 4 else "ip6tables"
    pings = ["icmp", "--icmp-type", "8"] if version == 4 else ["ipv6-icmp", "--icmpv6-type", "128"]
    for kind in (["tcp"], pings):
        site.shell(tool, "-t", "mangle", "-A", "INPUT", "-s", STRANGER[version], "-p", *kind, "-j", "DROP")
    site.write_rules(f"mode: {mode}\n{RULES}knock: {{via: [udp, icmp]}}\n")
    running = site.run()
    for _ in range(2):
        ping = ["ping", f"-{version}", "-c1", "-W1", SERVER[version]]
        assert site.inside(site.client, *ping).returncode == 0
        assert site.inside(site.stranger, *ping).returncode == 1
        assert site.stranger_connects(version) == "silent"
        running.kill()


@pytest.mark.parametrize("backend", ["ipset", "rules"])
def test_a_foreign_rule_is_left_alone_whatever_its_comment_says(site: Site, backend: str) -> None:
    comment = "stood before -j GKEEPER-IN -g GKEEPER-IN"
    rule = ["INPUT", "-s", "203.0.113.9", "-m", "comment", "--comment", comment, "-j", "DROP"]
    site.shell("iptables", "-t", "mangle", "-A", *rule)
    site.write_rules(f"{RULES}firewall: {{backend: {backend}}}\n")
    for _ in range(2):
        site.run().stop()
    site.ok("flush")
    site.shell("iptables", "-t", "mangle", "-C", *rule)


def test_a_foreign_rule_that_uses_a_set_of_ours_does_not_keep_run_from_starting(site: Site, version: int) -> None:
    site.run().stop()
    foreign = ["INPUT", "-m", "set", "--match-set", "gatekeeper-4-web", "src", "-j", "ACCEPT"]
    site.shell("iptables", "-A", *foreign)
    site.write_rules(RULES.replace("web", "www"))
    running = site.run()
    assert "the set gatekeeper-4-web is emptied, and not removed" in running.log
    assert ", ipset;" in running.log
    assert probe.connect(site.client, SERVER[version], SSH, timeout=2, knock=b"open_sesame").result == "open"


def test_marks_that_others_save_let_no_old_connection_of_a_stranger_in(site: Site, version: int) -> None:
    """Our resets bear a mark; where a host copies marks to connections, it must not be ours."""
    tool = "iptables" if version == 4 else "ip6tables"
    site.shell(tool, "-t", "mangle", "-A", "POSTROUTING", "-j", "CONNMARK", "--save-mark")
    site.write_rules(f"mode: observe\n{RULES}")
    observing = site.run()
    _, stream = probe.open_stream(site.stranger, SERVER[version], SSH, timeout=2)
    assert stream is not None
    with stream:
        stream.recv(100)
        drop = ["INPUT", "-p", "tcp", "--tcp-flags", "RST", "RST", "-j", "DROP"]
        assert site.inside(site.stranger, tool, "-A", *drop).returncode == 0
        observing.stop()
        site.write_rules(f"refuse: reset\n{RULES}")
        site.run()
        assert probe.until_end(stream, timeout=3) is not None


# -- networks that need no knock


def test_who_needs_no_knock_is_not_cut_when_somebody_elses_grant_ends(site: Site, version: int) -> None:
    always = "always: [198.51.100.0/24, '2001:db8:c::/64']"
    wide = "laptop: {open: open_sesame, close: close_sesame, services: [ssh], prefix: {ipv4: 16, ipv6: 32}}"
    site.write_rules(f"services:\n  ssh: {{port: tcp/{SSH}, {always}}}\nclients:\n  {wide}\n")
    site.run()
    with site.stream(version) as stream:
        stream.recv(100)
        site.knock(b"open_sesame", version)
        wait_until(lambda: bool(site.members("ssh", version)))
        site.knock(b"close_sesame", version)
        wait_until(lambda: not site.members("ssh", version))
        assert probe.until_end(stream, timeout=0.5) is None


@pytest.mark.timing
def test_ten_thousand_banned_networks_do_not_slow_the_worker_down(site: Site) -> None:
    """With `refuse: reset` what they send is queued, and was compared with each."""
    never = ", ".join(f"100.{n // 256}.{n % 256}.0/24" for n in range(10_000))
    site.write_rules(f"refuse: reset\nnever: [{never}]\n{RULES}")
    site.run()
    site.connect(4, port=9)
    flood = ["hping3", "-S", "-p", str(SSH), "-i", "u2000", "-c", "400", "-q", SERVER[4]]
    site.inside(site.stranger, *flood)
    attempt = probe.connect(site.client, SERVER[4], SSH, timeout=3, knock=b"open_sesame")
    assert (attempt.result, attempt.resent) == ("open", 0)


# -- tools that fail, processes that die


def test_loading_that_fails_half_way_leaves_both_ip_versions_as_they_were(
    site: Site, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = tools.Iptables.restore

    def fail(self: tools.Iptables, of: int, text: str) -> None:
        if of == 6:
            raise FirewallError("ip6tables-restore refused")
        restore(self, of, text)

    with inside(site.server):
        rules = load(site.rules)[0]
        backend, _, _ = backends.load(rules)
        assert backend.change({("ssh", ip_network(CLIENT[version])): None}, []) == {}
        site.write_rules(BY_RULES)
        with monkeypatch.context() as patch:
            patch.setattr(tools.Iptables, "restore", fail)
            with pytest.raises(FirewallError):
                backends.load(load(site.rules)[0])
        backend.close()
    assert site.connect(version) == "open"
    assert site.connect(version, port=WEB, timeout=0.3) == "silent"
    assert "SRC-ssh" not in site.shell("iptables-save")


def test_a_start_that_was_killed_between_the_ip_versions_does_not_keep_a_source_in(site: Site, version: int) -> None:
    """IPv4 has rules and IPv6 has sets then; revoke closes both."""
    with inside(site.server):
        rules = load(site.rules)[0]
        first, _, _ = backends.load(rules)
        assert first.change({("ssh", ip_network(CLIENT[version])): None}, []) == {}
        first.close()
        variant = tools.choose("auto")
        variant.restore(4, ruleset.iptables_text(rules, 4, members.RuleMembers(), variant.save(4)))
    site.ok("grant", CLIENT[version], "ssh")
    site.ok("revoke", CLIENT[version])
    assert site.connect(version, timeout=0.3) == "silent"


@pytest.mark.parametrize(
    "words", ["ipset: Cannot open session to kernel.", "Kernel error received: set type not supported"]
)
def test_a_kernel_without_ipset_is_no_reason_not_to_guard(
    site: Site, version: int, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    run = tools.run

    def refuse(argv: list[str], text: str | None = None) -> str:
        if argv[0] == "ipset":
            raise FirewallError(f"ipset refused: {words}")
        return run(argv, text)

    monkeypatch.setattr(tools, "run", refuse)
    with inside(site.server):
        backend, _, warnings = backends.load(load(site.rules)[0])
        assert backend.name == "rules"
        assert len(warnings) == 1
        assert backend.change({("ssh", ip_network(CLIENT[version])): 60}, []) == {}
        assert site.connect(version) == "open"
        backend.close()
        assert apply.flush()


def test_only_a_lack_of_ipset_makes_rules_of_grants(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not, say, another program that holds the lock of iptables for some seconds."""

    def refuse(_: Any) -> Any:
        raise FirewallError("iptables-legacy-restore refused: Can't lock /run/xtables.lock")

    monkeypatch.setattr(apply, "load_sets", refuse)
    with inside(site.server), pytest.raises(FirewallError, match="Can't lock"):
        backends.load(load(site.rules)[0])


def test_revoke_takes_out_what_nobody_was_granted(site: Site, version: int) -> None:
    """What an earlier failure left behind."""
    site.write_rules(BY_RULES)
    site.run()
    tool = "iptables" if version == 4 else "ip6tables"
    for chain, flag, way in (("SRC", "-s", ["-g", "GKEEPER-PASS"]), ("DST", "-d", ["-j", "RETURN"])):
        site.shell(tool, "-t", "mangle", "-I", f"GKEEPER-{chain}-ssh", flag, CLIENT[version], *way)
    assert site.connect(version) == "open"
    site.command("revoke", CLIENT[version])
    assert site.connect(version, timeout=0.3) == "silent"


def test_without_a_store_nobody_stays_in_where_the_kernel_keeps_no_time(site: Site, version: int) -> None:
    site.write_rules(BY_RULES)
    running = site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version, timeout=0.3) == "open")
    running.kill()
    (site.state / FILE).write_bytes(b"junk" * 5000)
    for more in ("-wal", "-shm"):
        (site.state / (FILE + more)).unlink(missing_ok=True)
    with pytest.raises(GatekeeperError, match="is damaged"):
        site.run()
    assert site.connect(version, timeout=0.3) == "silent"


def test_a_crowd_that_ends_together_is_out_in_time_without_sets(site: Site, version: int) -> None:
    site.write_rules(BY_RULES)
    crowd = ip_network(MANY[version])
    with contextlib.closing(SqliteStore(site.state)) as store:
        now = time.time()
        grants = [Grant(ip_network(crowd[number]), "ssh", BY_HAND, now + 5) for number in range(1, 501)]
        store.commit([Admit(tuple(grants))], now=now)
    site.run()
    assert site.status()["kernel"]["members"]["ssh"] == 500
    wait_until(lambda: site.status()["kernel"]["members"]["ssh"] == 0, seconds=now + 9 - time.time())


def test_where_nobody_ends_a_grant_it_is_said(site: Site, version: int) -> None:
    site.write_rules(BY_RULES)
    running = site.run()
    running.stop()
    assert "open stays open until run is back" in running.log
    done = site.command("grant", CLIENT[version], "ssh", "--ttl", "1m")
    assert "without ipset nobody else ends a grant" in done.stderr
    assert "what is open stays open until run is back" in site.ok("status")


@pytest.mark.timing
def test_an_honest_client_is_not_refused_while_its_grant_is_being_stored(site: Site, version: int) -> None:
    """A slow disk: its SYN is dropped in silence, so that it comes again."""
    site.write_rules(f"refuse: reset\n{RULES}")
    site.run()
    site.connect(version, port=9)
    with ChangeLock(site.state)():
        site.knock(b"open_sesame", version)
        with inside(site.client):
            stream = socket.socket(probe.family_of(SERVER[version]), socket.SOCK_STREAM)
        stream.setblocking(False)
        stream.connect_ex((SERVER[version], SSH))
        time.sleep(0.3)
    with stream:
        stream.settimeout(3)
        assert stream.recv(100)


def test_what_is_revoked_while_observing_is_cut_by_guarding(site: Site, version: int) -> None:
    site.write_rules(f"mode: observe\n{RULES}")
    observing = site.run()
    site.ok("grant", CLIENT[version], "ssh")
    with site.stream(version) as stream:
        stream.recv(100)
        site.ok("revoke", CLIENT[version])
        assert probe.until_end(stream, timeout=0.3) is None
        observing.stop()
        site.write_rules(RULES)
        site.run()
        assert probe.until_end(stream, timeout=2) is not None


@pytest.mark.parametrize("mark", ["0x80000000", "0x1"])
def test_any_single_bit_may_be_the_mark(site: Site, version: int, mark: str) -> None:
    site.write_rules(f"refuse: reset\n{RULES}firewall: {{mark: {mark}}}\nknock: {{via: [udp, syn]}}\n")
    running = site.run()
    assert site.stranger_connects(version) == "refused"
    with site.stream(version, knock=b"open_sesame") as stream:
        stream.recv(100)
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=2) is not None
    assert re.search(r"ready$", running.log, re.MULTILINE)
    running.process.send_signal(signal.SIGTERM)
