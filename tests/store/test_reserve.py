"""Room on the disk is taken once, and again when it was used. On a full disk: tests/netns/test_full_disk.py."""

from __future__ import annotations

from pathlib import Path

from gatekeeper.store import reserve
from gatekeeper.store.sqlite import FILE, SqliteStore


def test_room_is_taken_once_and_again_when_it_was_used(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    log = tmp_path / f"{FILE}-wal"
    assert store.reserve()
    before = log.stat()
    assert before.st_size >= reserve.ROOM
    assert (tmp_path / FILE).stat().st_size >= reserve.ROOM
    assert store.reserve()
    assert log.stat().st_mtime_ns == before.st_mtime_ns, "what is there is not taken again"
    store.close()
    again = SqliteStore(tmp_path)
    assert again.reserve()
    assert log.stat().st_size >= reserve.ROOM
    assert (tmp_path / FILE).stat().st_size < 2 * reserve.ROOM
    again.close()


def test_what_a_killed_one_has_left_is_taken_away(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store._db.execute("CREATE TABLE reserve (room BLOB)")
    assert store.reserve()
    assert store._db.execute("SELECT name FROM sqlite_master WHERE name = 'reserve'").fetchone() is None
    store.close()
