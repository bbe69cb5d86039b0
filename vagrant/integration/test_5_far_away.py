"""The client is far away: each way 50 ms, and one packet in five lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import CLIENT, SERVER, Machine, ok, run, say

LOGINS = 5


@pytest.fixture
def far_away(server: Machine) -> Iterator[None]:
    """Put netem between the two, on the way of each to the other."""
    queue = ("root", "netem", "delay", "50ms", "loss", "20%")
    interface = "$(ip -o -4 address show | awk '$4 ~ /^192.168.57/ {print $2}')"
    add = f"tc qdisc add dev {interface} {' '.join(queue)}"
    remove = f"tc qdisc del dev {interface} root"
    ok("sudo", "sh", "-c", add)
    server.root("sh", "-c", add)
    try:
        yield
    finally:
        server.root("sh", "-c", remove)
        ok("sudo", "sh", "-c", remove)


def test_it_is_far_away_indeed(far_away: None) -> None:
    """Pings take 100 ms, and some of a hundred are lost: both ways together a third."""
    said = run("ping", "-c", "100", "-i", "0.05", "-W", "2", SERVER[4]).stdout
    lost = float(said.split("% packet loss")[0].rsplit(" ", 1)[1])
    assert 10 < lost < 70, said
    least = float(said.split("min/avg/max/mdev = ")[1].split("/")[0])
    assert least >= 100, said
    say(f"{lost:.0f} % of pings are lost, the fastest takes {least:.0f} ms")


def test_every_login_succeeds(server: Machine, far_away: None, closed: None, tmp_path: Path) -> None:
    """Each begins behind a closed door, and knocks for itself; then a file goes there and comes back."""
    for _ in range(LOGINS):
        server.tries("sudo", "gatekeeper", "revoke", CLIENT[4])
        server.tries("sudo", "gatekeeper", "revoke", CLIENT[6])
        begun = time.monotonic()
        assert ok("ssh", "server", "hostname") == "server\n"
        say(f"logged in after {time.monotonic() - begun:.1f} s")
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(bytes(range(256)) * 256)
    ok("scp", "-q", str(there), "server:/tmp/there")
    ok("scp", "-q", "server:/tmp/there", str(back))
    assert back.read_bytes() == there.read_bytes()
