"""Sealed clients, the server's keys and how knocks arrive: every form that rules.yaml takes, and every mistake."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from gatekeeper import rules
from gatekeeper.problems import Problem, RulesError
from gatekeeper.sealed import keys
from gatekeeper.settings import Client, Rules, ServerKey

SERVER, OLD, OLDER = (bytes([number]) * 32 for number in (1, 2, 3))
FILES = {
    "server.key": keys.show(SERVER) + "\n",
    "old.key": keys.show(OLD),
    "older.key": keys.show(OLDER) + "\r\n",
    "rubbish.key": "correct horse battery staple",
    "binary.key": "\xff" * 44,
}


def public(number: int) -> bytes:
    """Return some public key, a different one for each number."""
    return keys.public_of(bytes([100 + number]) * 32)


A, B, C = (keys.show(public(number)) for number in range(3))
P = 2**255 - 19


def raw(number: int) -> str:
    """Write a number as a public key."""
    return keys.show(number.to_bytes(32, "little"))


def parse(text: str) -> tuple[Rules, list[Problem]]:
    return rules.parse(text.encode(), file="rules.yaml", read_key=_read_key)


def _read_key(name: str) -> bytes:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory", name)
    return FILES[name].removesuffix("\n").removesuffix("\r").encode("latin-1")


S = "services: {ssh: {port: tcp/22, max_ttl: 12h}, web: {port: tcp/443}}\n"
GOOD = f"""\
{S}
knock: {{port: udp/4000, skew: 1m30s, ack: true}}
server:
  key_file: server.key
  old_keys:
    - {{key_file: old.key, until: 2027-01-31}}
    - key_file: older.key
      until: 2026-12-24T18:00+01:00
clients:
  laptop: {{key: {A}, services: [ssh, web]}}
  joe@phone:
    key: "{B}"
    also_keys: [{C}, {keys.show(public(3))}]
    services: [ssh]
    ttl: 12h
    bind: required
    for_others: true
    from: [192.0.2.7, 198.51.100.0/24, 2001:db8::7, "2001:db8:1::/48", 203.0.113.9/24]
    not_after: 2027-01-31
  gate.1: {{key: {keys.show(public(4))}, services: [web], ttl: forever, bind: optional, for_others: false}}
  old_way: {{open: 0123456789abcdef0, services: [web], ttl: 5m, from: [192.0.2.0/24], not_after: 2027-01-31T18:00Z}}
