"""on_open, on_close and hook_timeout: lists of arguments, of all services or of one; mistakes are at their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper import rules
from gatekeeper.differences import as_lines, compare, describe
from gatekeeper.problems import Problem, RulesError
from gatekeeper.rules import programs
from gatekeeper.settings import Rules

CLIENTS = "clients: {laptop: {key: aI9Cc/xZ3nOWC9Ms5EIQQwy7TuBeY8J6SBu4ZvrxbQA=, services: [ssh]}}\n"
SSH = "services: {ssh: {port: tcp/22}}\n" + CLIENTS


def parse(text: str) -> tuple[Rules, list[Problem]]:
    return rules.parse(text.encode(), file="rules.yaml", read_key=str.encode)


def test_a_service_has_the_hooks_of_the_file_unless_it_has_its_own() -> None:
    found, warnings = parse(f"""
on_open: [/bin/told, "to whom it may; $(concern)"]
on_close: [/bin/told]
hook_timeout: 1m
services:
  ssh: {{port: tcp/22}}
  web: {{port: tcp/80, on_open: [/bin/web, a b, "", "*"]}}
  db: {{port: tcp/81, on_open: [], on_close: []}}
{CLIENTS}""")
    assert warnings == []
    assert {one.name: (one.on_open, one.on_close) for one in found.services.values()} == {
        "ssh": (("/bin/told", "to whom it may; $(concern)"), ("/bin/told",)),
        "web": (("/bin/web", "a b", "", "*"), ("/bin/told",)),
        "db": ((), ()),
    }
    assert (found.hook_timeout, found.has_hooks) == (60, True)
    assert [one.has_hooks for one in (parse(SSH)[0], parse(SSH + "on_close: [/bin/x]")[0])] == [False, True]
    assert parse(SSH)[0].hook_timeout == 10


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("on_open: ^/bin/told --all 'a b'", "on_open must be a list", "[/bin/told, --all, a b] (no shell reads it)"),
        ("on_open: ^/bin/told 'a", "on_open must be a list of arguments", "[/bin/told 'a]"),
        ('on_open: ^"/bin/told \\e[31m"', "on_open must be a list of arguments", "[/bin/told, \\x1b[31m]"),
        ("on_open: ^{a: b}", "on_open must be a list, not a mapping", None),
        ("on_open: [^told]", '"told" is not an absolute path', "looked for nowhere"),
        ("on_open: [^~]", "an argument of on_open must be a word, not nothing", None),
        ("on_open: [/bin/told, ^[a]]", "an argument of on_open must be a word, not a list", None),
        ('on_close: [/bin/told, ^"a\\0b"]', "cannot be an argument of a program", "take the character out"),
        (f"on_close: [^/bin/told, {'x' * 4090}]", "on_close is too long", "into a script"),
        (f"on_close: [^/bin/told{', a' * 64}]", "on_close is too long", "at most 64 arguments"),
        ("hook_timeout: ^0s", "hook_timeout: ", None),
        ("hook_timeout: ^11m", "hook_timeout goes from 1s to 10m", "then it is 10s"),
        ("hook_timeout: ^forever", "hook_timeout goes from 1s to 10m", "then it is 10s"),
        ("on_opne: [/bin/told]", 'unknown key "on_opne" in the file', 'did you mean "on_open"?'),
    ],
)
def test_what_cannot_be_a_hook_is_an_error_at_its_place(line: str, message: str, hint: str | None) -> None:
    place = max(line.find("^"), 0) + 1
    with pytest.raises(RulesError) as failure:
        parse(SSH + line.replace("^", "", 1))
    problem = failure.value.problems[-1]
    assert message in problem.message
    assert (problem.line, problem.column) == (3, place)
    assert hint is None or hint in (problem.hint or "")


def test_a_program_that_cannot_be_run_is_a_warning_for_a_door_must_not_stay_shut_for_it(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(SSH + f"on_open: [{tmp_path}/told, x]\n")
    found, (warning,) = rules.load(file)
    assert found.services["ssh"].on_open == (f"{tmp_path}/told", "x")
    assert (warning.line, warning.column) == (3, 11)
    assert warning.message == f"on_open: {tmp_path}/told cannot be used: No such file or directory"
    program = tmp_path / "told"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert rules.load(file)[1] == []


def test_what_others_could_change_is_seen_also_behind_a_link(tmp_path: Path) -> None:
    program, link, folder = tmp_path / "told", tmp_path / "link", tmp_path / "open"
    link.symlink_to(program)
    program.write_text("#!/bin/sh\n")
    for mode, words in ((0o644, "is not executable"), (0o757, "can be changed by every user"), (0o775, None)):
        program.chmod(mode)
        for path in (program, link):
            found = programs.look(str(path))
            assert (found is None) if words is None else (found is not None and words in found[0])
    folder.mkdir()
    folder.chmod(0o777)
    inner = program.rename(folder / "told")
    assert "is in a folder that every user" in (programs.look(str(inner)) or ("",))[0]
    assert "is not a program" in (programs.look(str(folder)) or ("",))[0]
    inner.unlink()
    inner.symlink_to(inner)
    assert "links go in a circle" in (programs.look(str(inner)) or ("",))[0]


def test_a_change_of_hooks_is_shown_as_a_command_line() -> None:
    before, after = (
        describe(parse(text)[0], bytes.hex)
        for text in (SSH + "on_open: [/bin/told]", SSH + "on_open: [/bin/told, a b]\nhook_timeout: 5s")
    )
    assert list(as_lines(compare(before, after))) == [
        "changed the file",
        "    hook_timeout added: 5s",
        "changed service ssh",
        "    on_open: /bin/told -> /bin/told 'a b'",
    ]
