"""``gatekeeper client add|remove|list``: what it writes, what it refuses, and that nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import pytest

from gatekeeper import cli, clientlist, replacing, rules
from gatekeeper.errors import EditError
from gatekeeper.rules import edit
from gatekeeper.sealed import keys

KEYS = [
    "q5NWdfwdPOsoyP2YF2bLgWXeX8Xe3VBY8I0BvxDg8Rk=",
    "IcSWmkAr3Qz6cmHu/Gjnd62tB4FaWHKRW5Nl9gFOn1o=",
    "4mBFFEMJkFSqHRzBmT3Mqrg0pyDdbwMTzSVcx7oB4yY=",
    "kmLDsKEGSdZDLVgmlxsB4PoFsmrIVZ6RbSTbFrvT7ws=",
]
LOW_ORDER = "A" * 43 + "="
MAIN = f"""\
# ours
services:
  ssh: {{port: tcp/22}}   # shell
  web: {{port: tcp/443}}

clients:
  # the desk
  ann:   {{key: {KEYS[0]}, services: [ssh]}}   # hers
"""
SECRET = "a plain key that nobody knows"


@pytest.fixture
def main(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(MAIN)
    file.chmod(0o600)
    return file


def gatekeeper(main: Path, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gatekeeper", "client", *words, "--rules", str(main)]
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=30)


# -- add


def test_it_adds_a_line_and_says_where_and_what_to_do_next(main: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["client", "add", "ben", "--key", KEYS[1], "--services", "ssh,web", "--ttl", "8h", "--rules", str(main)]
    assert cli.main(argv) == 0
    assert main.read_text() == f"{MAIN}  ben: {{key: {KEYS[1]}, services: [ssh, web], ttl: 8h}}\n"
    assert capsys.readouterr().out == (
        f"added ben to {main}:9; it may open ssh, web\nit may knock from the next `gatekeeper reload` on\n"
    )
    assert main.stat().st_mode & 0o777 == 0o600


def test_every_option_becomes_its_field(main: Path) -> None:
    argv = ["ben", "--key", KEYS[1], "--services", "ssh", "--from", "192.0.2.0/24, 2001:db8::/32", "--bind"]
    argv += ["--for-others", "--not-after", "2027-01-31", "--when", "Mon-Fri 08:00-18:00 UTC", "--when", "Sat UTC"]
    argv += ["--also-key", KEYS[2], "--also-key", KEYS[3], "--prefix", "ipv4=24, ipv6=56"]
    done = gatekeeper(main, "add", *argv)
    assert done.returncode == 0, done.stderr
    its = rules.load(main)[0].clients["ben"]
    assert (len(its.sources), len(its.hours), its.must_bind, its.for_others) == (2, 2, True, True)
    assert its.not_after is not None
    assert [keys.show(key) for key in its.keys] == KEYS[1:4]
    assert its.prefixes == (24, 56)


def test_there_is_an_option_for_each_field_that_is_no_secret_and_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever adds a field of a client is told here of the command."""
    by_entry = {"open", "close", "sequence", "close_sequence", "within", "flags", "fwknop"}
    schema = json.loads(resources.files("gatekeeper.rules").joinpath("rules.schema.json").read_text())
    fields = {name for name, its in schema["$defs"]["client"]["properties"].items() if not its.get("deprecated")}
    with pytest.raises(SystemExit):
        cli.main(["client", "add", "--help"])
    said = capsys.readouterr().out
    options = {"also_keys": "--also-key"}
    for name in fields - by_entry:
        if not name.endswith("_file"):
            assert f" {options.get(name, '--' + name.replace('_', '-'))} " in said.replace("\n", " "), name


@pytest.mark.parametrize("prefix", ["24", "ipv4=", "=24", "ipv5=24", "ipv4=8", "ipv4=24,ipv4=32", ""])
def test_a_prefix_that_makes_no_sense_is_refused(main: Path, prefix: str) -> None:
    done = gatekeeper(main, "add", "ben", "--key", KEYS[1], "--services", "ssh", "--prefix", prefix)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert main.read_text() == MAIN


@pytest.mark.parametrize("way", ["argument", "line", "all that join prints"])
def test_what_join_prints_is_taken_as_it_is(main: Path, way: str) -> None:
    line = f"  ben: {{key: {KEYS[1]}, services: [ssh]}}"
    everything = f"profile host: /home/ben/x\nkey made: y\n\nOn the server:\n\n{line}\n\nThen, here: gatekeeper knock\n"
    if way == "argument":
        done = gatekeeper(main, "add", line)
    else:
        done = gatekeeper(main, "add", "-", given=line if way == "line" else everything)
    assert done.returncode == 0, done.stderr
    assert rules.load(main)[0].clients["ben"].services == ("ssh",)


