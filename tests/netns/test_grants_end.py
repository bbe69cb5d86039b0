"""Grants end on time, in the kernel, with or without the daemon; and what becomes of what is open then."""

from __future__ import annotations

import socket
import time

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from tests.netns.site import SERVER, SSH, WEB, Site, many, wait_until

SHORT = f"""\
services:
  ssh: {{port: tcp/{SSH}, ttl: 2s}}
  web: {{port: tcp/{WEB}, ttl: 2s, established: cut}}
  long: {{port: tcp/7777, ttl: 6s}}
clients:
  laptop: {{open: open_sesame, close: close_sesame, services: [ssh, web]}}
  crowd: {{open: open_crowd, services: [long]}}
  hasty: {{open: open_hasty, services: [ssh]}}
"""


def test_a_grant_ends_in_the_kernel_with_the_daemon_killed(site: Site, version: int) -> None:
    """Nobody needs to be there for a door to close."""
    site.write_rules(SHORT)
    running = site.run()
    site.knock(b"open_sesame", version)
    begin = time.monotonic()
    wait_until(lambda: site.connect(version) == "open")
    running.kill()
    wait_until(lambda: not site.members("ssh", version) or site.connect(version, timeout=0.2) == "silent")
    assert 1.5 < time.monotonic() - begin < 3.5
    assert site.connect(version) == "silent"


def test_keep_lets_open_streams_live_on_and_lets_in_nothing_new(site: Site, version: int) -> None:
    site.write_rules(SHORT)
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        wait_until(lambda: site.connect(version, timeout=0.3) == "silent", seconds=6)
        assert probe.until_end(stream, timeout=1) is None


def test_a_kept_stream_is_cut_by_a_close(site: Site, version: int) -> None:
    """A grant that is over cannot be closed again; one that was renewed can, and its old streams go too."""
    site.write_rules(SHORT)
    site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        wait_until(lambda: site.connect(version, timeout=0.3) == "silent", seconds=6)
        site.knock(b"open_sesame", version)
        wait_until(lambda: site.connect(version, timeout=0.3) == "open")
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=1) is not None


def test_cut_ends_open_streams_with_their_grant(site: Site, version: int) -> None:
    site.write_rules(SHORT)
    site.run()
    with site.stream(version, port=WEB, knock=b"open_sesame") as stream:
        begin = time.monotonic()
        end = probe.until_end(stream, timeout=6)
        assert end is not None
        assert 1.0 < time.monotonic() - begin < 3.5
        assert "reset" in end[1], "the client should be told"


def test_cut_ends_open_streams_with_the_daemon_killed(site: Site, version: int) -> None:
    """Without the daemon there is no reset, but not a byte more either; and a restart cleans up."""
    site.write_rules(SHORT)
    running = site.run()
    with site.stream(version, port=WEB, knock=b"open_sesame") as stream:
        running.kill()
        end = probe.until_end(stream, timeout=6)
        assert end is not None
        assert end[0] < 3.5
        site.run()
        site.knock(b"open_sesame", version)
        wait_until(lambda: site.connect(version, port=WEB, timeout=0.3) == "open")
        assert probe.until_end(stream, timeout=2) is not None


def test_a_knock_before_the_end_renews_the_grant(site: Site, version: int) -> None:
    site.write_rules(SHORT)
    site.run()
    for _ in range(3):
        site.knock(b"open_sesame", version)
        time.sleep(1.2)
        assert site.connect(version) == "open"


@pytest.mark.timing
def test_a_thousand_grants_all_end_on_time_and_a_short_one_among_them(site: Site) -> None:
    """999 grants of 6 s and one of 2 s: each ends when it should, and none lives on."""
    version = 4
    site.write_rules(SHORT)
    site.run()
    sources = [many(version, number) for number in range(1, 1000)]
    begin = time.monotonic()
    for source in sources:
        with inside(site.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knocker:
            knocker.bind((source, 0))
            knocker.sendto(b"open_crowd", (SERVER[version], 62201))
        time.sleep(0.001)
    site.knock(b"open_hasty", version)
    hasty = time.monotonic()
    wait_until(lambda: len(site.members("long", version)) == 999 and site.members("ssh", version) != [])
    assert time.monotonic() - begin < 5, "too slow to tell the short one from the long ones"
    last_long = time.monotonic()

    wait_until(lambda: site.members("ssh", version) == [], seconds=4)
    assert time.monotonic() - hasty == pytest.approx(2, abs=1.2)
    assert len(site.members("long", version)) == 999 or time.monotonic() - begin > 6

    wait_until(lambda: site.members("long", version) == [], seconds=9)
    assert time.monotonic() - begin > 5.5
    assert time.monotonic() - last_long < 7.5
    wait_until(lambda: site.status()["grants"] == [], seconds=3)


def test_forever_is_until_closed(site: Site, version: int) -> None:
    site.write_rules(SHORT.replace("ttl: 2s}", "ttl: forever}", 1))
    site.run()
    site.knock(b"open_hasty", version)
    wait_until(lambda: site.connect(version) == "open")
    (grant,) = site.status()["grants"]
    assert (grant["expires_at"], grant["seconds_left"]) == (None, None)
    assert "timeout 0" in site.shell("ipset", "list", f"gatekeeper-{version}-ssh").split("Members:")[1]