"""


def test_a_good_file_is_read_as_it_is_meant() -> None:
    found, warnings = parse(GOOD)
    assert warnings == []
    assert (found.knock_ports, found.skew, found.ack) == ((4000,), 90, True)
    assert found.server_keys == (
        ServerKey(SERVER),
        ServerKey(OLD, datetime(2027, 2, 1, tzinfo=UTC).timestamp()),
        ServerKey(OLDER, datetime(2026, 12, 24, 17, tzinfo=UTC).timestamp()),
    )
    assert found.clients == {
        "laptop": Client(name="laptop", services=("ssh", "web"), keys=(public(0),)),
        "joe@phone": Client(
            name="joe@phone",
            services=("ssh",),
            keys=(public(1), public(2), public(3)),
            ttl=12 * 3600,
            must_bind=True,
            for_others=True,
            sources=tuple(
                map(
                    ip_network,
                    ["192.0.2.7", "198.51.100.0/24", "2001:db8::7", "2001:db8:1::/48", "203.0.113.0/24"],
                )
            ),
            not_after=datetime(2027, 2, 1, tzinfo=UTC).timestamp(),
        ),
        "gate.1": Client(name="gate.1", services=("web",), keys=(public(4),), ttl=None),
        "old_way": Client(
            name="old_way",
            services=("web",),
            open_key=b"0123456789abcdef0",
            ttl=300,
            sources=(ip_network("192.0.2.0/24"),),
            not_after=datetime(2027, 1, 31, 18, tzinfo=UTC).timestamp(),
        ),
    }


def test_a_client_needs_a_key_and_services_only() -> None:
    found, warnings = parse(f"{S}clients: {{a: {{key: {A}, services: [ssh]}}}}")
    assert warnings == []
    assert found.clients["a"] == Client(name="a", services=("ssh",), keys=(public(0),))
    assert (found.skew, found.ack, found.server_keys) == (120, False, ())


def test_no_key_is_in_what_a_client_or_a_server_key_shows_of_itself() -> None:
    found, _ = parse(GOOD)
    assert "0123456789abcdef0" not in repr(found)
    for private in (SERVER, OLD, OLDER):
        assert repr(private) not in repr(found)


def test_old_keys_may_stand_without_a_current_one() -> None:
    """Then the current one is in the state directory."""
    found, _ = parse(f"{S}server: {{old_keys: [{{key_file: old.key, until: 2027-01-31}}]}}\n")
    assert [key.private for key in found.server_keys] == [OLD]
    assert all(key.until is not None for key in found.server_keys)


def test_a_date_as_far_as_the_calendar_goes_is_good() -> None:
    found, _ = parse(f"{S}clients: {{a: {{key: {A}, services: [ssh], not_after: 9999-12-31}}}}")
    last = found.clients["a"].not_after
    assert last is not None
    assert datetime.fromtimestamp(last, UTC).year == 9998, "what is shown in another time zone has a year 9999 at most"


def client(fields: str, *, key: str = A) -> str:
    return f"clients: {{a: {{key: {key}, services: [ssh], {fields}}}}}"


BAD = [
    # key
    ("clients: {a: {key: ^nonsense, services: [ssh]}}", 'key of client "a": a key is 44 char', "gatekeeper join"),
    (f"clients: {{a: {{key: ^{A[:-1]}, services: [ssh]}}}}", "base64, not 43", "wg pubkey"),
    (f"clients: {{a: {{key: ^{A}{B}, services: [ssh]}}}}", "base64, not 88", "wg pubkey"),
    (f"clients: {{a: {{key: ^{'.' * 44}, services: [ssh]}}}}", 'key of client "a": this is not base64', "wg pubkey"),
    (f"clients: {{a: {{key: ^{'ü' * 44}, services: [ssh]}}}}", 'key of client "a": this is not base64', "wg pubkey"),
    (f"clients: {{a: {{key: ^{'A' * 42}B=, services: [ssh]}}}}", "is not", "wg pubkey"),
    (f"clients: {{a: {{key: ^{raw(0)}, services: [ssh]}}}}", "of low order: it would keep no secret", "wg pubkey"),
    (f"clients: {{a: {{key: ^{raw(1)}, services: [ssh]}}}}", "of low order", None),
    (f"clients: {{a: {{key: ^{raw(P - 1)}, services: [ssh]}}}}", "of low order", None),
    (f"clients: {{a: {{key: ^{raw(P + 9)}, services: [ssh]}}}}", "not the canonical form", None),
    (f"clients: {{a: {{key: ^{raw(9 + 2**255)}, services: [ssh]}}}}", "not the canonical form", None),
    (f"clients: {{a: {{key: ^[{A}], services: [ssh]}}}}", "a public key must be a word, not a list", None),
    ("clients: {a: {key: ^, services: [ssh]}}", "a public key must be a word, not nothing", None),
    ("clients: {^a: {services: [ssh], ttl: 1h}}", 'client "a" has no key', "gatekeeper keygen"),
    (f"clients: {{^a: {{also_keys: [{A}], services: [ssh]}}}}", 'client "a" has no key', "add key:"),
    (f"clients: {{^a: {{key: {A}}}}}", 'client "a" has no services', "add services"),
    (f"clients: {{a: {{key: {A}, services: [^shh]}}}}", 'there is no service "shh"', 'did you mean "ssh"?'),
    (f"clients: {{a: {{^kye: {B}, key: {A}, services: [ssh]}}}}", 'unknown key "kye"', 'did you mean "key"?'),
    # keys that stand twice
    (client(f"also_keys: [^{A}]"), 'one of also_keys of client "a" is key of client "a" too', "every device"),
    (
        client(f"also_keys: [{B}, ^{B}]"),
        'one of also_keys of client "a" is one of also_keys of client "a" too',
        "gatekeeper join",
    ),
    (
        f"clients:\n  a: {{key: {A}, services: [ssh]}}\n  b: {{key: ^{A}, services: [web]}}",
        'key of client "b" is key of client "a" too',
        "a key of its own",
    ),
    (
        f"server: {{key_file: server.key}}\n{client('', key='^' + keys.show(keys.public_of(SERVER)))}",
        'key of client "a" is a key of the server too',
        "a key of its own",
    ),
    (
        "server: {old_keys: [{key_file: old.key, until: 2027-01-31}]}\n"
        + client(f"also_keys: [^{keys.show(keys.public_of(OLD))}]"),
        'one of also_keys of client "a" is a key of the server too',
        None,
    ),
    (client(f"also_keys: ^{B}"), 'also_keys of client "a" must be a list', f"[{B}]"),
    (client("also_keys: [^nonsense]"), 'one of also_keys of client "a": a key is 44', "wg pubkey"),
    (client("also_keys: [^{x: y}]"), "a public key must be a word, not a mapping", None),
    # plain and sealed
    (
        f"clients: {{a: {{open: 0123456789abcdef0, ^key: {A}, services: [ssh]}}}}",
        'client "a" has a plain key, and key',
        "two clients",
    ),
    (
        "clients: {a: {open_file: f, ^bind: required, services: [ssh]}}",
        'client "a" has a plain key, and bind',
        "two clients",
    ),
    (f"clients: {{a: {{^key: {A}, close: x, services: [ssh]}}}}", 'client "a" has a plain key, and key', None),
    (
        "clients: {a: {open: 0123456789abcdef0, ^for_others: true, services: [ssh]}}",
        'client "a" has a plain key, and for_others',
        None,
    ),
    # ttl
    (client("ttl: ^13h"), 'ttl is longer than max_ttl of "ssh" (12h)', "make ttl shorter"),
    (client("ttl: ^forever"), 'ttl is longer than max_ttl of "ssh" (12h)', "max_ttl longer"),
    (client("ttl: ^90"), '"90" is not a duration', "did you mean 90s?"),
    (client("ttl: ^0s"), "means nothing", None),
    (client("ttl: ^[1h]"), "ttl must be a word, not a list", None),
    # bind, for_others
    (client("bind: ^yes"), 'bind cannot be "yes"', "known are: optional, required"),
    (client("bind: ^require"), 'bind cannot be "require"', 'did you mean "required"?'),
    (client("for_others: ^yes"), 'for_others cannot be "yes"', "known are: true, false"),
    (client("for_others: ^[true]"), "for_others must be a word, not a list", None),
    # from
    (client("from: ^[]"), "from is empty: no knock could come from there", "take the line out"),
    (client("from: ^192.0.2.7"), "from must be a list", "[192.0.2.7]"),
    (client("from: [^office]"), '"office" is neither an address nor a network', "such as 192.0.2.7"),
    (client("from: [192.0.2.7, ^192.0.2.0/33]"), '"192.0.2.0/33" is neither', "2001:db8::/64"),
    (client("from: [^192.0.2.256]"), '"192.0.2.256" is neither', None),
    (client("from: [^3221225991]"), '"3221225991" is neither', None),
    (client("from: [^[192.0.2.7]]"), "a network must be a word, not a list", None),
    # not_after
    (client("not_after: ^tomorrow"), 'not_after: "tomorrow" is not a date', "write 2027-01-31"),
    (client("not_after: ^2027-02-30"), '"2027-02-30" is not a date', "2027-01-31T18:00Z"),
    (client("not_after: ^2027-01-31T18:00"), "does not say in which time zone", "2027-01-31T18:00Z"),
    (client("not_after: ^20270131"), "does not say in which time zone", "write 2027-01-31"),
    (client("not_after: ^31.1.2027"), '"31.1.2027" is not a date', None),
    (client("not_after: ^[2027-01-31]"), "not_after must be a word, not a list", None),
    # knock
    ("knock: {skew: ^121s}", "skew is at most 120s", "take the line out"),
    ("knock: {skew: ^3m}", "skew is at most 120s", None),
    ("knock: {skew: ^forever}", "skew is at most 120s", None),
    ("knock: {skew: ^60}", 'skew: "60" is not a duration', "did you mean 60s?"),
    ("knock: {ack: ^on}", 'ack cannot be "on"', "true, false"),
    ("knock: {^akc: true}", 'unknown key "akc" in knock', 'did you mean "ack"?'),
    # server
    ("server: {key_file: ^lost.key}", "cannot read the key in lost.key: No such file", None),
    ("server: {key_file: ^rubbish.key}", "cannot be used: a key is 44 characters of base64, not 28", "wg genkey"),
    ("server: {key_file: ^binary.key}", "the key in this file cannot be used: this is not base64", "keygen"),
    ("server: {key_file: ^[server.key]}", "key_file must be a word, not a list", None),
    ("server: {^key: server.key}", 'unknown key "key" in server', "known are: key_file, old_keys"),
    ("server: ^server.key", "server must be a mapping", None),
    ("server: {old_keys: ^old.key}", "old_keys must be a list", "[old.key]"),
    ("server: {old_keys: [^old.key]}", "one of old_keys must be a mapping", None),
    ("server: {old_keys: [^{}]}", "one of old_keys has no key_file", "until: 2027-01-31}"),
    ("server: {old_keys: [^{key_file: old.key}]}", "one of old_keys has no until", "write {key_file: FILE"),
    ("server: {old_keys: [^{until: 2027-01-31}]}", "one of old_keys has no key_file", None),
    ("server: {old_keys: [{key_file: old.key, until: ^soon}]}", 'until: "soon" is not a date', "write 2027"),
    ("server: {old_keys: [{key_file: old.key, until: ^2027-01-31T00:00}]}", "in which time zone", None),
    ("server: {old_keys: [{key_file: ^lost.key, until: 2027-01-31}]}", "cannot read the key in lost.key", None),
    (
        "^server: {key_file: old.key, old_keys: [{key_file: old.key, until: 2027-01-31}]}",
        "a key of the server stands twice",
        None,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "hint"), BAD, ids=[f"{i}-{row[1]}" for i, row in enumerate(BAD)])
def test_a_mistake_is_told_at_its_place_with_a_hint(text: str, message: str, hint: str | None) -> None:
    """The place is where ^ stands."""
    before, _, after = (S + text).partition("^")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    with pytest.raises(RulesError) as failure:
        parse(before + after)
    found = [problem for problem in failure.value.problems if not problem.is_warning]
    assert len(found) == 1, found
    assert str(found[0]).startswith(f"rules.yaml:{line}:{column}: "), found
    assert message in found[0].message
    if hint is not None:
        assert found[0].hint is not None
        assert hint in found[0].hint


def test_a_rejected_key_is_not_repeated() -> None:
    """It may be a private key that somebody put into the wrong place."""
    secret = keys.show(keys.generate())[:-2] + "*="
    with pytest.raises(RulesError) as failure:
        parse(f"{S}clients: {{a: {{key: {secret}, services: [ssh]}}}}")
    assert secret[:20] not in str(failure.value)
    with pytest.raises(RulesError) as failure:
        parse(f"{S}server: {{key_file: rubbish.key}}")
    assert "correct" not in str(failure.value)


# -- files


def in_files(folder: Path, text: str) -> Path:
    """Write a rules file and the server's key beside it."""
    for name, content in {"rules.yaml": S + text, "server.key": FILES["server.key"]}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    return folder / "rules.yaml"


