"""What run says of the rules in force: whole, private, and read without trusting it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gatekeeper import inforce, rules
from gatekeeper import reload as reloading
from gatekeeper.errors import UsageError
from gatekeeper.inforce import IN_FORCE, LAST_RELOAD, InForce, Reload
from gatekeeper.settings import Rules

TEXT = b"""
services: {ssh: {port: [tcp/22, udp/53-54], ttl: 1h, max_ttl: 2h}, web: {port: tcp/80, ttl: forever, established: cut}}
clients: {laptop: {open: a_long_secret_of_mine, services: [ssh]}}
firewall: {variant: nft, queue: 7000}
workers: 3
"""


def the_rules() -> Rules:
    return rules.parse(TEXT, file="rules.yaml", read_key=str.encode)[0]


def in_force() -> InForce:
    return inforce.of(the_rules(), Path("/etc/rules.yaml"), when=1e9, only_observes=False, has_rules=False)


def test_what_is_written_is_read_and_is_nobody_elses(tmp_path: Path) -> None:
    one, last = in_force(), Reload(7, 1.5, 1e9, ok=False, words=("a", "b"))
    inforce.write(tmp_path, one)
    inforce.write(tmp_path, last)
    assert inforce.read(tmp_path) == one
    assert inforce.read_last(tmp_path) == last
    assert {path.name for path in tmp_path.iterdir()} == {IN_FORCE, LAST_RELOAD}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert "a_long_secret" not in (tmp_path / IN_FORCE).read_text()


def test_the_outline_is_enough_for_status(tmp_path: Path) -> None:
    inforce.write(tmp_path, in_force())
    found = inforce.read(tmp_path)
    assert found is not None
    there, mine = found.rules(), the_rules()
    assert dict(there.services) == dict(mine.services)
    assert (there.firewall, there.workers, dict(there.clients)) == (mine.firewall, 3, {})


def test_a_secret_is_known_by_a_digest_of_which_each_file_has_its_own() -> None:
    one, other = in_force(), in_force()
    assert one.said != other.said
    assert one.said_by(the_rules()) == one.said
    changed = replace(the_rules().clients["laptop"], open_key=b"another")
    assert one.said_by(replace(the_rules(), clients={"laptop": changed})) != one.said


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', "\xff", '{"outline": 3, "salt": "x"}', "[" * 100_000])
def test_nonsense_is_as_nothing(tmp_path: Path, text: str) -> None:
    for name in (IN_FORCE, LAST_RELOAD):
        (tmp_path / name).write_text(text)
    assert inforce.read(tmp_path) is None
    assert inforce.read_last(tmp_path) is None


def test_fields_of_another_kind_are_as_nothing(tmp_path: Path) -> None:
    inforce.write(tmp_path, in_force())
    good = json.loads((tmp_path / IN_FORCE).read_text())
    for name in ("when", "salt", "said", "texts", "outline", "file"):
        (tmp_path / IN_FORCE).write_text(json.dumps({**good, name: [[1]]}))
        assert inforce.read(tmp_path) is None, name
    for salt in ("", "00" * 65):  # no salt of ours: by one that is too long nothing could be digested
        (tmp_path / IN_FORCE).write_text(json.dumps({**good, "salt": salt}))
        assert inforce.read(tmp_path) is None, salt
    inforce.write(tmp_path, Reload(7, 1.5, 1e9, ok=False, words=("a",)))
    last = json.loads((tmp_path / LAST_RELOAD).read_text())
    for name in ("begun", "when", "words", "pid"):
        (tmp_path / LAST_RELOAD).write_text(json.dumps({**last, name: None}))
        assert inforce.read_last(tmp_path) is None, name


def test_links_are_not_followed_and_words_are_escaped(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("{}")
    (tmp_path / IN_FORCE).symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        inforce.read(tmp_path)
    inforce.write(tmp_path, Reload(7, 1.5, 1e9, ok=False, words=("\x1b[31mred",)))
    found = inforce.read_last(tmp_path)
    assert found is not None
    assert found.words == ("\\x1b[31mred",)


def test_diff_without_a_run_ever_says_so(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_bytes(TEXT)
    file.chmod(0o600)
    with pytest.raises(UsageError, match="nothing is in force"):
        reloading.diff(file, tmp_path)


def test_diff_shows_lines_that_go_and_come(tmp_path: Path) -> None:
    inforce.write(tmp_path, in_force())
    file = tmp_path / "rules.yaml"
    file.write_bytes(TEXT.replace(b"tcp/80", b"tcp/81").replace(b"queue: 7000", b"queue: 7100"))
    file.chmod(0o600)
    found = reloading.diff(file, tmp_path)
    assert not found.is_running
    assert found.needs_restart
    lines = list(found.as_lines())
    assert "    port: tcp/80 -> tcp/81" in lines
    assert any(line.startswith("  - ") and "--dport 80" in line for line in lines)
    assert any(line.startswith("  + ") and "--dport 81" in line for line in lines)
    assert "takes a restart" in lines[-1]


def test_whatever_stands_there_costs_who_reads_it_no_descriptor(tmp_path: Path) -> None:
    """Run reads one of these files at every SIGHUP, and the live view of status all the time."""
    (tmp_path / IN_FORCE).mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with contextlib.suppress(OSError):
            assert inforce.read(tmp_path) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
