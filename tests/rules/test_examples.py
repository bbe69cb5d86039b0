"""What stands in comments of rules/*.yaml as an example can be used as it stands there.

A comment is an example if it begins, in the first column, with one word and a colon; the lines behind it that are
indented, or empty, belong to it. Without its ``# `` it is a section of the file, in place of the one that is there;
or, if no section is called so, an entry of the section above it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatekeeper import rules
from tests.rules.test_json_schema import EXAMPLES, SCHEMA, VALIDATOR, is_loaded, seen

EXPECTED = {"office.yaml": ["mode"], "rules.yaml": ["services", "clients", "firewall"], "ssh.yaml": ["laptop"]}
_BEGINS = re.compile(r"# (?!yaml-language-server:)([a-z][a-z_-]*):( |$)")
_SECTION = re.compile(r"([a-z]+):")
_GOES_ON = re.compile(r"#($|  )")


def examples(text: str) -> dict[str, str]:
    """Find the examples of a file, without what makes them comments, by their first word."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if (begins := _BEGINS.match(line)) is not None:
            name = begins[1]
            found[name] = line[2:] + "\n"
        elif name and _GOES_ON.match(line):
            found[name] += line[2:] + "\n"
        else:
            name = ""
    return found


def with_examples(text: str) -> str:
    """Write a file with its examples in force."""
    sections: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if (begins := _SECTION.match(line)) is not None:
            name = begins[1]
            sections[name] = ""
        entry = _BEGINS.match(line)
        is_entry = entry is not None and entry[1] not in SCHEMA["properties"]
        if name:
            sections[name] += (line.replace("# ", "  ", 1) if is_entry else line) + "\n"
    sections |= {one: example for one, example in examples(text).items() if one in SCHEMA["properties"]}
    return "".join(sections.values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_what_is_commented_out_is_taken_by_the_loader_and_as_the_schema_says(path: Path) -> None:
    text = path.read_text()
    assert list(examples(text)) == EXPECTED.get(path.name, [])
    whole = with_examples(text)
    assert is_loaded(whole), whole
    VALIDATOR.validate(seen(whole))
    found, _ = rules.parse(whole.encode(), file=path.name, read_key=str.encode)
    assert found.services


def test_an_example_is_in_force_when_its_comment_is_gone() -> None:
    text = """\
# What it is: prose.
knock: {port: udp/1}
services:
  # prose: of a service
  ssh: {port: tcp/22}
clients:  # such as
# a: {}

# knock:  # rarely
#   ack: true
# So be it.
"""
    assert examples(text) == {"a": "a: {}\n", "knock": "knock:  # rarely\n  ack: true\n"}
    assert seen(with_examples(text)) == {
        "knock": {"ack": True},
        "services": {"ssh": {"port": "tcp/22"}},
        "clients": {"a": {}},
    }


@pytest.mark.parametrize("wrong", ["# mode: obseve\n", "# firewall:\n#   quue: 7\n"])
def test_an_example_that_is_wrong_is_found(wrong: str) -> None:
    assert not is_loaded(with_examples(f"services: {{ssh: {{port: tcp/22}}}}\nclients: {{}}\n{wrong}"))