def test_options_go_before_what_the_line_says(main: Path) -> None:
    done = gatekeeper(main, "add", f"ben: {{key: {KEYS[1]}, services: [ssh]}}", "--services", "web", "--ttl", "5m")
    assert done.returncode == 0, done.stderr
    its = rules.load(main)[0].clients["ben"]
    assert (its.services, its.ttl) == (("web",), 300)


def test_a_secret_key_comes_by_standard_input_only_and_is_never_shown(main: Path) -> None:
    entry = f"ben: {{open: {SECRET}, services: [ssh]}}"
    done = gatekeeper(main, "add", entry)
    assert (done.returncode, SECRET in done.stderr) == (1, False)
    assert "a secret key stands on the command line" in done.stderr
    assert main.read_text() == MAIN
    done = gatekeeper(main, "add", "-", given=entry)
    assert (done.returncode, SECRET in done.stdout + done.stderr) == (0, False)
    assert rules.load(main)[0].clients["ben"].open_key == SECRET.encode()
    listed = gatekeeper(main, "list", "--json")
    assert SECRET not in listed.stdout + gatekeeper(main, "list").stdout
    done = gatekeeper(main, "add", "-", given=f"eve: {{open: {SECRET}, services: [ssh]}}")
    assert done.returncode == 1
    assert 'open of client "eve" is open of client "ben" too' in done.stderr
    assert SECRET not in done.stderr


def test_a_secret_in_a_file_that_others_can_read_is_warned_about(main: Path) -> None:
    main.chmod(0o644)
    done = gatekeeper(main, "add", "-", given=f"ben: {{open: {SECRET}, services: [ssh]}}")
    assert done.returncode == 0
    assert "other users can read or write this file" in done.stderr


BAD = [
    (["ann", "--key", KEYS[1], "--services", "ssh"], 'there is a client "ann" already, at '),
    (["ben", "--key", KEYS[1], "--services", "shh"], 'there is no service "shh"'),
    (["ben", "--key", KEYS[1], "--services", ""], 'there is no service ""'),
    (["ben", "--key", KEYS[0], "--services", "ssh"], 'key of client "ben" is key of client "ann" too'),
    (["ben", "--key", KEYS[1][1:], "--services", "ssh"], "a key is 44 characters of base64"),
    (["ben", "--key", LOW_ORDER, "--services", "ssh"], "this public key is of low order"),
    (["ben", "--services", "ssh"], "'ben' has no key"),
    (["ben", "--key", KEYS[1]], "'ben' has no services"),
    (["b n", "--key", KEYS[1], "--services", "ssh"], '"b n" cannot be the name of a client'),
    (["", "--key", KEYS[1], "--services", "ssh"], "cannot be the name of a client"),
    (["../x", "--key", KEYS[1], "--services", "ssh"], '"../x" cannot be the name of a client'),
    (["x\ny", "--key", KEYS[1], "--services", "ssh"], "cannot be the name of a client"),
    (["ben: {key: x", "--services", "ssh"], "this is no client: it does not look like"),
    ([f"ben: {{key: {KEYS[1]}, servces: [ssh]}}", "--services", "ssh"], 'unknown key "servces" in client "ben"'),
    (["ben", "--key", KEYS[1], "--services", "ssh", "--ttl", "soon"], '"soon" is not a duration'),
    (["ben", "--key", KEYS[1], "--services", "ssh], from: [", "--ttl", "1h"], "there is no service"),
    (["ben", "--key", KEYS[1], "--services", "ssh", "--not-after", "\x1b[31m"], "is not a date"),
    (["ben", "--key", KEYS[1], "--services", "ssh", "--file", "rules.d/ben.yaml"], "is no file of these rules"),
    (["-"], "this is no client"),
]


@pytest.mark.parametrize(("argv", "words"), BAD)
def test_what_cannot_be_used_is_refused_in_clear_words_and_nothing_is_changed(
    main: Path, argv: list[str], words: str
) -> None:
    done = gatekeeper(main, "add", *argv, given="")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
    assert main.read_text() == MAIN
    assert len(list(main.parent.iterdir())) == 1


def test_rules_that_cannot_be_used_are_not_edited(main: Path) -> None:
    main.write_text(f"{MAIN}knock: {{port: tcp/1}}\n")
    for argv in (("add", "ben", "--key", KEYS[1], "--services", "ssh"), ("remove", "ann"), ("list",)):
        done = gatekeeper(main, *argv)
        assert (done.returncode, "knocks come by udp" in done.stderr) == (1, True)


