"""A file that was changed is noticed when it has come to rest, however it was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatekeeper import filewatch
from gatekeeper.filewatch import FileWatch


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filewatch, "_EVERY", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text("one")
    return path


def watching(*paths: Path) -> FileWatch:
    watch = FileWatch()
    watch.begin()
    for path in paths:
        watch.note(path)
    return watch


def test_what_is_left_alone_has_not_changed(file: Path) -> None:
    watch = watching(file)
    assert [watch.has_changed() for _ in range(3)] == [False] * 3


def test_a_change_is_told_at_the_second_look_and_until_it_was_read(file: Path) -> None:
    watch = watching(file)
    file.write_text("two, longer")
    assert [watch.has_changed() for _ in range(3)] == [False, True, True]
    watch.begin()
    watch.note(file)
    assert [watch.has_changed() for _ in range(3)] == [False] * 3


def test_what_is_still_being_written_waits(file: Path) -> None:
    watch = watching(file)
    for number in range(2, 6):
        file.write_text("x" * number)
        assert not watch.has_changed()
    assert watch.has_changed()


def test_a_file_that_is_renamed_over_it_counts_also_if_it_is_as_old_and_as_long(file: Path) -> None:
    watch = watching(file)
    found = file.stat()
    new = file.with_suffix(".new")
    new.write_text("two")
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    new.replace(file)
    assert [watch.has_changed() for _ in range(2)] == [False, True]


def test_a_file_that_goes_away_and_comes_back_the_same_has_not_changed(file: Path) -> None:
    watch = watching(file)
    file.rename(file.with_suffix(".away"))
    assert not watch.has_changed()
    file.with_suffix(".away").rename(file)
    assert [watch.has_changed() for _ in range(3)] == [False] * 3


def test_key_files_and_what_a_link_leads_to_count(file: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "link", tmp_path / "other"
    other.write_text("one")
    link.symlink_to(file)
    watch = watching(link, other)
    link.unlink()
    link.symlink_to(other)
    assert [watch.has_changed() for _ in range(2)] == [False, True]


def test_looks_have_a_distance(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the supervisor is woken."""
    watch = watching(file)
    file.write_text("two, longer")
    assert not watch.has_changed()
    monkeypatch.setattr(filewatch, "_EVERY", 60.0)
    assert not watch.has_changed()


def test_a_folder_counts_by_the_files_that_rules_include_of_it(tmp_path: Path) -> None:
    """And not by what an editor keeps there meanwhile."""
    folder = tmp_path / "rules.d"
    folder.mkdir()
    (folder / "a.yaml").touch()
    watch = watching(folder)
    for name in (".a.yaml.swp", "4913", "a.yaml~"):
        (folder / name).touch()
    assert [watch.has_changed() for _ in range(3)] == [False] * 3
    (folder / "a.yaml").rename(folder / "b.yaml")
    assert [watch.has_changed() for _ in range(2)] == [False, True]
