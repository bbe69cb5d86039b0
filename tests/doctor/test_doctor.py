"""The whole of it: checks that fail do not stop the others; files and clocks; what is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper import doctor
from gatekeeper.doctor import clock, files, report, session
from gatekeeper.doctor.finding import CannotLookError, Finding, Level, note, ok, unknown, warning, wrong
from gatekeeper.doctor.scene import Scene
from gatekeeper.errors import FirewallError
from gatekeeper.store.sqlite import FILE, SqliteStore

KEY = "q5NWdfwdPOsoyP2YF2bLgWXeX8Xe3VBY8I0BvxDg8Rk="
RULES = f"services: {{ssh: {{port: tcp/22}}}}\nclients: {{laptop: {{key: {KEY}, services: [ssh]}}}}\n"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    file.chmod(0o600)
    SqliteStore(tmp_path / "state").close()
    return Scene(file, tmp_path / "state")


def faults(findings: Iterator[Finding]) -> list[tuple[Level, str]]:
    return [(one.level, one.what) for one in findings if one.level is not Level.OK]


def test_a_check_that_cannot_look_says_so_and_the_others_go_on(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: Exception) -> doctor.Check:
        def look(_: Scene) -> Iterator[Finding]:
            yield ok("first")
            raise error

        return doctor.Check("area", "a thing", look)

    scene.is_root = False
    errors = [
        CannotLookError("no", needs_root=True),
        FirewallError("iptables-save refused: you must be root"),
        PermissionError(13, "Permission denied"),
        ValueError("a bug"),
    ]
    monkeypatch.setattr(doctor, "CHECKS", tuple(map(raising, errors)))
    monkeypatch.setattr(doctor, "Scene", lambda *_: scene)
    found = doctor.examine(scene.rules_file, scene.state_dir)["area"]
    assert [one.level for one in found] == [Level.OK, Level.UNKNOWN] * 4
    whats = [one.what for one in found[1::2]]
    assert whats == ["a thing could not be looked at: needs root"] * 3 + ["a thing could not be looked at"]
    assert "bug in gatekeeper" in found[-1].hint


def test_files_that_others_can_get_at_are_found(scene: Scene) -> None:
    assert faults(files.state(scene)) == [(Level.NOTE, "the server has no key yet")]
    key = scene.state_dir / "server.key"
    key.write_text("x")
    key.chmod(0o644)
    (scene.state_dir / FILE).chmod(0o640)
    scene.state_dir.chmod(0o777)
    found = faults(files.state(scene))
    assert [level for level, _ in found] == [Level.WRONG, Level.WRONG, Level.WARNING]
    assert "others can look into" in found[0][1]
    assert "the server's key" in found[1][1]


def test_a_link_that_leads_to_itself_is_what_is_wrong_and_no_bug(scene: Scene) -> None:
    scene.rules_file.unlink()
    scene.rules_file.symlink_to(scene.rules_file.name)
    found = doctor.examine(scene.rules_file, scene.state_dir)["rules"]
    assert [one.level for one in found] == [Level.WRONG, Level.UNKNOWN]
    assert "Too many levels of symbolic links" in found[0].what
    assert found[1].what.startswith("without the rules file these were not looked at")


def test_a_store_that_is_damaged_is_found_and_nothing_is_made_beside_one_that_is_not(scene: Scene) -> None:
    before = sorted(scene.state_dir.iterdir())
    assert not any("damaged" in what for _, what in faults(files.state(scene)))
    assert sorted(scene.state_dir.iterdir()) == before
    (scene.state_dir / FILE).write_bytes(b"junk" * 5000)
    assert any(level is Level.WRONG and "is damaged" in what for level, what in faults(files.state(scene)))


def test_a_clock_that_stands_before_what_was_written_is_found(scene: Scene) -> None:
    assert not [one for one in clock.check(scene) if one.level is Level.WRONG]
    ahead = time.time() + 7200
    os.utime(scene.state_dir / FILE, (ahead, ahead))
    (one,) = [one for one in clock.check(scene) if one.level is Level.WRONG]
    assert "the clock stands" in one.what
    assert FILE in one.what


def test_a_session_that_would_be_closed_out_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def come_from(address: str, port: int = 22) -> Level:
        there = session.Session(ip_address(address), ip_address("192.0.2.1"), port)
        monkeypatch.setattr(session, "find", lambda: there)
        (one,) = session.check(scene)
        return one.level

    assert come_from("198.51.100.7") is Level.WARNING
    assert come_from("198.51.100.7", port=2222) is Level.OK
    scene.rules_file.write_text(RULES.replace("tcp/22}", "tcp/22, always: [198.51.100.0/24]}"))
    scene = Scene(scene.rules_file, scene.state_dir)
    assert come_from("198.51.100.7") is Level.OK


def test_what_is_shown() -> None:
    found = {
        "rules": [ok("fine")],
        "kernel": [wrong("it is not there", "get it", detail="seen \x1b[31m"), note("by the way")],
        "clock": [warning("slow", "set it"), unknown("dark", "sudo gatekeeper doctor", detail="permission denied")],
    }
    assert report.as_text(found, verbose=False) == (
        "kernel:\n"
        "  WRONG    it is not there\n"
        "           seen \\x1b[31m\n"
        "           hint: get it\n"
        "  note     by the way\n"
        "clock:\n"
        "  WARNING  slow\n"
        "           hint: set it\n"
        "  unknown  dark\n"
        "\n"
        "1 wrong, 1 warning, 1 could not be looked at, 1 note, 1 ok (--verbose shows them)\n"
        "hint: sudo gatekeeper doctor"
    )
    assert "  ok       fine\n" in report.as_text(found, verbose=True)
    assert report.is_wrong(found)
    assert report.as_json(found)["findings"][0] == {
        "area": "rules",
        "level": "ok",
        "what": "fine",
        "detail": "",
        "hint": "",
    }
    assert not report.is_wrong({"clock": found["clock"]})


def test_files_that_the_rules_include_and_their_folder_must_be_nobody_elses(tmp_path: Path) -> None:
    folder, main = tmp_path / "rules.d", tmp_path / "rules.yaml"
    folder.mkdir()
    main.write_text("include: rules.d\nservices: {ssh: {port: tcp/22}}\n")
    (folder / "a.yaml").write_text("# nobody yet\n")
    for path, mode in ((main, 0o600), (folder / "a.yaml", 0o602), (folder, 0o702)):
        path.chmod(mode)
    found = faults(files.rules(Scene(main, tmp_path / "state")))
    told = [what for level, what in found if level is Level.WRONG]
    assert told == [
        f"{one} can be written by other users: they decide who gets in" for one in (folder / "a.yaml", folder)
    ]
