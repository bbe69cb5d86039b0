"""Whom workers refused of late: what the keeper writes, and what is made of a file that anybody wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gatekeeper import lately
from gatekeeper.lately import FILE, GENERATION, Lately, Refused

HOME, NET = bytes([192, 0, 2, 7]), bytes.fromhex("20010db800000001")


def test_what_workers_counted_can_be_read_the_heaviest_first(tmp_path: Path) -> None:
    kept = Lately(tmp_path)
    kept.note({(HOME, "no-grant"): 3, (NET, "unknown-key"): 5})
    kept.note({(HOME, "no-grant"): 4, (HOME, "would-replayed"): 1})
    kept.keep(now=1000.0)
    assert lately.read(tmp_path, now=1001.0) == [
        Refused("192.0.2.7", "no-grant", 7),
        Refused("2001:db8:0:1::/64", "unknown-key", 5),
        Refused("192.0.2.7", "would-replayed", 1),
    ]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


def test_a_worker_that_says_it_was_more_than_can_be_hides_nobody(tmp_path: Path) -> None:
    kept = Lately(tmp_path)
    for _ in range(3):
        kept.note({(HOME, "no-grant"): 2**63 - 1, (NET, "no-grant"): 1})
    kept.keep(now=0.0)
    assert [one.packets for one in lately.read(tmp_path, now=0.0)] == [2**63 - 1, 3]


def test_what_is_long_ago_is_forgotten(tmp_path: Path) -> None:
    kept = Lately(tmp_path)
    kept.keep(now=0.0)
    kept.note({(HOME, "no-grant"): 3})
    kept.keep(now=200.0)
    kept.keep(now=GENERATION + 1)
    kept.note({(HOME, "no-grant"): 1})
    kept.keep(now=GENERATION + 50)
    assert [one.packets for one in lately.read(tmp_path, now=GENERATION + 50)] == [4]
    kept.keep(now=2 * GENERATION + 2)
    assert [one.packets for one in lately.read(tmp_path, now=2 * GENERATION + 2)] == [1]
    kept.keep(now=5 * GENERATION)
    assert lately.read(tmp_path, now=5 * GENERATION) == []


def test_a_file_that_a_dead_run_left_is_not_shown_for_long_nor_one_of_another_boot(tmp_path: Path) -> None:
    kept = Lately(tmp_path)
    kept.note({(HOME, "no-grant"): 3})
    kept.keep(now=1000.0)
    assert lately.read(tmp_path, now=1000.0 + GENERATION)
    assert lately.read(tmp_path, now=1000.0 + 2 * GENERATION) == []
    assert lately.read(tmp_path, now=10.0) == []


def test_it_is_written_every_other_second_at_most_and_not_where_nothing_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Lately(tmp_path)
    written: list[float] = []
    monkeypatch.setattr(kept, "_write", written.append)
    for tenth in range(100):
        kept.note({(HOME, "no-grant"): 1})
        kept.keep(now=tenth / 10)
    assert written == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.0])
    for second in range(11, 200):
        kept.keep(now=float(second))
    assert written[5:] == [11.0]


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    kept = Lately(tmp_path / "gone")
    kept.note({(HOME, "no-grant"): 1})
    kept.keep(now=0.0)
    assert lately.read(tmp_path / "gone", now=0.0) == []


def test_a_link_in_its_place_is_neither_followed_nor_read(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    for name in (FILE, "refused.new"):
        (tmp_path / name).symlink_to(tmp_path / "other")
    assert lately.read(tmp_path, now=0.0) == []
    kept = Lately(tmp_path)
    kept.note({(HOME, "no-grant"): 1})
    kept.keep(now=0.0)
    assert (tmp_path / "other").read_text() == "theirs"
    assert len(lately.read(tmp_path, now=0.0)) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"now": NaN, "refused": []}',
        *(
            json.dumps({"now": 1.0, "refused": rows})
            for rows in (
                7,
                [7],
                [["00", "no-grant", 1]],
                [["c0000207", "\x1b[31m", 1]],
                [["c0000207", "no-grant", "1"]],
                [["c0000207", "no-grant", -1]],
                [["c0000207", "no-grant", 1e400]],
                [["zz", "no-grant", 1]],
                [[None, None, None]],
                [["c0000207", [], 1]],
            )
        ),
    ],
    ids=range(15),
)
def test_nonsense_in_the_file_shows_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert lately.read(tmp_path, now=1.0) == []


def test_a_pipe_in_its_place_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    assert lately.read(tmp_path, now=1.0) == []
