"""Clients of fwknop's in rules.yaml: every form of their keys, and every mistake."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gatekeeper import rules
from gatekeeper.problems import Problem, RulesError
from gatekeeper.settings import Client, FwknopKeys, Rules

KEY, HMAC_KEY = bytes(range(32)), bytes(range(64, 128))
K, H = (base64.b64encode(one).decode() for one in (KEY, HMAC_KEY))
PASSPHRASE, OTHER = "a passphrase that is long", "and another one like it"
FILES = {
    "key": f"{PASSPHRASE}\n",
    "hmac": f"{OTHER}\r\n",
    "key64": f"{K}\n",
    "hmac64": f" {H} \n",
    "two-lines": "a passphrase of\ntwo lines",
    "empty": "",
    "long": "x" * 600,
}
S = "services: {ssh: {port: tcp/22}}\n"


def parse(text: str) -> tuple[Rules, list[Problem]]:
    return rules.parse(text.encode(), file="rules.yaml", read_key=_read_key)


def _read_key(name: str) -> bytes:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory", name)
    return FILES[name].removesuffix("\n").removesuffix("\r").encode()


def client(fields: str, more: str = "services: [ssh]") -> str:
    return f"clients: {{old: {{fwknop: {{{fields}}}, {more}}}}}\n"


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        (f"key_base64: {K}, hmac_key_base64: {H}", FwknopKeys(key=KEY, hmac_key=HMAC_KEY)),
        (
            f"key: {PASSPHRASE}, hmac_key: {OTHER}",
            FwknopKeys(key=PASSPHRASE.encode(), hmac_key=OTHER.encode()),
        ),
        ("key_file: key, hmac_key_file: hmac", FwknopKeys(key=PASSPHRASE.encode(), hmac_key=OTHER.encode())),
        ("key_base64_file: key64, hmac_key_base64_file: hmac64", FwknopKeys(key=KEY, hmac_key=HMAC_KEY)),
        (
            f"key_base64: {K}, hmac_key_base64: {H}, hmac: sha3_512, mode: ctr, user: bob smith",
            FwknopKeys(key=KEY, hmac_key=HMAC_KEY, hmac="sha3_512", mode="ctr", user="bob smith"),
        ),
    ],
)
def test_keys_stand_there_or_in_files_as_they_are_or_in_base64(fields: str, keys: FwknopKeys) -> None:
    found, warnings = parse(S + client(fields))
    assert warnings == []
    assert found.clients["old"] == Client(name="old", services=("ssh",), fwknop=keys)


def test_what_every_client_may_have_it_may_too() -> None:
    more = "services: [ssh], ttl: 1h, from: [192.0.2.0/24], for_others: true, not_after: 2027-01-31, prefix: {ipv4: 24}"
    found, _ = parse(S + client(f"key_base64: {K}, hmac_key_base64: {H}, require_source: true", more))
    one = found.clients["old"]
    assert (one.ttl, one.for_others, one.must_bind, one.prefixes) == (3600, True, True, (24, 128))
    assert one.not_after is not None
    assert one.sources


def test_the_longest_keys_are_good() -> None:
    longest = base64.b64encode(bytes(range(136))).decode()
    found, _ = parse(S + client(f"key_base64: {K}, hmac_key_base64: {longest}"))
    assert found.clients["old"].fwknop == FwknopKeys(key=KEY, hmac_key=bytes(range(136)))


def test_without_an_hmac_it_warns() -> None:
    found, (warning,) = parse(S + client(f"key_base64: {K}, hmac: none"))
    assert found.clients["old"].fwknop == FwknopKeys(key=KEY, hmac="none")
    assert "only its encryption says who has sent a knock" in warning.message
    assert warning.is_warning
    assert warning.hint is not None
    assert "--use-hmac" in warning.hint


@pytest.mark.parametrize("name", ["key", "hmac_key"])
def test_a_key_that_is_easy_to_guess_is_warned_about(name: str) -> None:
    fields = {"key": PASSPHRASE, "hmac_key": OTHER} | {name: "secret"}
    _, (warning,) = parse(S + client(", ".join(f"{field}: {value}" for field, value in fields.items())))
    assert f'{name} of fwknop of client "old" is easy to guess' in warning.message
    assert warning.hint is not None
    assert "fwknop --key-gen" in warning.hint


def test_no_key_is_in_what_the_rules_show_of_themselves() -> None:
    found, _ = parse(S + client(f"key: {PASSPHRASE}, hmac_key: {OTHER}"))
    assert PASSPHRASE not in repr(found)
    assert OTHER not in repr(found)


GOOD = f"key_base64: {K}, hmac_key_base64: {H}"
BAD = [
    (client("^key_bas64: x").replace("{^", "{^"), 'unknown key "key_bas64"', None),
    (f"clients: {{old: {{^fwknop: {{hmac_key_base64: {H}}}, services: [ssh]}}}}", "has no key", "KEY_BASE64"),
    (f"clients: {{old: {{^fwknop: {{key_base64: {K}}}, services: [ssh]}}}}", "has no HMAC key", "hmac: none"),
    ("clients: {old: {^fwknop: , services: [ssh]}}", "has no key", "access.conf"),
    (client(f"key: {PASSPHRASE}, hmac_key: {OTHER}, ^key_base64: {K}"), "has both key and key_base64", "keep one"),
    (client(f"{GOOD}, ^hmac_key_file: hmac"), "has both hmac_key_base64 and hmac_key_file", "keep one"),
    (client(f"key_base64: {K}, ^hmac_key_base64: {H}, hmac: none"), "has an HMAC key, and hmac: none", "one of them"),
    (client(f"{GOOD}, hmac: ^sha2"), 'hmac cannot be "sha2"', "did you mean"),
    (client(f"{GOOD}, mode: ^gcm"), 'mode cannot be "gcm"', "cbc"),
    (client(f"{GOOD}, require_source: ^yes"), 'require_source cannot be "yes"', "true"),
    (client(f"{GOOD}, user: ^[bob]"), "user must be a word", None),
    (client(f"{GOOD}, user: ^{'x' * 65}"), 'user of fwknop of client "old" must have 1 to 64 characters', None),
    (client(f"key_base64: ^{K[:-1]}, hmac_key_base64: {H}"), "is not base64", "the = at its end"),
    (client(f"key_base64: ^a passphrase, hmac_key_base64: {H}"), "is not base64", "a passphrase belongs"),
    (client(f"key_base64: ^{H}, hmac_key_base64: {H}"), "has 64 bytes, and fwknop's clients can use 32", None),
    (client(f"key: ^{K}, hmac_key_base64: {H}"), "has 44 bytes, and fwknop's clients can use 32", "_base64"),
    (client(f"key_base64: {K}, hmac_key: ^{'x' * 137}"), "has 137 bytes", "_base64"),
    (client(f'key_base64: ^"", hmac_key_base64: {H}'), "is empty", None),
    (client(f"key_file: ^empty, hmac_key_base64: {H}"), "is empty", None),
    (client(f"key_file: ^two-lines, hmac_key_base64: {H}"), "more than one line", None),
    (client(f"key_file: ^long, hmac_key_base64: {H}"), "has 600 bytes", None),
    (client(f"key_file: ^lost, hmac_key_base64: {H}"), "cannot read the key in lost", None),
    (client(f"key_base64_file: ^key, hmac_key_base64: {H}"), "is not base64", "a passphrase belongs"),
    (client(GOOD, f"services: [ssh], ^open: {PASSPHRASE}"), "has fwknop, and open", "two clients"),
    (client(GOOD, "services: [ssh], ^bind: required"), "has fwknop, and bind", "one kind of key"),
    (client(GOOD, f"services: [ssh], ^key: {K}"), "has fwknop, and key", "two clients"),
    (
        (f"clients:\n  a: {{fwknop: {{{GOOD}}}, services: [ssh]}}\n"
        f"  b: {{^fwknop: {{{GOOD}, mode: ctr}}, services: [ssh]}}"),
        'fwknop of client "b" has the keys of fwknop of client "a" too',
        "one client of them",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "hint"), BAD, ids=[f"{i}-{row[1]}" for i, row in enumerate(BAD)])
def test_a_mistake_is_told_at_its_place_with_a_hint(text: str, message: str, hint: str | None) -> None:
    """The place is where ^ stands."""
    before, _, after = (S + text).partition("^")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    with pytest.raises(RulesError) as failure:
        parse(before + after)
    places = [str(problem) for problem in failure.value.problems if not problem.is_warning]
    assert any(place.startswith(f"rules.yaml:{line}:{column}: ") and message in place for place in places), places
    for secret in (K, H, PASSPHRASE):
        assert secret not in str(failure.value)
    if hint is not None:
        assert any(hint in (problem.hint or "") for problem in failure.value.problems)


def test_clients_may_share_one_of_the_keys() -> None:
    other = base64.b64encode(bytes(range(1, 33))).decode()
    found, _ = parse(
        f"{S}clients:\n  a: {{fwknop: {{{GOOD}}}, services: [ssh]}}\n"
        f"  b: {{fwknop: {{key_base64: {other}, hmac_key_base64: {H}}}, services: [ssh]}}\n"
    )
    assert len(found.clients) == 2


def test_a_rules_file_with_such_keys_that_others_can_read_is_warned_about(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(S + client(GOOD))
    file.chmod(0o644)
    assert [warning.message for warning in rules.load(file)[1]] == ["other users can read or write this file"]
    file.chmod(0o600)
    assert rules.load(file)[1] == []
