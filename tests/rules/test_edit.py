"""Clients in the text of a rules file: what is put there or taken out, and that every other byte stays."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.rules import edit

S = "services:\n  ssh: {port: tcp/22}\n"
NEW = {"key": "K=", "services": ["ssh"]}
ADDED = [
    # what there is, and what is there then
    (S, S + "\nclients:\n  new: {key: K=, services: [ssh]}\n"),
    (S.rstrip("\n"), S + "\nclients:\n  new: {key: K=, services: [ssh]}\n"),
    ("", "clients:\n  new: {key: K=, services: [ssh]}\n"),
    ("# nothing yet\n", "# nothing yet\n\nclients:\n  new: {key: K=, services: [ssh]}\n"),
    (
        "services:\n    ssh: {port: tcp/22}\n",
        "services:\n    ssh: {port: tcp/22}\n\nclients:\n    new: {key: K=, services: [ssh]}\n",
    ),
    (f"clients:\n{S}", f"clients:\n  new: {{key: K=, services: [ssh]}}\n{S}"),
    (f"clients:  # who\n# a: {{}}\n{S}", f"clients:  # who\n  new: {{key: K=, services: [ssh]}}\n# a: {{}}\n{S}"),
    (f"clients: {{}}  # who\n{S}", f"clients:  # who\n  new: {{key: K=, services: [ssh]}}\n{S}"),
    (f"clients: ~\n{S}", f"clients:\n  new: {{key: K=, services: [ssh]}}\n{S}"),
    ("clients:", "clients:\n  new: {key: K=, services: [ssh]}\n"),
    ("clients:\n  a: {open: x}", "clients:\n  a: {open: x}\n  new: {key: K=, services: [ssh]}\n"),
    (
        f"clients:\n  a: {{open: x}}  # his\n\n# the rest\n{S}",
        f"clients:\n  a: {{open: x}}  # his\n  new: {{key: K=, services: [ssh]}}\n\n# the rest\n{S}",
    ),
    (
        "clients:\n    a:\n        open: x  # his\n        # ttl: 8h\n    # b: {}\n",
        (
            "clients:\n    a:\n        open: x  # his\n        # ttl: 8h\n    new:\n        key: K=\n"
            "        services: [ssh]\n    # b: {}\n"
        ),
    ),
    (
        "clients:\n  a:\n    open: x\n\n  b:\n    services:\n    - ssh\n    - web\n",
        (
            "clients:\n  a:\n    open: x\n\n  b:\n    services:\n    - ssh\n    - web\n\n  new:\n"
            "    key: K=\n    services: [ssh]\n"
        ),
    ),
    (
        "clients:\n  a:\n    open: |\n      x\n\n",
        "clients:\n  a:\n    open: |\n      x\n  new:\n    key: K=\n    services: [ssh]\n\n",
    ),
    ("clients:\r\n  a: {open: x}\r\n", "clients:\r\n  a: {open: x}\r\n  new: {key: K=, services: [ssh]}\r\n"),
    ("clients: {a: {open: x}}\n", "clients: {a: {open: x}, new: {key: K=, services: [ssh]}}\n"),
    ("clients: {a: {open: x}, }\n", "clients: {a: {open: x}, new: {key: K=, services: [ssh]}, }\n"),
    (
        "clients: {\n  a: {open: x},  # his\n  b: {open: y}  # hers\n}\n",
        "clients: {\n  a: {open: x},  # his\n  b: {open: y},  # hers\n  new: {key: K=, services: [ssh]}\n}\n",
    ),
    (
        "clients: {\n  a: {open: x},  # his\n}\n",
        "clients: {\n  a: {open: x},  # his\n  new: {key: K=, services: [ssh]},\n}\n",
    ),
    ("---\nclients:\n  ä: {open: 𝄞}\n", "---\nclients:\n  ä: {open: 𝄞}\n  new: {key: K=, services: [ssh]}\n"),
    ("\"clients\":\n  'a': {open: x}\n", "\"clients\":\n  'a': {open: x}\n  new: {key: K=, services: [ssh]}\n"),
]


@pytest.mark.parametrize(("before", "after"), ADDED)
def test_a_client_is_put_behind_the_others_and_looks_like_them(before: str, after: str) -> None:
    assert edit.add(before, "new", NEW) == after


@pytest.mark.parametrize("before", [before for before, _ in ADDED if "{open:" in before or "open:" in before])
def test_taking_it_out_again_gives_every_byte_back(before: str) -> None:
    if not before.endswith("\n"):
        before += "\n"
    back = edit.remove(edit.add(before, "new", NEW), "new")
    assert back.replace("},  # hers", "}  # hers") == before, "but for a comma that may stand at an end"


REMOVED = [
    ("clients:\n  a: {open: x}\n", "clients:\n"),
    ("clients:\n  a: {open: x}  # his\n  b: {open: y}  # hers\n", "clients:\n  b: {open: y}  # hers\n"),
    ("clients:\n  # his\n  a: {open: x}\n  # hers\n  b: {open: y}\n", "clients:\n  # his\n  # hers\n  b: {open: y}\n"),
    ("clients:\n  b: {open: y}\n  a:\n    open: x\n    # ttl: 8h\n# end\n", "clients:\n  b: {open: y}\n# end\n"),
    (
        "clients:\n  b: {open: y}\n\n  a:\n    open: x\n\n  c: {open: z}\n",
        "clients:\n  b: {open: y}\n\n  c: {open: z}\n",
    ),
    ("clients:\n  b: {open: y}\n\n  a:\n    open: x\n", "clients:\n  b: {open: y}\n"),
    ("clients:\n  b: {open: y}\n  a: {open: x}", "clients:\n  b: {open: y}\n"),
    ("clients:\n  a:\n    open: >\n      x\n      y\n  b: {open: y}\n", "clients:\n  b: {open: y}\n"),
    ("clients:\n  a:\n    services:\n    - ssh  # one\n    - web\n  b: {open: y}\n", "clients:\n  b: {open: y}\n"),
    ("clients:\r\n  a: {open: x}\r\n  b: {open: y}\r\n", "clients:\r\n  b: {open: y}\r\n"),
    ("clients: {a: {open: x}}\n", "clients: {}\n"),
    ("clients: {a: {open: x}, b: {open: y}}\n", "clients: {b: {open: y}}\n"),
    ("clients: {b: {open: y}, a: {open: x}}\n", "clients: {b: {open: y}}\n"),
    ("clients: {b: {open: y}, a: {open: x}, }\n", "clients: {b: {open: y}, }\n"),
    ("clients: {a: {open: x}, }\n", "clients: { }\n"),
    ("clients: {\n  a: {open: x},  # his\n  b: {open: y}  # hers\n}\n", "clients: {\n  b: {open: y}  # hers\n}\n"),
    ("clients: {\n  b: {open: y},  # hers\n  a: {open: x}  # his\n}\n", "clients: {\n  b: {open: y},  # hers\n}\n"),
    ("clients: {\n  a: {open: x,\n      ttl: 1h},\n  b: {open: y}}\n", "clients: {\n  b: {open: y}}\n"),
]


@pytest.mark.parametrize(("before", "after"), REMOVED)
def test_a_client_is_taken_out_with_its_lines_and_with_no_others(before: str, after: str) -> None:
    assert edit.remove(before, "a") == after


@pytest.mark.parametrize("text", ["{clients: {a: {open: x}}}\n", "clients: {\n  # nobody\n}\n", "- a\n...\n---\n"])
def test_where_a_client_cannot_be_put_without_harm_it_is_not(text: str) -> None:
    with pytest.raises(edit.CannotEditError):
        edit.add(text, "new", NEW)


@pytest.mark.parametrize(
    "text",
    [
        "{clients: {a: {open: x}}}\n",
        "clients:\n  ? a\n  : {open: x}\n",
        "clients: {b: {open: y},  # hers\n  a: {open: x}}\n",
        "clients: {a: {open: x},\n  # hers\n  b: {open: y}}\n",
        "clients: {b: {open: y}}\n",
        S,
        "",
    ],
)
def test_where_it_cannot_be_taken_out_without_harm_it_is_not(text: str) -> None:
    with pytest.raises(edit.CannotEditError):
        edit.remove(text, "a")


def test_a_value_that_kept_its_empty_lines_is_not_changed_by_what_is_put_behind_it() -> None:
    text = "clients:\n  a:\n    open: |+\n      x\n\n\n"
    with pytest.raises(edit.CannotEditError):
        edit.add(text, "new", NEW)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ssh", "ssh"),
        ("2001:db8::/32", '"2001:db8::/32"'),
        ("x, services: [all]", '"x, services: [all]"'),
        ("null", '"null"'),
        ("", '""'),
        ('a "b" \\', '"a \\"b\\" \\\\"'),
        ("a\nb: c", '"a\\nb: c"'),
        ("# no comment", '"# no comment"'),
        (["ssh", "web"], "[ssh, web]"),
        ({"ipv4": "24", "ipv6": "56"}, "{ipv4: 24, ipv6: 56}"),
        (None, "~"),
    ],
)
def test_values_are_quoted_where_they_would_mean_something_else(value: edit.Value, text: str) -> None:
    assert edit.flow(value) == text


_NAMES = st.from_regex(r"[a-z][a-z0-9_.@-]{0,6}", fullmatch=True)
_VALUES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
_ITS = st.dictionaries(_NAMES, st.one_of(_VALUES, st.lists(_VALUES, max_size=3)), min_size=1, max_size=3)
_CLIENTS = st.dictionaries(_NAMES, _ITS, max_size=4)


@given(
    clients=_CLIENTS,
    fields=st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=3),
    layout=st.sampled_from(["block", "lines", "flow"]),
)
def test_whatever_is_there_it_is_added_and_nothing_else_or_it_is_refused(
    clients: dict[str, dict[str, edit.Value]], fields: dict[str, edit.Value], layout: str
) -> None:
    """In three layouts, with a comment behind each client and one above."""
    if layout == "flow":
        body = " " + edit.flow(clients) + "  # all\n"
    else:
        body = "\n"
        for name, its in clients.items():
            body += f"  # of {name}\n"
            if layout == "lines":
                body += f"  {edit.flow({name: its})[1:-1]}  # {name}\n"
            else:
                body += f"  {edit.flow({name: None}).split(':')[0][1:]}:\n"
                body += "".join(f"    {edit.flow({one: value})[1:-1]}  # {name}\n" for one, value in its.items())
    text = f"services: {{ssh: {{port: tcp/22}}}}\nclients:{body}knock: {{port: udp/1}}\n"
    with contextlib.suppress(edit.CannotEditError):
        new = edit.add(text, "the-new-one", fields)
        if layout != "flow":
            assert [line for line in new.split("\n") if line in text.split("\n")] == text.split("\n")
        assert edit.remove(new, "the-new-one") == text or not clients


# -- one client, as it is given


def test_what_join_prints_is_found_in_all_that_it_prints() -> None:
    key = "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw="
    text = (
        f"profile host: /x\nkey made: /y\n\nOn the server ...\n\n"
        f"  laptop: {{key: {key}, services: [ssh, web]}}\n\nThen, here: z\n"
    )
    assert edit.read_entry(text) == ("laptop", {"key": key, "services": ["ssh", "web"]})


def test_a_client_is_read_as_it_stands_in_a_file() -> None:
    text = "laptop:\n  open: 0123\n  services: [ssh]\n  prefix: {ipv4: 24}\n"
    assert edit.read_entry(text) == ("laptop", {"open": "0123", "services": ["ssh"], "prefix": {"ipv4": "24"}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not look like"),
        ("laptop", "does not look like"),
        ("laptop: x", "does not look like"),
        ("[a: {key: x}]", "does not look like"),
        ("laptop: {key: x", "does not look like"),
        ("a: {key: x}\nb: {key: y}", "several clients"),
        ("? [a]\n: {key: x}", "does not look like"),
        ("a: {key: x, key: y}", "a field stands twice"),
        ("a: {fwknop: {key: x, key: y}}", "a field stands twice"),
        ("a: &x {key: *x}", "does not look like"),
        ("a: !!python/object:os.system {key: x}", "does not look like"),
        ("\x00\udcff", "does not look like"),
    ],
)
def test_what_is_no_client_is_refused_and_not_repeated(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as failure:
        edit.read_entry(text)
    assert "x" not in str(failure.value).replace("does not look like", "")
