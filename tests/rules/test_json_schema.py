"""The JSON Schema of rules.yaml and the loader say the same, as far as a schema can.

What the loader takes, the schema takes: an editor never marks what is right. And for each field that the one knows, the
other does.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gatekeeper import cli, older, rules
from gatekeeper.problems import RulesError
from gatekeeper.rules import values
from gatekeeper.rules.document import Document, Entry
from tests.pages.blocks import PAGES, Block, blocks_of

ROOT = Path(__file__).parents[2]
TEXT = resources.files("gatekeeper.rules").joinpath("rules.schema.json").read_text()
SCHEMA: dict[str, Any] = json.loads(TEXT)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLES = sorted((ROOT / "rules").glob("*.yaml"))
IN_DOCUMENTS = [block for page in PAGES for block in blocks_of(page) if block.language == "yaml"]
FILES = {"file.base64": b"aGVsbG8gd29ybGQhIQ==", "file.steps": b"7000,8000,9000"}
K = "q5NWdfwdPOsoyP2YF2bLgWXeX8Xe3VBY8I0BvxDg8Rk="
K2 = "IcSWmkAr3Qz6cmHu/Gjnd62tB4FaWHKRW5Nl9gFOn1o="

# -- YAML as editors see it (YAML 1.2, core schema)

_CORE = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 16)),
    (
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
        lambda _: 0.5,
    ),
)


def seen(text: str) -> Any:
    """Read YAML as an editor does, but that any number with a point is 0.5: which one it is does not matter here."""
    node = yaml.compose(text, Loader=yaml.BaseLoader)
    return None if node is None else _value(node)


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(one) for one in node.value]
    assert isinstance(node, yaml.ScalarNode)
    if node.style is not None:
        return str(node.value)
    return next((make(node.value) for pattern, make in _CORE if pattern.fullmatch(node.value)), node.value)


def is_loaded(text: str) -> bool:
    def read_key(name: str) -> bytes:
        return FILES.get(name, f"the content of {name}".encode())

    try:
        rules.parse(text.encode(), file="rules.yaml", read_key=read_key)
    except RulesError:
        return False
    return True


# -- where it lies


def test_it_is_a_schema_and_the_same_in_both_places() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert (ROOT / "rules/rules.schema.json").read_text() == TEXT


def test_check_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_each_example_names_it_and_is_as_it_says(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=rules.schema.json\n")
    VALIDATOR.validate(seen(text))


@pytest.mark.parametrize("block", IN_DOCUMENTS, ids=str)
def test_what_the_documents_show_is_as_it_says(block: Block) -> None:
    """Keys that they shorten to ``D6hW...sM04=`` are no keys of clients that knock sealed."""
    VALIDATOR.validate(seen(block.text))


# -- both know the same fields and words

_KEYS = {
    "": {},
    "key": {"key": K},
    "open": {"open": "0123456789abcdef0"},
    "sequence": {"sequence": "[7000, 8000, 9000]"},
    "fwknop": {"fwknop": "{key: a-long-key-of-chance, hmac_key: another-long-key}"},
}
"""What a client can have, by its kind."""
_KINDS = {
    "open": {"open", "close", "open_file", "close_file"},
    "sequence": {"sequence", "close_sequence", "within", "flags"},
    "fwknop": {"for_others"},
}
"""Fields that are those of a kind."""


def _objects(schema: dict[str, Any], place: str = "the file") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each part that has fields, by what the loader calls it."""
    if "$ref" in schema:
        schema = {**SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    if "properties" in schema:
        yield place, schema
        for name, its in schema["properties"].items():
            yield from _objects(its, name)
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from _objects(schema["additionalProperties"], place.removesuffix("s"))
    elif "items" in schema:
        yield from _objects(schema["items"], f"one of {place}")


OBJECTS = dict(_objects(SCHEMA))
VISIT = f"""
services: {{a: {{}}}}
clients: {{b: {{prefix: {{}}, fwknop: {{}}}}}}
server: {{old_keys: [{{}}]}}
{"".join(f"{name}: {{}}" + chr(10) for name in OBJECTS if name in SCHEMA["properties"] and name != "server")}"""


def test_the_loader_and_the_schema_know_the_same_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds a field to the one is told here of the other."""
    known: dict[str, set[str]] = {}
    fields = Document.fields

    def noting(self: Document, node: yaml.Node | None, what: str, names: tuple[str, ...]) -> dict[str, Entry]:
        known[re.sub(r"( of client)? \".*\"|( of client) \".*\"", "", what)] = set(names)
        return fields(self, node, what, names)

    monkeypatch.setattr(Document, "fields", noting)
    assert not is_loaded(VISIT)
    assert known == {place: _current(schema) for place, schema in OBJECTS.items()}


def _current(schema: dict[str, Any]) -> set[str]:
    return {name for name, its in schema["properties"].items() if not its.get("deprecated")}


def test_older_names_are_marked_as_such_where_the_newer_one_may_stand() -> None:
    for place, schema in OBJECTS.items():
        marked = set(schema["properties"]) - _current(schema)
        assert marked == {old for old, new in older.NAMES.items() if new in schema["properties"]}, place


def _words(schema: dict[str, Any]) -> set[str]:
    """Return the words that a field may be, those in a list of it too."""
    if "$ref" in schema:
        return _words(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    found = {word for word in schema.get("enum", ()) if isinstance(word, str)}
    return found.union(*(_words(one) for one in schema.get("anyOf", ())))


def test_they_know_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    known: set[tuple[str, frozenset[str]]] = set()
    word = values.word

    def noting(doc: Document, field: Entry, words: tuple[str, ...]) -> str | None:
        known.add((field.name, frozenset(words)))
        return word(doc, field, words)

    monkeypatch.setattr(values, "word", noting)
    expected = {
        (name, frozenset(words))
        for _, schema in OBJECTS.items()
        for name, its in schema["properties"].items()
        if (words := _words(its))
    }
    for place, schema in OBJECTS.items():
        for name, its in schema["properties"].items():
            if words := _words(its):
                is_loaded(_with(place, name, next(iter(words))))
    assert known == expected


def _with(place: str, name: str, value: str, kind: str = "key") -> str:
    """Return rules with one field besides what must be there, or in its place."""
    its = {name: value}
    service = {"port": "tcp/22", "address": "[192.0.2.1]"}
    client = {"services": "[ssh]", **_KEYS[kind]}
    sections = {}
    if place == "service":
        service |= its
    elif place == "client":
        client |= its
    elif place == "prefix":
        client["prefix"] = _flow(its)
    elif place == "fwknop":
        keys = {"key": "a-long-key-of-chance", "hmac_key": "another-long-key"}
        client = {"services": "[ssh]", "fwknop": _flow({one: keys[one] for one in keys if _other(one, name)} | its)}
    elif place == "one of old_keys":
        sections["server"] = f"{{old_keys: [{_flow({'key_file': 'x', 'until': '2027-01-31'} | its)}]}}"
    elif place == "the file":
        sections |= its
    else:
        sections[place] = _flow(its)
    sections = {"services": _flow({"ssh": _flow(service)}), "clients": _flow({"c": _flow(client)})} | sections
    return "\n".join(f"{one}: {text}" for one, text in sections.items() if one != "nothing")


def _other(one: str, name: str) -> bool:
    """Whether a key of fwknop's can stand beside another field: not if that is the same key, in whatever form."""
    return not re.fullmatch(f"{one}(_base64)?(_file)?", name)


def _flow(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields.items() if name != "nothing") + "}"


def test_every_field_is_described() -> None:
    for place, schema in OBJECTS.items():
        for name, its in schema["properties"].items():
            assert its.get("description"), f"{name} in {place}"


def test_what_it_calls_a_default_changes_nothing() -> None:
    """The value may stand in the file; it means what its absence does."""
    for place, schema in OBJECTS.items():
        for name, its in schema["properties"].items():
            kind = "sequence" if name in _KINDS["sequence"] else "key"
            if "default" not in its:
                continue
            value = json.dumps(its["default"])
            without, _ = rules.parse(_with(place, "nothing", "here", kind).encode(), file="x", read_key=str.encode)
            found, _ = rules.parse(_with(place, name, value, kind).encode(), file="x", read_key=str.encode)
            assert found == without, f"{name} in {place}"


# -- both refuse what is wrong

S = "services: {ssh: {port: tcp/22}}\n"
BAD = [
    "services: [ssh]",
    "services: {ssh: {port: 22}}",
    "services: {ssh: {port: []}}",
    "services: {ssh: {}}",
    "services: {ssh: ~}",
    "services: {ssh: {port: tcp/0}}",
    "services: {ssh: {port: tcp/65536}}",
    "services: {ssh: {port: tcp/22, prot: x}}",
    "services: {ssh: {port: tcp/22, ttl: 60}}",
    "services: {ssh: {port: tcp/22, ttl: 1 hour}}",
    "services: {ssh: {port: tcp/22, established: maybe}}",
    "services: {ssh: {port: tcp/22, guard: output}}",
    "services: {ssh: {port: tcp/22, when: always}}",
    "services: {ssh: {port: tcp/22, address: localhost}}",
    "services: {ssh: {port: tcp/22, interface: a name that is too long}}",
    "services: {ssh: {port: tcp/22, never: 192.0.2.1}}",
    "services: {a-name-that-is-too-long: {port: tcp/22}}",
    S + "servces: {}",
    S + "mode: off",
    S + "watch: yes",
    S + "metrics: localhost:16220",
    S + "metrics: 80",
    S + "metrics: [16220]",
    S + "workers: 17",
    S + "trail: all",
    S + "trail: {keep: 90}",
    S + "trail: {size: 16 megabytes}",
    S + "trail: {size: 99999}",
    S + "workers: many",
    S + "include: [a, b]",
    S + "knock: {port: tcp/62201}",
    S + "knock: {port: [" + ", ".join(f"udp/{number}" for number in range(1, 18)) + "]}",
    S + "knock: {via: smoke}",
    S + "knock: {skew: 2}",
    S + "firewall: {queue: 65489}",
    S + "firewall: {mark: 0}",
    S + "firewall: {backend: nftables}",
    S + "server: {old_keys: [{key_file: x}]}",
    S + "server: [x]",
    S + "clients: [laptop]",
    S + "clients: {laptop: ~}",
    S + "clients: {laptop: {services: [ssh]}}",
    S + f"clients: {{laptop: {{key: {K}}}}}",
    S + f"clients: {{laptop: {{key: {K}, services: []}}}}",
    S + f"clients: {{laptop: {{key: {K}, services: ssh}}}}",
    S + f"clients: {{laptop: {{key: {K[1:]}, services: [ssh]}}}}",
    S + f"clients: {{laptop: {{key: {K}, open: a-plain-key-too, services: [ssh]}}}}",
    S + f"clients: {{laptop: {{key: {K}, services: [ssh], prefix: {{ipv4: 8}}}}}}",
    S + f"clients: {{laptop: {{key: {K}, services: [ssh], prefix: ~}}}}",
    S + f"clients: {{laptop: {{key: {K}, services: [ssh], from: []}}}}",
    S + f"clients: {{laptop: {{key: {K}, services: [ssh], not_after: tomorrow}}}}",
    S + f"clients: {{laptop: {{key: {K}, services: [ssh], within: 5s}}}}",
    S + f"clients: {{'a name': {{key: {K}, services: [ssh]}}}}",
    S + "clients: {trial: {close: 0123456789abcdef0, services: [ssh]}}",
    S + "clients: {trial: {open: 0123456789abcdef0, open_file: x, services: [ssh]}}",
    S + "clients: {trial: {open: 0123456789abcdef0, services: [ssh], bind: required}}",
    S + "clients: {cam: {sequence: [7000], services: [ssh]}}",
    S + "clients: {cam: {sequence: [7000, 65536], services: [ssh]}}",
    S + "clients: {cam: {flags: syn, services: [ssh]}}",
    S + "clients: {old: {fwknop: {key: a-long-key}, services: [ssh]}}",
    S + "clients: {old: {fwknop: {hmac_key: a-long-key}, services: [ssh]}}",
    S + "clients: {old: {fwknop: {key: a-long-key, hmac_key: b, hmac: none}, services: [ssh]}}",
    S + "clients: {old: {fwknop: {key: a-long-key, hmac_key: b, hmac: crc32}, services: [ssh]}}",
    S + "clients: {old: {fwknop: {key: a-long-key, key_file: x, hmac_key: b}, services: [ssh]}}",
]


@pytest.mark.parametrize("text", BAD)
def test_both_refuse_what_is_wrong(text: str) -> None:
    assert not is_loaded(text)
    assert not VALIDATOR.is_valid(seen(text))


# -- what the loader takes, the schema takes

_WORDS = f"""
~ null true false True yes 0 1 7 16 17 22 022 0x10 1e3 1.5 24 56 6220 '7' "0x20" auto 30s 1h30m forever 2w 0s
guard observe silent reset keep cut input forward published udp icmp syn tcp/22 TCP/023 udp/1-65535 udp/443
192.0.2.1 192.0.2.0/24 192.0.2.0/255.255.255.0 '2001:db8::/32' '::1' eth0 eth+ 10.5 ssh ann@home required optional
sha512 none ctr legacy 2027-01-31 2027-01-31T18:00Z 20270131T1800Z 2027-W05-1T00:00+01:00 7000 7000/udp 7000:udp
16MB 500000 0.5MB tcp/7000 '7000:udp,8000,9000' '!ack' fin file.key file.base64 file.steps {K2} aGVsbG8gd29ybGQhIQ==
""".split()
_PHRASES = ["Mon-Fri 08:00-18:00 UTC", "22:00-06:00 Europe/Berlin", "sat,SUN UTC", "'  Mon  UTC '"]
_PHRASES += ["'a key, with: all'", "'1 2 3'", "'syn, !ACK'", "[7000, 8000/udp, udp/9000]", "[udp, syn]", f"[{K2}]"]
_PHRASES += ["[192.0.2.0/24]", "[ssh]", "[]", "{}"]
_SCALARS = st.one_of(
    st.sampled_from([*_WORDS, *_PHRASES]),
    st.from_regex(r"[A-Za-z0-9./+=@-]{1,20}", fullmatch=True),
)
_LISTS = st.lists(_SCALARS, max_size=4).map(lambda items: f"[{', '.join(items)}]")
_FIELDS = [(place, name) for place, schema in OBJECTS.items() for name in schema["properties"]]


def _takes_too(text: str) -> bool:
    """Whether the loader takes a text; the schema must then take it as well."""
    with contextlib.suppress(yaml.YAMLError):
        document = seen(text)
        if is_loaded(text):
            VALIDATOR.validate(document)
            return True
    return False


@pytest.mark.parametrize(("place", "name"), _FIELDS)
def test_what_the_loader_takes_in_a_field_the_schema_takes(place: str, name: str) -> None:
    """Words of all kinds in each field; some must do."""
    kinds = ["", "key"] if place == "client" else ["key"]
    if place == "client":
        kinds += [kind for kind, its in _KINDS.items() if name in its]
    texts = [_with(place, name, value, kind) for kind in kinds for value in (*_WORDS, *_PHRASES)]
    taken = [_takes_too(text) for text in texts]
    is_for_this_server_alone = place == "one of old_keys" or name in {"key_file", "old_keys"}
    assert any(taken) or name in {"include", "services", "clients", "prefix", "fwknop"} or is_for_this_server_alone


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(field=st.sampled_from(_FIELDS), value=st.one_of(_SCALARS, _LISTS), kind=st.sampled_from(sorted(_KEYS)))
def test_what_the_loader_takes_the_schema_takes(field: tuple[str, str], value: str, kind: str) -> None:
    event("taken" if _takes_too(_with(*field, value, kind)) else "refused")
