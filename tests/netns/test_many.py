"""Twenty thousand live grants: knock, end, commands, status and restart as with one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from ipaddress import ip_network

from gatekeeper.model import BY_HAND, Admit, Grant
from gatekeeper.store.sqlite import FILE, SqliteStore
from tests.netns.site import CLIENT, Site, wait_until

MANY = 20_000
CROWD = 2000
"""Grants that end together."""


def grants(number: int, *, first: int, end: float) -> tuple[Grant, ...]:
    """Make grants of different sources, of both IP versions."""
    names = (f"{first}.0.{one >> 8}.{one & 255}" if one % 2 else f"2001:db8:{first}::{one:x}" for one in range(number))
    return tuple(Grant(ip_network(name), "ssh", BY_HAND, end) for name in names)


def stored(site: Site) -> int:
    """Count the grants in the store, also those whose time is up."""
    with contextlib.closing(sqlite3.connect(site.state / FILE)) as db:
        return int(db.execute("SELECT count(*) FROM grants").fetchone()[0])


def test_with_twenty_thousand_grants_all_goes_on_as_with_one(site: Site) -> None:
    now = time.time()
    with contextlib.closing(SqliteStore(site.state)) as store:
        store.commit([Admit(grants(MANY, first=11, end=now + 3600))], now=now)
    running = site.run()
    assert f"live grants: {MANY}" in running.log
    assert site.status()["kernel"]["members"]["ssh"] == MANY

    for version in (4, 6):
        assert site.stranger_connects(version) == "silent"
        with site.stream(version, knock=b"open_sesame"):
            pass

    site.ok("grant", "10.9.8.7", "ssh", "--ttl", "1h")
    wait_until(lambda: "granted-elsewhere" in running.log, seconds=20)
    assert running.log.count("granted-elsewhere") == 1, "what it had no part in was taken for news"
    site.ok("revoke", "10.9.8.7")
    wait_until(lambda: "revoked-elsewhere" in running.log, seconds=20)

    short = site.ok("status").splitlines()
    assert len(short) < 60
    assert any(line.startswith(f"{MANY + 4:,} live grants; the 20 that end next ") for line in short)
    assert len(json.loads(site.ok("status", "--json"))["grants"]) == MANY + 4
    (mine,) = json.loads(site.ok("status", "--json", "--source", "11.0.0.1"))["grants"]
    assert mine["source"] == "11.0.0.1"

    now = time.time()
    with contextlib.closing(SqliteStore(site.state)) as store:  # as one that dies before it tells the kernel
        store.commit([Admit(grants(CROWD, first=12, end=now + 6))], now=now)
    wait_until(lambda: f"granted-elsewhere grants={CROWD}\n" in running.log, seconds=20)
    time.sleep(max(0.0, now + 6 - time.time()))
    with site.stream(4, knock=b"open_sesame"):  # beside the crowd that ends now
        pass
    wait_until(lambda: stored(site) == MANY + 4, seconds=20)
    wait_until(lambda: site.status()["kernel"]["members"]["ssh"] == MANY + 2)

    site.ok("revoke", CLIENT[6])
    running.kill()
    again = site.run()
    assert f"live grants: {MANY + 2}" in again.log
    assert [site.connect(version) for version in (4, 6)] == ["open", "silent"]
    assert site.status()["kernel"]["members"]["ssh"] == MANY + 1
    assert again.stop() == 0
    for log in (running.log, again.log):
        assert "mended" not in log
        assert "not-applied" not in log
