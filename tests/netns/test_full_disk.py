"""A store that has taken room works on a full disk: real ones, of tmpfs, in a mount namespace of the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ON_A_DISK = """
import sqlite3, sys, time
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from gatekeeper.errors import StoreError
from gatekeeper.model import Admit, Grant, Revoke, Stamp
from gatekeeper.settings import TrailSettings
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.store.trail import Trail

disk, number, reads = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "reads"

def opens(store, place):
    now = time.time()
    grant = Grant(ip_network((0xC6120000 + place % 4000, 32)), "ssh", "laptop", now + 600)
    store.commit([Admit((grant,), Stamp(b"k" * 32, time.time_ns()))], now=now)

with closing(SqliteStore(disk / "state", trail_of=Trail(TrailSettings()))) as store:
    print("reserved", store.reserve())
    try:
        with (disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        print("full", error.errno)
    refused = 0
    reader = sqlite3.connect(disk / "state" / "gatekeeper.db", isolation_level=None)
    if reads:  # it keeps the log from beginning again
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM grants").fetchone()
    for place in range(number):
        try:
            opens(store, place)
        except StoreError:
            refused += 1
            if reader.in_transaction:
                reader.execute("ROLLBACK")
    print("refused", refused)
"""


def on_a_disk(folder: Path, *, megabytes: int, knocks: int, reads: bool = False) -> list[str]:
    script = f'mount -t tmpfs -o size={megabytes}m none "$0" && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, str(folder)]
    argv += [sys.executable, "-c", _ON_A_DISK, str(folder), str(knocks), "reads" if reads else "alone"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_stops_no_knock(tmp_path: Path) -> None:
    assert on_a_disk(tmp_path, megabytes=64, knocks=3000) == ["reserved True", "full 28", "refused 0"]


def test_a_reader_that_stays_for_a_thousand_knocks_costs_one_and_one_more_when_it_has_gone(tmp_path: Path) -> None:
    """It keeps the log from beginning again; who is refused makes it begin again."""
    *_, refused = on_a_disk(tmp_path, megabytes=64, knocks=1000, reads=True)
    assert refused == "refused 2"


def test_where_little_is_left_none_is_taken(tmp_path: Path) -> None:
    """Then it is as it was: what is not on the disk is not opened."""
    assert on_a_disk(tmp_path, megabytes=40, knocks=5) == ["reserved False", "full 28", "refused 5"]
