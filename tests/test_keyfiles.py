"""Private keys in files: whole or not at all, for their owner alone, and never shown."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper import keyfiles
from gatekeeper.errors import KeyFileError
from gatekeeper.sealed import keys

PRIVATE = bytes(range(32))
TEXT = keys.show(PRIVATE)


def wanted(path: Path) -> Path:
    """Check that a folder holds nothing but one file: no leftovers of writing it."""
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208  (names)
    return path


# -- writing


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_key_is_written_for_its_owner_alone_as_wg_writes_it(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a.key"
    before = os.umask(umask)
    try:
        keyfiles.write(str(path), PRIVATE)
    finally:
        os.umask(before)
    assert wanted(path).read_text() == TEXT + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keyfiles.read(str(path)) == PRIVATE


def test_a_key_is_written_to_the_folder_that_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keyfiles.write("a.key", PRIVATE)
    assert keyfiles.read("a.key") == PRIVATE


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "empty").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    names = sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        with pytest.raises(KeyFileError, match="exists, and is not overwritten") as failure:
            keyfiles.write(str(tmp_path / name), PRIVATE)
        assert failure.value.hint is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "empty").read_text() == ""


@pytest.mark.parametrize(
    ("place", "words"),
    [("nowhere/a.key", "No such file"), ("file/a.key", "Not a directory"), ("x" * 300, "File name too long")],
)
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(KeyFileError, match=f"cannot write the key .*: {words}"):
        keyfiles.write(str(tmp_path / place), PRIVATE)
    wanted(tmp_path / "file")


def test_a_key_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    """Here: in the file size that the process may write."""
    code = "import sys; from gatekeeper import keyfiles; keyfiles.write(sys.argv[1], bytes(32))"

    def with_20_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))

    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path / "a.key")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=with_20_bytes,
    )
    assert "KeyFileError: cannot write the key" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_made_where_there_is_none_and_kept_where_there_is_one(tmp_path: Path) -> None:
    path = str(tmp_path / "a.key")
    made, is_new = keyfiles.read_or_make(path)
    assert is_new
    assert keyfiles.read_or_make(path) == (made, False)
    assert keyfiles.read_or_make(str(tmp_path / "b.key"))[0] != made
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(KeyFileError, match="cannot read the key"):
        keyfiles.read_or_make(str(tmp_path / "dangling"))
    assert not (tmp_path / "nowhere").exists()


# -- reading


def write(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " \n"])
def test_what_wg_genkey_writes_is_a_key_with_and_without_its_newline(tmp_path: Path, end: str) -> None:
    assert keyfiles.read(write(tmp_path / "a.key", (TEXT + end).encode())) == PRIVATE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o666, 0o777, 0o610])
def test_a_key_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "a.key", TEXT.encode(), mode)
    with pytest.raises(KeyFileError, match="can be read or written by other users") as failure:
        keyfiles.read(path)
    assert failure.value.hint is not None
    assert f"chmod 600 {path}" in failure.value.hint


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_for_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert keyfiles.read(write(tmp_path / "a.key", TEXT.encode(), mode)) == PRIVATE


def test_a_link_to_a_key_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.key", TEXT.encode())
    (tmp_path / "link").symlink_to("a.key")
    assert keyfiles.read(str(tmp_path / "link")) == PRIVATE


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "No such file or directory"),
        ("dangling", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "it is not a regular file"),
        ("/dev/zero", "it is not a regular file"),
        ("/dev/null", "it is not a regular file"),
    ],
)
def test_what_is_no_file_is_an_error_and_no_wait(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match=f"cannot read the key .*: {words}") as failure:
        keyfiles.read(str(tmp_path / name))
    assert (failure.value.hint is not None) is words.startswith("No such")


SECRET = "correct horse battery staple"  # as long as nothing that is a key


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        SECRET.encode(),
        SECRET.ljust(44).encode(),
        SECRET.ljust(44, "x").encode(),
        f"{TEXT}{SECRET}".encode(),
        f"{SECRET}\n{TEXT}\n".encode(),
        f"{TEXT}\n{TEXT}\n".encode(),
        TEXT[:-1].encode(),
        f"{TEXT[:-2]}F=".encode(),  # bits that belong to no byte
        f"{TEXT[:-2]}==".encode(),
        PRIVATE,
        b"\xff" * 44,
        b"\x00" * 10_000_000,
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_rubbish_is_refused_and_never_repeated(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyFileError, match="is not a private key") as failure:
        keyfiles.read(write(tmp_path / "a.key", content))
    assert failure.value.hint is not None
    words = f"{failure.value.message} {failure.value.hint} {failure.value!r}"
    assert "horse" not in words
    assert TEXT[:10] not in words
    assert len(words) < 1000
