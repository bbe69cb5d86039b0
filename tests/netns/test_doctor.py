"""`gatekeeper doctor` on the real kernel: it finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import gatekeeper
from gatekeeper.demo.network import netns_argv
from gatekeeper.demo.server import gatekeeper_argv
from tests.netns.site import RULES, SSH, UDP, WEB, Site
from tests.netns.test_sealed import start

TOOLS = ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy")
HOLDER = """
import sys, time
from netfilterqueue import NetfilterQueue
queue = NetfilterQueue()
queue.bind(6220, lambda packet: packet.drop())
print("up", flush=True)
time.sleep(60)
"""


@dataclass
class Report:
    status: int
    findings: list[dict[str, str]]

    def at(self, *levels: str) -> list[str]:
        return [f"{one['what']} | {one['detail']} | {one['hint']}" for one in self.findings if one["level"] in levels]

    def has(self, level: str, *words: str) -> None:
        """There is a finding with all these words in it."""
        assert any(all(word in line for word in words) for line in self.at(level)), (words, self.at(level))


def examine(site: Site, *, user: int | None = None) -> Report:
    places = ["--rules", str(site.rules), "--state-dir", str(site.state)]
    if user is None:
        done = site.inside(site.server, *gatekeeper_argv("doctor", "--json", *places))
    else:
        with tempfile.TemporaryDirectory() as folder:
            done = site.inside(site.server, *_as(user, folder), "-m", "gatekeeper", "doctor", "--json", *places)
    assert done.stderr == "", done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == bool(done.returncode)
    return Report(done.returncode, found["findings"])


def _as(user: int, folder: str) -> list[str]:
    """Run Python as a user who may not look into root's folders: a checkout in one is shown to him elsewhere."""
    Path(folder).chmod(0o755)
    for name in ("venv", "source"):
        Path(folder, name).mkdir()
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env", f"PYTHONPATH={folder}/source"]
    show = 'mount --bind "$1" "$3/venv"; mount --bind "$2" "$3/source"; shift 3; cd /; exec "$@"'
    source = str(Path(gatekeeper.__file__).parent.parent)
    python = f"{folder}/venv/bin/python"
    # in a plain chroot there is no mount at / whose propagation could be changed, and nobody to propagate to
    is_mount = any(line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines())
    private = "private" if is_mount else "unchanged"
    return [
        "unshare",
        "--mount",
        f"--propagation={private}",
        "sh",
        "-euc",
        show,
        "sh",
        sys.prefix,
        source,
        folder,
        *become,
        python,
    ]


@contextmanager
def rules_of_others(site: Site, *rules: str) -> Iterator[None]:
    """Put rules where they are said to go, and take them away again."""
    done: list[list[str]] = []
    try:
        for rule in rules:
            words = rule.split()
            place = next(n for n, word in enumerate(words) if word in {"-I", "-A"})
            site.shell(*words)
            done.append([*words[:place], "-D", *words[place + 1 :]])
        yield
    finally:
        for words in done:
            site.shell(*words)


def kernel(site: Site) -> str:
    """Everything that is in the kernel, but counters and times."""
    text = "".join(site.shell(f"{tool}-save") for tool in TOOLS) + site.shell("ipset", "save")
    names = site.shell("cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")
    return "\n".join(line for line in text.splitlines() if not line.startswith((":", "#"))) + names


@pytest.mark.parametrize("firewall", ["backend: ipset", "backend: rules", "variant: legacy"])
def test_a_healthy_site_has_nothing_wrong_and_is_left_as_it_was(site: Site, firewall: str) -> None:
    rules = RULES
    for weak in ("open_sesame", "close_sesame", "open_desk", "close_desk"):
        rules = rules.replace(weak, secrets.token_hex(16))
    site.write_rules(f"{rules}firewall: {{{firewall}}}\n")
    site.ok("grant", "198.51.100.0/24", "web", "--ttl", "forever")
    site.run()
    before = kernel(site)
    found = examine(site)
    assert found.at("wrong", "warning", "unknown") == []
    assert found.status == 0
    assert kernel(site) == before


def test_rules_of_others_are_found(site: Site) -> None:
    """Each with the rule itself, and what to do."""
    site.run().stop()  # it would put things right
    with rules_of_others(
        site,
        f"iptables -t mangle -I INPUT -p tcp --dport {SSH} -j ACCEPT",
        f"ip6tables -t mangle -I INPUT -s 2001:db8:c::/64 -p tcp -m multiport --dports 7,{WEB} -j ACCEPT",
        f"iptables -t nat -A PREROUTING -p tcp --dport {WEB} -j DNAT --to-destination 10.0.0.2:80",
        "ip6tables -t mangle -A POSTROUTING -j CONNMARK --set-mark 0x30000000",
        "iptables -t mangle -A POSTROUTING -j CONNMARK --save-mark",
        "iptables -A FORWARD -p tcp --dport 9 -j NFQUEUE --queue-num 6220",
        f"iptables -A INPUT -p udp --dport {UDP} -j REJECT",
        "ip6tables -t raw -I PREROUTING -p udp --dport 62000:63000 -j DROP",
        f"iptables-legacy -A INPUT -s 192.0.2.9 -p tcp --dport {SSH} -j DROP",
    ):
        found = examine(site)
        assert site.stranger_connects(4) == "silent"  # OUTPUT still drops what the service answers
    assert found.status == 1
    found.has("wrong", f"takes what is for tcp/{SSH} (ssh) past it", "iptables (nft) -t mangle -A INPUT", "behind")
    found.has("warning", f"some of what is for tcp/{WEB} (web)", "-s 2001:db8:c::/64", "always:")
    found.has("wrong", f"sends what is for tcp/{WEB} (web) elsewhere: that is not guarded", "10.0.0.2:80", "127.0.0.1")
    found.has("wrong", "sets its mark", "ip6tables (nft) -t mangle -A POSTROUTING", "firewall: {mark:")
    found.has("warning", "overwrites its mark", "--save-mark", "firewall: {mark:")
    found.has("wrong", "its queue 6220", "-t filter -A FORWARD", "firewall: {queue: N}")
    found.has(
        "warning", f"keeps everybody out of udp/{UDP} (echo)", "REJECT", f"iptables -I INPUT -p udp --dport {UDP}"
    )
    found.has("wrong", "knocks to udp/62201 are dropped", "62000:63000", "let udp/62201 through")
    found.has("warning", "there are rules in iptables-legacy too", "iptables-legacy-save")
    site.shell("ip6tables", "-P", "INPUT", "DROP")
    with rules_of_others(site, "iptables-legacy -t mangle -I INPUT -j ACCEPT", "iptables -I INPUT -j ACCEPT"):
        found = examine(site)  # neither of which lets anybody past gatekeeper
    found.has(
        "warning", f"keeps everybody out of tcp/{SSH} (ssh)", "-t filter: the policy", "ip6tables -I INPUT -p tcp"
    )
    (stopped,) = found.at("wrong")
    assert stopped.startswith("`gatekeeper run` is not up")