def test_the_servers_key_is_read_beside_the_rules_file(tmp_path: Path) -> None:
    file = in_files(tmp_path, f"server: {{key_file: server.key}}\nclients: {{a: {{key: {A}, services: [ssh]}}}}")
    found, warnings = rules.load(file)
    assert found.server_keys == (ServerKey(SERVER),)
    assert warnings == []


def test_a_server_key_that_others_can_read_is_refused_and_public_keys_are_not(tmp_path: Path) -> None:
    file = in_files(tmp_path, f"server: {{key_file: server.key}}\nclients: {{a: {{key: {A}, services: [ssh]}}}}")
    file.chmod(0o644)
    assert rules.load(file)[1] == []
    for mode in (0o644, 0o640, 0o602):
        (tmp_path / "server.key").chmod(mode)
        with pytest.raises(RulesError, match="other users can read or write it"):
            rules.load(file)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lost.key", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "it is not a regular file"),
        ("/dev/zero", "it is not a regular file"),
        ("server.key/x", "Not a directory"),
    ],
)
def test_a_key_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    file = in_files(tmp_path, f"server: {{key_file: {name}}}\n")
    with pytest.raises(RulesError) as failure:
        rules.load(file)
    (problem,) = [problem for problem in failure.value.problems if not problem.is_warning]
    assert (problem.line, problem.column) == (2, 20)
    assert problem.message == f"cannot read the key in {name}: {words}"


def test_ten_thousand_clients_load(record_property: Callable[[str, object], None]) -> None:
    lines = []
    for number in range(10_000):
        key = bytearray(hashlib.blake2s(number.to_bytes(4)).digest())
        key[31] &= 0x7F
        lines.append(f"  client{number}: {{key: {keys.show(bytes(key))}, services: [ssh, web]}}\n")
    begin = time.perf_counter()
    found, warnings = parse(f"{S}clients:\n{''.join(lines)}")
    record_property("seconds", round(time.perf_counter() - begin, 2))
    assert (len(found.clients), warnings) == (10_000, [])