def test_a_layout_that_is_not_understood_is_left_alone_and_what_to_write_is_said(main: Path) -> None:
    text = f"{{services: {{ssh: {{port: tcp/22}}}}, clients: {{ann: {{key: {KEYS[0]}, services: [ssh]}}}}}}\n"
    main.write_text(text)
    done = gatekeeper(main, "add", "ben", "--key", KEYS[1], "--services", "ssh")
    assert done.returncode == 1
    assert "cannot be edited by a command: the whole file stands in one pair of braces" in done.stderr
    assert f"put this under clients: yourself: ben: {{key: {KEYS[1]}, services: [ssh]}}" in done.stderr
    done = gatekeeper(main, "add", "-", given=f"ben: {{open: {SECRET}, services: [ssh]}}")
    assert (done.returncode, SECRET in done.stderr) == (1, False)
    assert main.read_text() == text


def test_a_byte_order_mark_and_carriage_returns_stay(main: Path) -> None:
    main.write_bytes(b"\xef\xbb\xbf" + MAIN.replace("\n", "\r\n").encode())
    assert gatekeeper(main, "add", "ben", "--key", KEYS[1], "--services", "ssh").returncode == 0
    content = main.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf#")
    assert content.count(b"\n") == content.count(b"\r\n") == MAIN.count("\n") + 1


