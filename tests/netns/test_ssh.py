"""The client with real ssh: invite, join, and the snippets of docs/client.md, also with packets lost on the way."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.demo.server import Gatekeeper
from tests.netns import sshd
from tests.netns.site import CLIENT, SERVER, STRANGER, Site, wait_until

RULES = "services:\n  ssh: {port: tcp/22, ttl: 1h}\nclients:\n"
Ssh = tuple[Site, Path, Gatekeeper]


@pytest.fixture
def ssh(site: Site, version: int) -> Iterator[Ssh]:
    """Guard an sshd, and let the client join as docs/client.md says."""
    site.write_rules(f"{RULES}  nobody: {{open: 0123456789abcdef, services: [ssh]}}\n")
    site.run().stop()
    invite = site.ok("invite", "laptop", "--service", "ssh", "--host", SERVER[version]).strip()
    joined = sshd.as_client(site, "gatekeeper", "join", invite)
    assert joined.returncode == 0, joined.stderr
    line = re.search(r"^  laptop: \{.*\}$", joined.stdout, re.MULTILINE)
    assert line
    site.write_rules(f"{RULES}{line[0]}\n")
    with sshd.sshd(site) as folder:
        running = site.run()
        yield site, folder, running


@pytest.mark.timing
def test_the_snippets_of_the_docs(ssh: Ssh, version: int) -> None:
    """Ssh knocks by itself and logs in, without a second's wait; a close cuts the session."""
    site, folder, running = ssh
    for snippet in sshd.snippets():
        config = sshd.write_config(folder, snippet, SERVER[version])
        begin = time.monotonic()
        done = sshd.as_client(site, "ssh", "-F", str(config), SERVER[version], "echo $SSH_CONNECTION")
        seconds = time.monotonic() - begin
        assert done.returncode == 0, (snippet, done.stderr)
        assert done.stdout.split()[0] == CLIENT[version]
        assert seconds < 0.9, f"a SYN was lost: {snippet}"
        assert not [line for line in running.lines if " refused " in line and STRANGER[version] not in line]
        assert site.stranger_connects(version, port=22) == "silent"
        closed = sshd.as_client(site, "gatekeeper", "knock", SERVER[version], "--close")
        assert closed.returncode == 0, closed.stderr
        wait_until(lambda: site.members("ssh", version) == [])


def test_scp_and_rsync_go_through(ssh: Ssh, version: int) -> None:
    """Files of some megabytes, there and back, are the same."""
    site, folder, _ = ssh
    config = sshd.write_config(folder, sshd.snippets()[0], SERVER[version])
    host = f"[{SERVER[6]}]" if version == 6 else SERVER[4]
    (tree := site.directory / "tree").mkdir()
    for name, size in (("small", 1), ("empty", 0), ("large", 5_000_000)):
        (tree / name).write_bytes(os.urandom(size))
    there, back = site.directory / "there", site.directory / "back"
    (there).mkdir()
    for argv in (
        ["scp", "-q", "-F", str(config), str(tree / "large"), f"{host}:{there}/large"],
        ["rsync", "-a", "-e", f"ssh -F {config}", f"{tree}/", f"{host}:{there}/"],
        ["rsync", "-a", "-e", f"ssh -F {config}", f"{host}:{there}/", f"{back}/"],
    ):
        done = sshd.as_client(site, *argv)
        assert done.returncode == 0, (argv, done.stderr)
    for copy in (there, back):
        assert filecmp.cmpfiles(tree, copy, ["small", "empty", "large"], shallow=False)[0] == [
            "small",
            "empty",
            "large",
        ]


def test_with_a_fifth_of_the_packets_lost(ssh: Ssh, version: int) -> None:
    """Five logins and a copy over a bad network: each succeeds."""
    site, folder, running = ssh
    config = sshd.write_config(folder, sshd.snippets()[0], SERVER[version])
    iptables = "iptables" if version == 4 else "ip6tables"
    lost = ["-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP"]
    kind = [] if version == 4 else ["!", "-p", "ipv6-icmp"]  # not the neighbours, who are on the same wire
    for namespace in (site.client, site.server):  # each loses of what arrives
        done = site.inside(namespace, iptables, "-t", "raw", "-I", "PREROUTING", *kind, *lost)
        assert done.returncode == 0, done.stderr
    for _ in range(5):
        done = sshd.as_client(site, "ssh", "-F", str(config), SERVER[version], "true")
        assert done.returncode == 0, done.stderr
        ended = running.log.count(" closed client=laptop ")
        sshd.as_client(site, "gatekeeper", "knock", SERVER[version], "--close")
        with contextlib.suppress(AssertionError):  # it may be lost; else it would cut the next one, were it late
            wait_until(lambda ended=ended: running.log.count(" closed client=laptop ") > ended, seconds=1)  # type: ignore[misc]
    host = f"[{SERVER[6]}]" if version == 6 else SERVER[4]
    source, copy = site.directory / "source", site.directory / "copy"
    source.write_bytes(os.urandom(100_000))
    done = sshd.as_client(site, "scp", "-q", "-F", str(config), str(source), f"{host}:{copy}")
    assert done.returncode == 0, done.stderr
    assert copy.read_bytes() == source.read_bytes()


def test_wait_says_how_long_it_took(ssh: Ssh, version: int) -> None:
    site, _, _ = ssh
    done = sshd.as_client(site, "gatekeeper", "knock", SERVER[version], "--wait", "tcp/22")
    assert done.returncode == 0, done.stderr
    assert re.search(r"tcp/22 answered after \d+\.\d ms", done.stdout)
    assert re.search(rf"knocked at {re.escape(SERVER[version])} \(udp/62201\)", done.stdout)


def test_a_server_that_does_not_know_us_is_an_error_that_says_what_to_look_at(ssh: Ssh, version: int) -> None:
    """Within the limit, in one line and a hint, and ssh sees its proxy fail."""
    site, folder, running = ssh
    key = site.directory / "other.key"
    assert sshd.as_client(site, "gatekeeper", "keygen", str(key)).returncode == 0
    begin = time.monotonic()
    done = sshd.as_client(
        site, "gatekeeper", "connect", SERVER[version], "22", "--identity", str(key), "--timeout", "1.5"
    )
    assert done.returncode == 1
    assert time.monotonic() - begin > 1.4
    errors = done.stderr.splitlines()
    words = f"no answer from tcp/22 of {SERVER[version]} within 1.5 s, for all the knocks"
    assert errors[0] == f"gatekeeper: error: {words}"
    assert errors[1].startswith("gatekeeper: hint: is this clock right (20")
    assert len(errors) == 2
    assert "refused reason=unknown-client" in running.log
    config = sshd.write_config(
        folder, sshd.snippets()[0].replace("%h %p", f"%h %p --identity {key} --timeout 1"), SERVER[version]
    )
    assert sshd.as_client(site, "ssh", "-F", str(config), SERVER[version], "true").returncode == 255
