"""For who is locked out: ``flush``, and what docs/break-glass.md says, word for word."""

from __future__ import annotations

import fcntl
import re
import time
from pathlib import Path

import pytest

from gatekeeper.demo.server import gatekeeper_argv
from tests.netns.site import CLIENT, RULES, SSH, Site, wait_until

PAGE = Path(__file__).parents[2] / "docs/break-glass.md"


def ours(site: Site) -> list[str]:
    """List all that is there of ours, in both variants."""
    tools = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
    lines = [line for tool in tools for line in site.shell(f"{tool}-save").splitlines() if "GKEEPER" in line]
    return lines + [name for name in site.shell("ipset", "list", "-n").split() if name.startswith("gatekeeper-")]


def page(title: str) -> str:
    """Return the commands of the page's block behind a heading."""
    text = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks, title
    return "".join(blocks)


# -- flush


def test_flush_touches_nothing_while_run_is_up_unless_it_may_stop_it(site: Site) -> None:
    """For run would put it all back."""
    running = site.run()
    before = ours(site)
    done = site.command("flush")
    assert done.returncode == 1
    assert f"error: run is up (process {running.process.pid}), and would put it all back at once" in done.stderr
    assert "hint: `gatekeeper flush --stop`" in done.stderr
    assert ours(site) == before
    said = site.ok("flush", "--stop")
    assert f"stopped run (process {running.process.pid}): SIGTERM to process {running.process.pid}\n" in said
    assert "removed ipset: set gatekeeper-6-ssh" in said
    assert running.stop() == 0
    assert ours(site) == []
    assert site.stranger_connects(4) == "open"


def test_flush_calls_off_what_waits_to_be_confirmed(site: Site) -> None:
    """Or it would be put back in a minute."""
    running = site.run("--confirm", "60")
    assert "called off what waited for `gatekeeper confirm`" in site.ok("flush", "--stop")
    assert "putting" not in running.log
    assert site.command("confirm").returncode == 1
    assert ours(site) == []


def test_flush_leaves_a_run_in_another_namespace_alone(site: Site) -> None:
    """Though it has the state directory."""
    running = site.run()
    done = site.inside(site.client, *gatekeeper_argv("flush", "--stop", "--state-dir", str(site.state)))
    assert done.stdout == "nothing of gatekeeper was in the kernel\n", done.stderr
    assert running.process.poll() is None
    assert site.stranger_connects(4) == "silent"


# -- the page


@pytest.mark.parametrize("firewall", ["variant: nft", "variant: legacy", "backend: rules"])
def test_without_python_the_commands_of_the_page_take_all_of_ours_out(site: Site, firewall: str) -> None:
    """And leave the rules of others, in the same tables, where they are."""
    variant = "legacy" if "legacy" in firewall else "nft"
    theirs = ["-t", "mangle", "-A", "INPUT", "-s", "10.0.0.0/8", "-m", "comment", "--comment", "gatekeeper's?"]
    site.shell(f"iptables-{variant}", *theirs, "-j", "MARK", "--set-mark", "7")
    site.shell("ipset", "create", "theirs", "hash:ip")
    before = site.shell(f"iptables-{variant}-save", "-t", "mangle").splitlines()[1:-1]
    site.write_rules(f"{RULES}firewall: {{{firewall}}}\nknock: {{via: [udp, icmp, syn]}}\n")
    running = site.run()
    site.shell("sh", "-eux", text=page("Without Python, or without gatekeeper"))
    wait_until(lambda: running.process.poll() is not None)
    running.kill()
    assert ours(site) == []
    assert site.stranger_connects(4) == "open"
    assert site.stranger_connects(6) == "open"
    after = site.shell(f"iptables-{variant}-save", "-t", "mangle").splitlines()[1:-1]
    assert [line for line in after if line.startswith("-A")] == [line for line in before if line.startswith("-A")]
    assert site.shell("ipset", "list", "-n") == "theirs\n"


def test_what_run_leaves_behind_when_it_is_killed_puts_nothing_back(site: Site) -> None:
    """Also while its keeper waits for a lock, or a disk, and has not noticed yet."""
    site.run()
    with (site.state / "change.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        site.knock(b"open_sesame", 4)
        time.sleep(0.2)
        site.shell("sh", "-eux", text=page("Without Python, or without gatekeeper"))
        time.sleep(0.5)
        assert ours(site) == []
    assert site.stranger_connects(4) == "open"


def test_one_address_can_be_let_in_with_nobody_there(site: Site, version: int) -> None:
    """By ``gatekeeper grant``; and by hand, as the page says."""
    site.run().kill()
    assert site.connect(version, timeout=0.3) == "silent"
    site.ok("grant", CLIENT[version], "ssh")
    assert site.connect(version) == "open"
    site.ok("revoke", CLIENT[version])
    lines = page("Let one address in by hand").splitlines()
    for line in lines:
        if f"gatekeeper-{version}-ssh" in line:
            site.shell(*line.replace("203.0.113.9" if version == 4 else "2001:db8::9", CLIENT[version]).split())
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"


@pytest.mark.parametrize("backend", ["ipset", "rules"])
def test_always_is_honoured_with_run_killed(site: Site, version: int, backend: str) -> None:
    """By the kernel alone, for new connections and for old ones."""
    always = f"always: [{CLIENT[4]}, '{CLIENT[6]}']"
    services = f"services: {{ssh: {{port: tcp/{SSH}, {always}}}}}\nclients: {{}}\n"
    site.write_rules(f"{services}firewall: {{backend: {backend}}}\n")
    running = site.run()
    with site.stream(version) as stream:
        running.kill()
        assert site.connect(version) == "open"
        stream.settimeout(2)
        stream.sendall(b"still there?\n")
        assert stream.recv(100)
    assert site.stranger_connects(version) == "silent"
    assert site.connect(version) == "open"
