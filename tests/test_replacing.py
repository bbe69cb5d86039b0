"""A file gets a new content: whole or not at all, and over no change of somebody else's."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from gatekeeper import replacing
from gatekeeper.errors import EditError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"old")
    path.chmod(0o640)
    return path


def test_it_keeps_mode_owner_and_attributes(file: Path) -> None:
    if os.geteuid() == 0:
        os.chown(file, 1234, 2345)
    os.setxattr(file, "user.note", b"kept")
    before = file.stat()
    replacing.replace(file, b"old", b"new", like=file)
    after = file.stat()
    assert file.read_bytes() == b"new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(file, "user.note") == b"kept"
    assert [path.name for path in file.parent.iterdir()] == ["rules.yaml"]


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    link = tmp_path / "etc" / "rules.yaml"
    link.symlink_to("../rules.yaml")
    replacing.replace(link, b"old", b"new", like=link)
    assert link.is_symlink()
    assert file.read_bytes() == b"new"


def test_what_somebody_else_wrote_meanwhile_is_not_lost(file: Path) -> None:
    file.write_bytes(b"theirs")
    with pytest.raises(EditError, match="was changed by somebody else meanwhile"):
        replacing.replace(file, b"old", b"new", like=file)
    assert file.read_bytes() == b"theirs"
    assert len(list(file.parent.iterdir())) == 1


def test_a_new_file_gets_the_mode_of_its_model_and_never_replaces_one(file: Path) -> None:
    new = file.with_name("new.yaml")
    replacing.replace(new, None, b"new", like=file)
    assert (new.read_bytes(), new.stat().st_mode & 0o777) == (b"new", 0o640)
    with pytest.raises(EditError, match="was made by somebody else meanwhile"):
        replacing.replace(new, None, b"newer", like=file)
    assert new.read_bytes() == b"new"
    assert len(list(file.parent.iterdir())) == 2


def test_a_disk_that_is_full_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EditError, match="No space left on device; nothing was changed"):
        replacing.replace(file, b"old", b"new", like=file)
    assert file.read_bytes() == b"old"
    assert len(list(file.parent.iterdir())) == 1


def test_what_a_command_that_was_killed_left_behind_is_swept_away(file: Path) -> None:
    left = file.with_name(".rules.yaml.0123456789ab.new")
    others = [file.with_name(name) for name in (".rules.yaml.swp", "rules.yaml.new", ".other.yaml.0123456789ab.new")]
    for path in (left, *others):
        path.touch()
    replacing.replace(file, b"old", b"new", like=file)
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_one_edits_at_a_time(tmp_path: Path) -> None:
    order = []

    def other() -> None:
        with replacing.locked(tmp_path / "rules.yaml"):
            order.append("other")

    with replacing.locked(tmp_path / "rules.yaml"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EditError, match="No such file or directory"), replacing.locked(tmp_path / "not" / "rules.yaml"):
        pass


def test_a_file_that_has_become_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(EditError, match="nothing was changed"):
        replacing.replace(tmp_path / "loop", b"before", b"after", like=tmp_path / "loop")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_links_that_go_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(EditError, match="its links go in a circle"), replacing.locked(tmp_path / "loop"):
        pass


def test_who_has_it_locked_for_ever_stops_nobody_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "_PATIENCE", 0.1)
    file = tmp_path / "rules.yaml"
    with replacing.locked(file), pytest.raises(EditError, match="is locked by another process"), replacing.locked(file):
        pass
