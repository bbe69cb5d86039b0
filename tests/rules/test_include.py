"""``include``: files of a folder add services and clients; each mistake is told at its own place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatekeeper import cli, rules
from gatekeeper.problems import Problem, RulesError
from gatekeeper.rules import include

KEYS = ("q5NWdfwdPOsoyP2YF2bLgWXeX8Xe3VBY8I0BvxDg8Rk=", "IcSWmkAr3Qz6cmHu/Gjnd62tB4FaWHKRW5Nl9gFOn1o=")
MAIN = "include: rules.d\nservices:\n  ssh: {port: tcp/22}\n"


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "rules.d").mkdir()
    file = tmp_path / "rules.yaml"
    file.write_text(MAIN)
    file.chmod(0o600)
    return file


def put(main: Path, name: str, text: str) -> Path:
    file = main.parent / "rules.d" / name
    file.write_text(text)
    file.chmod(0o600)
    return file


def problems(main: Path) -> list[Problem]:
    with pytest.raises(RulesError) as failure:
        rules.load(main)
    return [problem for problem in failure.value.problems if not problem.is_warning]


def test_files_add_services_and_clients_in_the_order_of_their_names(main: Path) -> None:
    put(main, "20-ben.yaml", f"clients:\n  ben: {{key: {KEYS[1]}, services: [ssh, web]}}\n")
    put(
        main,
        "10-web.yaml",
        f"services: {{web: {{port: tcp/443}}}}\nclients: {{ann: {{key: {KEYS[0]}, services: [web]}}}}",
    )
    found = rules.read(main)
    assert list(found.rules.services) == ["ssh", "web"]
    assert list(found.rules.clients) == ["ann", "ben"]
    assert [file.name for file in found.files] == ["rules.yaml", "10-web.yaml", "20-ben.yaml"]
    assert found.places["ben"] == (str(main.parent / "rules.d/20-ben.yaml"), 2)
    assert found.problems == []


def test_everything_may_stand_in_included_files(main: Path) -> None:
    main.write_text("include: rules.d\n")
    put(main, "all.yaml", f"services: {{ssh: {{port: tcp/22}}}}\nclients: {{ann: {{key: {KEYS[0]}, services: [ssh]}}}}")
    assert set(rules.load(main)[0].clients) == {"ann"}


def test_a_name_that_stands_twice_is_told_with_both_places(main: Path) -> None:
    one = put(main, "a.yaml", f"clients:\n  ann: {{key: {KEYS[0]}, services: [ssh]}}\n")
    other = put(main, "b.yaml", f"# two\nclients:\n  ann: {{key: {KEYS[1]}, services: [ssh]}}\n")
    (problem,) = problems(main)
    assert str(problem) == f'{other}:3:3: "ann" stands twice in clients (first in {one}, line 2)'
    put(main, "a.yaml", "services: {ssh: {port: tcp/23}}\n")
    put(main, "b.yaml", "")
    (problem,) = problems(main)
    assert str(problem) == f'{one}:1:12: "ssh" stands twice in services (first in {main}, line 3)'


def test_each_problem_stands_at_its_own_place_file_by_file(main: Path) -> None:
    main.write_text(MAIN + "clients:\n  ann: {key: x, services: [ssh]}\n")
    one = put(main, "a.yaml", "clients:\n  ben: {services: [shh]}\n")
    other = put(main, "b.yaml", "services:\n  web: {port: 443}\n")
    assert [(problem.file, problem.line, problem.column) for problem in problems(main)] == [
        (str(main), 5, 14),
        (str(one), 2, 3),
        (str(one), 2, 20),
        (str(other), 2, 15),
    ]


def test_what_holds_for_the_whole_machine_stands_in_the_main_file_alone(main: Path) -> None:
    for section in ("mode: observe", "include: more", "always: [192.0.2.0/24]", "firewall: {queue: 7}"):
        put(main, "a.yaml", section)
        (problem,) = problems(main)
        assert problem.message == f'unknown key "{section.partition(":")[0]}" in an included file'
        assert problem.hint == "known are: services, clients"


def test_a_file_that_is_no_yaml_is_told_and_nothing_that_follows_from_it(main: Path) -> None:
    """Without it, the services that it has would be missed by each client."""
    main.write_text(MAIN + f"clients:\n  ann: {{key: {KEYS[0]}, services: [web]}}\n")
    file = put(main, "web.yaml", "services:\n\tweb: {port: tcp/443}\n")
    (problem,) = problems(main)
    assert (problem.file, problem.line) == (str(file), 2)
    put(main, "web.yaml", "services: [web]\n")
    assert any(str(one).startswith(f"{file}:1:11: services must be a mapping") for one in problems(main))


@pytest.mark.parametrize("name", [".hidden.yaml", "a.yaml~", "#a.yaml#", "a.yaml.bak", ".a.yaml.swp", "a.json", "4913"])
def test_what_editors_leave_behind_is_not_read(main: Path, name: str) -> None:
    put(main, name, "services: [")
    found = rules.read(main)
    assert len(found.files) == 1


def test_a_file_whose_author_may_think_that_it_is_read_is_warned_about(main: Path) -> None:
    put(main, "ann.yml", "services: [")
    warnings = [problem.message for problem in rules.load(main)[1]]
    assert f"{main.parent / 'rules.d/ann.yml'} is not read" in warnings


def test_a_folder_that_is_not_there_is_an_error_for_its_clients_would_lose_their_grants(main: Path) -> None:
    (main.parent / "rules.d").rmdir()
    (problem,) = problems(main)
    assert str(problem) == f"{main}:1:10: cannot include rules.d: No such file or directory"
    assert problem.hint is not None
    (main.parent / "rules.d").write_text("")
    assert problems(main)[0].message == "cannot include rules.d: Not a directory"


def test_a_folder_with_nothing_to_read_is_warned_about(main: Path) -> None:
    """It may be a file system that is not mounted."""
    assert "there is no file *.yaml in rules.d" in [problem.message for problem in rules.load(main)[1]]


@pytest.mark.parametrize("value", ["[rules.d]", "{a: b}", "", "~"])
def test_it_names_one_folder(main: Path, value: str) -> None:
    main.write_text(f"include: {value}\nservices: {{ssh: {{port: tcp/22}}}}\n")
    assert problems(main)[0].message.startswith("include must be a word, not ")


def test_links_are_followed_and_what_is_no_file_is_an_error(main: Path) -> None:
    elsewhere = main.parent / "elsewhere"
    elsewhere.write_text("services: {web: {port: tcp/443}}")
    link = main.parent / "rules.d" / "a.yaml"
    link.symlink_to(elsewhere)
    assert "web" in rules.load(main)[0].services
    elsewhere.unlink()
    (problem,) = problems(main)
    assert str(problem) == f"{link}:1:1: cannot be read: No such file or directory"
    link.unlink()
    link.mkdir()
    assert problems(main)[0].message == "cannot be read: Is a directory"
    link.rmdir()
    os.mkfifo(link)
    assert "it is not a regular file" in problems(main)[0].message


def test_a_key_file_is_looked_for_beside_the_file_that_names_it(main: Path) -> None:
    key = main.parent / "rules.d" / "ann.key"
    key.write_text("a key that is only here\n")
    key.chmod(0o600)
    put(main, "ann.yaml", "clients: {ann: {open_file: ann.key, services: [ssh]}}")
    assert rules.load(main)[0].clients["ann"].open_key == b"a key that is only here"
    absolute = main.parent / "other.key"
    absolute.write_text("a key that is elsewhere\n")
    absolute.chmod(0o600)
    put(main, "ann.yaml", f"clients: {{ann: {{open_file: {absolute}, services: [ssh]}}}}")
    assert rules.load(main)[0].clients["ann"].open_key == b"a key that is elsewhere"
    main.write_text(MAIN + "clients: {ann: {open_file: ann.key, services: [ssh]}}")
    put(main, "ann.yaml", "")
    assert problems(main)[0].message == "cannot read the key in ann.key: No such file or directory"


def test_only_the_file_that_has_a_secret_must_be_shut_to_others(main: Path) -> None:
    public = put(main, "ann.yaml", f"clients: {{ann: {{key: {KEYS[0]}, services: [ssh]}}}}")
    secret = put(main, "ben.yaml", "clients: {ben: {open: a long key that is secret, services: [ssh]}}")
    for file in (main, public, secret):
        file.chmod(0o644)
    (warning,) = rules.load(main)[1]
    assert warning.file == str(secret)
    assert warning.message == "other users can read or write this file"


def test_there_is_a_bound_on_their_number_and_on_their_size_together(
    main: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(include, "MAX_FILES", 3)
    for number in range(4):
        put(main, f"{number}.yaml", "")
    assert problems(main)[0].message == "there are more than 3 files in rules.d"
    put(main, "3.yaml", "").unlink()
    monkeypatch.setattr(include, "MAX_BYTES", 1 << 20)
    put(main, "0.yaml", "#" * (1 << 19))
    rules.load(main)
    put(main, "1.yaml", "#" * (1 << 19))
    assert problems(main)[0].message == "the files in rules.d are larger than 1 MiB together"


def test_a_hostile_name_of_a_file_is_escaped(main: Path) -> None:
    put(main, "\x1b]0;owned\x07\n.yaml", "services: {web: {port: 1}}")
    (problem,) = problems(main)
    assert str(problem).isprintable()


def test_all_of_them_are_noted_for_whoever_watches(main: Path) -> None:
    put(main, "a.yaml", "")
    noted: list[Path] = []
    rules.load(main, note=noted.append)
    assert noted == [main, main.parent / "rules.d", main.parent / "rules.d/a.yaml"]


def test_check_counts_files(main: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(main, "a.yaml", f"clients: {{ann: {{key: {KEYS[0]}, services: [ssh]}}}}")
    assert cli.main(["check", "--rules", str(main)]) == 0
    assert capsys.readouterr().out == f"{main}: ok (1 service, 1 client, in 2 files)\n"