def test_a_ruleset_that_is_not_whole_is_found(site: Site) -> None:
    site.run().stop()
    site.state.chmod(0o755)
    site.rules.chmod(0o666)
    site.ok("grant", "192.0.2.0/24", "ssh")
    site.shell("ipset", "del", "gatekeeper-4-ssh", "192.0.2.0/24")
    site.shell("ipset", "add", "gatekeeper-4-ssh", "192.0.2.77")
    for chain in ("IN", "OUT"):
        site.shell("ip6tables", "-t", "mangle", "-F", f"GKEEPER-{chain}-web")
    site.shell("ipset", "destroy", "gatekeeper-6-web")
    site.shell("iptables", "-t", "mangle", "-I", "GKEEPER-IN-ssh", "-s", "192.0.2.7", "-j", "RETURN")
    site.shell("iptables", "-t", "mangle", "-D", "OUTPUT", "-j", "GKEEPER-OUT")
    text = site.shell("iptables-save", "-t", "raw")
    site.shell("iptables-legacy-restore", "--noflush", text=text)
    found = examine(site)
    assert found.status == 1
    found.has("wrong", "ip6tables (nft) -t mangle: the chain GKEEPER-IN-web is empty", "restart `gatekeeper run`")
    found.has("wrong", "this set is gone: gatekeeper-6-web", "`gatekeeper run`")
    found.has("wrong", "the chain GKEEPER-IN-ssh is not what the rules say", "too much: -A GKEEPER-IN-ssh -s 192.0.2.7")
    found.has("wrong", "iptables (nft) -t mangle OUTPUT: the jump to GKEEPER-OUT is gone", "`gatekeeper run`")
    found.has("wrong", "in both variants", "iptables (nft), ip6tables (nft), iptables (legacy)", "restart")
    found.has("wrong", "the grant of ssh to 192.0.2.0/24 is not in the kernel", "restart")
    found.has("wrong", "lets 192.0.2.77 in to ssh", "no grant", "restart")
    found.has("warning", "others can look into", "chmod 700")
    found.has("wrong", "can be written by other users", "chmod go-w")


def test_a_kernel_that_knows_no_tags_is_found_and_one_that_knows_some_is_in_order(site: Site) -> None:
    """Which tags they are does not stand in the rules, so any are as they should be; none at all lets nobody knock."""
    running, _ = start(site)
    assert "is what the rules say" in "".join(examine(site).at("ok"))
    running.kill()
    for tool in ("iptables", "ip6tables"):
        site.shell(tool, "-t", "raw", "-F", "GKEEPER-TAGS")
    examine(site).has("wrong", "iptables (nft): the kernel knows no door tags", "start `gatekeeper run`")


def test_a_queue_that_somebody_else_has_and_a_run_that_is_gone_are_found(site: Site) -> None:
    running = site.run()
    running.kill()
    argv = netns_argv(site.server, sys.executable, "-c", HOLDER)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        found = examine(site)
        holder.kill()
    found.has("wrong", "`gatekeeper run` is not up", "start it")
    found.has("wrong", f"queue 6220 is taken by process {holder.pid}", "firewall: {queue: N}")
    site.ok("flush")
    site.write_rules("services: {ssh: {port: 22}}\n")
    found = examine(site)
    found.has("wrong", '"22" is not a port', "did you mean tcp/22")
    found.has("wrong", "the ruleset is not in the kernel: the ports are open to all", "`gatekeeper run`")
    found.has("unknown", "without the rules file these were not looked at: rules in front of gatekeeper's")


def test_a_user_is_told_what_only_root_can_look_at(site: Site) -> None:
    site.run()
    found = examine(site, user=65534)
    assert found.status == 0
    for words in ("the rules file", "its queue", "whether the ruleset is in the kernel", "the state directory"):
        found.has("unknown", words, "needs root", "sudo gatekeeper doctor")
    found.has("unknown", "without the rules file", "rules in front of gatekeeper's", "sudo gatekeeper doctor")
    found.has("ok", "Linux ")
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)
        site.rules = Path(shutil.copy(site.rules, public))
        site.rules.chmod(0o644)
        found = examine(site, user=65534)
    found.has("unknown", "rules in front of gatekeeper's could not be looked at: needs root", "sudo gatekeeper doctor")
    found.has("ok", f"something listens on tcp/{SSH}")
