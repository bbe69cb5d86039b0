"""A sealed knock opens, for the client alone; ssh and scp knock by themselves; a close cuts."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from machines import SERVER, SSH, UNGUARDED, Machine, Watch, connect, ok, say, shut

_SCAN = ("nmap", "-n", "-Pn", "-p", f"{SSH},{UNGUARDED}", "--max-retries", "1", "-oG", "-")


def _scan(stranger: Machine, version: int, *options: str) -> str:
    return stranger.root(*_SCAN, *(["-6"] if version == 6 else []), *options, SERVER[version])


@pytest.mark.parametrize("version", [4, 6])
def test_a_scan_finds_the_unguarded_port_alone(stranger: Machine, version: int, opened: None) -> None:
    """Also while the client is in; nmap's kinds of scan, the last of which sees only ports that refuse."""
    for kind, unguarded, guarded in (
        ("-sS", "open", "filtered"),
        ("-sT", "open", "filtered"),
        ("-sA", "unfiltered", "filtered"),
        ("-sF", "open|filtered", "open|filtered"),
    ):
        seen = _scan(stranger, version, kind)
        assert f"{UNGUARDED}/{unguarded}/" in seen, seen
        assert f"{SSH}/{guarded}/" in seen, seen


def test_no_way_round_by_the_other_network(stranger: Machine, opened: None) -> None:
    """The server's address in the control network, sent to by way of the world, is guarded like its own there."""
    route = ("ip", "route", "replace", "192.168.58.10/32", "via", SERVER[4])
    stranger.root(*route)
    try:
        argv = ["nmap", "-n", "-Pn", "-sT", "-p", str(SSH), "-oG", "-", "192.168.58.10"]
        # it has other commands by that network, which is why it does not ask by its own connection there
        assert f"{SSH}/filtered/" in stranger.ok(*argv)
    finally:
        stranger.root("ip", "route", "del", "192.168.58.10/32", "via", SERVER[4])


@pytest.mark.parametrize("version", [4, 6])
def test_a_knock_opens_and_a_close_shuts(version: int, closed: None) -> None:
    begun = time.monotonic()
    ok("gatekeeper", "knock", "server")
    knocked = time.monotonic()
    assert connect(version, seconds=30) == "open"
    say(f"connected {time.monotonic() - knocked:.2f} s after `gatekeeper knock` (which took {knocked - begun:.2f} s)")
    ok("gatekeeper", "knock", "server", "--close")
    shut()


def test_ssh_and_scp_knock_by_themselves(closed: None, tmp_path: Path) -> None:
    """By ProxyCommand, as docs/client.md has it: the way there, a file there, and back."""
    assert ok("ssh", "server", "hostname") == "server\n"
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(bytes(range(256)) * 4096)
    ok("scp", "-q", str(there), "server:/tmp/there")
    ok("scp", "-q", "server:/tmp/there", str(back))
    assert back.read_bytes() == there.read_bytes()


def test_a_close_cuts_what_is_open(closed: None) -> None:
    """A session that talks without end is over once its client closes."""
    talk = ["ssh", "server", "echo begun; while :; do echo on; sleep 0.1; done"]
    with subprocess.Popen(talk, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "begun\n"
        closed_at = time.monotonic()
        ok("gatekeeper", "knock", "server", "--close")
        session.stdout.read()  # until it ends
        assert session.wait(30) != 0
        say(f"cut {time.monotonic() - closed_at:.2f} s after `gatekeeper knock --close` was typed")
    shut()


def test_the_stranger_can_be_seen_to_find_an_open_port(server: Machine, stranger: Machine, closed: None) -> None:
    """Who watches in other tests and finds nothing would find it: here the stranger is granted, and does."""
    server.root("gatekeeper", "grant", "192.168.57.30", "ssh", "--ttl", "1h")
    with Watch(stranger) as watch:
        time.sleep(15)
        seen = watch.end()
    found = {how for _, how in seen["found"]}
    assert found == {f"connect {SERVER[4]}", f"nmap {SERVER[4]}"}, seen