def test_what_would_mean_something_else_besides_is_not_written(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the text ever be cut in the wrong place."""
    wrong = MAIN.replace("tcp/443", "tcp/444") + f"  ben: {{key: {KEYS[1]}, services: [ssh]}}\n"
    monkeypatch.setattr(edit, "add", lambda *_: wrong)
    with pytest.raises(EditError, match="would mean something else besides; nothing was changed"):
        clientlist.add(main, "ben", {"key": KEYS[1], "services": ["ssh"]})
    monkeypatch.setattr(edit, "remove", lambda *_: MAIN.replace("ann", "eve"))
    with pytest.raises(EditError, match="would mean something else besides; nothing was changed"):
        clientlist.remove(main, "ann")
    assert main.read_text() == MAIN


def test_many_at_once_lose_nothing(main: Path) -> None:
    argv = [sys.executable, "-m", "gatekeeper", "client", "add", "--rules", str(main), "-"]
    running = []
    for number in range(6):
        one = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert one.stdin is not None
        one.stdin.write(f"c{number}: {{open: a plain key with the number {number}, services: [ssh]}}")
        one.stdin.close()
        running.append(one)
    assert [one.wait(timeout=30) for one in running] == [0] * 6
    assert set(rules.load(main)[0].clients) == {"ann", *(f"c{number}" for number in range(6))}


def test_whoever_edits_with_an_editor_meanwhile_loses_nothing(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = replacing.replace

    def late(path: Path, before: bytes | None, after: bytes, *, like: Path) -> None:
        main.write_text(f"{MAIN}# an editor was here\n")
        real(path, before, after, like=like)

    monkeypatch.setattr(replacing, "replace", late)
    with pytest.raises(EditError, match="was changed by somebody else meanwhile"):
        clientlist.remove(main, "ann")
    assert main.read_text() == f"{MAIN}# an editor was here\n"


# -- included files


@pytest.fixture
def folder(main: Path) -> Path:
    main.write_text(f"include: rules.d\n{MAIN}")
    folder = main.parent / "rules.d"
    folder.mkdir()
    return folder


def test_a_client_can_be_put_into_an_included_file_which_is_made_if_need_be(main: Path, folder: Path) -> None:
    before = main.read_text()
    done = gatekeeper(main, "add", "ben", "--key", KEYS[1], "--services", "ssh", "--file", "rules.d/ben.yaml")
    assert done.returncode == 0, done.stderr
    assert f"added ben to {folder / 'ben.yaml'}:2" in done.stdout
    assert (folder / "ben.yaml").read_text() == f"clients:\n  ben: {{key: {KEYS[1]}, services: [ssh]}}\n"
    assert (folder / "ben.yaml").stat().st_mode & 0o777 == 0o600
    assert main.read_text() == before
    assert rules.load(main)[0].clients["ben"].services == ("ssh",)


def test_a_client_is_taken_out_of_the_file_that_it_stands_in(main: Path, folder: Path) -> None:
    before = main.read_text()
    (folder / "ben.yaml").write_text(f"clients:\n  ben: {{key: {KEYS[1]}, services: [ssh]}}\n# end\n")
    done = gatekeeper(main, "remove", "ben")
    assert (done.returncode, main.read_text()) == (0, before)
    assert (folder / "ben.yaml").read_text() == "clients:\n# end\n"


@pytest.mark.parametrize(
    "file", ["other.yaml", "rules.d/.ben.yaml", "rules.d/ben.yml", "rules.d/a/ben.yaml", "../x.yaml"]
)
def test_a_file_that_would_not_be_read_is_refused(main: Path, folder: Path, file: str) -> None:
    done = gatekeeper(main, "add", "ben", "--key", KEYS[1], "--services", "ssh", "--file", file)
    assert (done.returncode, "is no file of these rules" in done.stderr) == (1, True)
    assert not list(folder.iterdir())


def test_the_place_of_a_name_that_is_taken_may_be_another_file(main: Path, folder: Path) -> None:
    (folder / "ben.yaml").write_text(f"clients:\n  ben: {{key: {KEYS[1]}, services: [ssh]}}\n")
    done = gatekeeper(main, "add", "ben", "--key", KEYS[1], "--services", "ssh")
    assert f'there is a client "ben" already, at {folder / "ben.yaml"}:2' in done.stderr


# -- remove


def test_it_takes_the_line_out_and_says_what_that_means(main: Path) -> None:
    done = gatekeeper(main, "remove", "ann")
    assert done.returncode == 0
    assert done.stdout.startswith(f"removed ann from {main}:8\n")
    assert "no client is left: only `gatekeeper grant` lets anybody in" in done.stderr
    assert main.read_text() == "".join(line for line in MAIN.splitlines(keepends=True) if "ann:" not in line)


def test_who_is_not_there_cannot_be_removed(main: Path) -> None:
    done = gatekeeper(main, "remove", "eve")
    assert (done.returncode, main.read_text()) == (1, MAIN)
    assert 'there is no client "eve" in the rules' in done.stderr


def test_with_watch_it_says_that_run_sees_it_by_itself(main: Path) -> None:
    main.write_text(f"watch: true\n{MAIN}")
    assert "run has seen that (watch: true)" in gatekeeper(main, "remove", "ann").stdout


def test_reload_without_a_run_is_an_error_that_says_so_and_the_file_is_written(main: Path, tmp_path: Path) -> None:
    done = gatekeeper(main, "remove", "ann", "--reload", "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 1
    assert "run is not up" in done.stderr
    assert "removed ann from" in done.stdout
    assert "ann" not in rules.load(main)[0].clients


# -- list


def test_it_lists_what_each_knocks_with_and_where_it_stands(main: Path) -> None:
    main.write_text(
        f"{MAIN}  old: {{key: {KEYS[1]}, services: [ssh, web], not_after: 2020-01-31}}\n"
        f"  t: {{open: {SECRET}, services: [ssh], not_after: 2999-01-31T18:00Z}}\n"
    )
    done = gatekeeper(main, "list")
    assert done.stdout == (
        "CLIENT  KEY     SERVICES  LAST DAY              PLACE\n"
        f"ann     sealed  ssh       -                     {main}:8\n"
        f"old     sealed  ssh, web  2020-01-31 (over)     {main}:9\n"
        f"t       plain   ssh       2999-01-31T18:00:00Z  {main}:10\n"
    )
    found = json.loads(gatekeeper(main, "list", "--json").stdout)
    assert found[1] == {
        "name": "old",
        "kind": "sealed",
        "keys": [KEYS[1]],
        "services": ["ssh", "web"],
        "ttl": None,
        "from": [],
        "when": [],
        "not_after": "2020-01-31",
        "is_over": True,
        "file": str(main),
        "line": 9,
    }


def test_it_says_that_there_are_none(main: Path) -> None:
    main.write_text("services: {ssh: {port: tcp/22}}\n")
    assert gatekeeper(main, "list").stdout == "there are no clients: only `gatekeeper grant` lets anybody in\n"
    assert json.loads(gatekeeper(main, "list", "--json").stdout) == []


def test_who_may_not_write_is_told_so() -> None:
    """In a folder of its own: pytest's are shut to others."""
    argv = [sys.executable, "-m", "gatekeeper", "client", "remove", "ann", "--rules"]
    somebody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rules.yaml"
        file.write_text(MAIN)
        file.chmod(0o644)
        Path(folder).chmod(0o555)
        done = subprocess.run(  # type: ignore[call-overload]  # the three go together or not at all
            [*argv, str(file)], capture_output=True, text=True, check=False, timeout=30, **somebody
        )
        Path(folder).chmod(0o755)
        assert done.returncode == 1
        assert "Permission denied; nothing was changed" in done.stderr
        assert file.read_text() == MAIN
