"""What rules say, compared: each field is in it, and no secret is."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from gatekeeper import rules
from gatekeeper.differences import Said, as_lines, compare, describe, in_numbers
from gatekeeper.settings import Client, FirewallSettings, Ports, Rules, Sequences, ServerKey, Service, Transport

TEXT = b"""
refuse: reset
services:
  ssh: {port: [tcp/22, tcp/6000-6010], ttl: 1h, max_ttl: 2h, address: 192.0.2.1, never: [203.0.113.0/24]}
  web: {port: tcp/80, when: Mon-Fri 08:00-18:00 UTC}
clients:
  laptop: {key: aI9Cc/xZ3nOWC9Ms5EIQQwy7TuBeY8J6SBu4ZvrxbQA=, services: [ssh], not_after: 2027-01-31}
  old.one: {open: a_secret_of_old, services: [ssh, web], ttl: 30m, prefix: {ipv4: 24}}
"""


def read(text: bytes) -> Rules:
    found, _ = rules.parse(text, file="rules.yaml", read_key=lambda name: name.encode())
    return found


def said(text: bytes) -> Said:
    return describe(read(text), lambda secret: f"{hash(secret):x}")


def test_everything_is_said_as_the_file_says_it() -> None:
    its = said(TEXT)
    assert its["service ssh"] == {
        "port": "tcp/22, tcp/6000-6010",
        "ttl": "1h",
        "max_ttl": "2h",
        "address": "192.0.2.1",
        "never": "203.0.113.0/24",
    }
    assert its["service web"]["when"] == "Mon-Fri 08:00-18:00 UTC"
    assert its["client old.one"]["prefix"] == "24, 128"
    assert its["client laptop"]["not_after"] == "2027-02-01T00:00:00Z"
    assert its["the file"] == {"refuse": "reset"}


def test_changes_are_named_field_by_field() -> None:
    other = TEXT.replace(b"refuse: reset", b"workers: 2").replace(b"max_ttl: 2h", b"max_ttl: 3h")
    other = other.replace(b"a_secret_of_old", b"another_secret").replace(b"  web:", b"  www:").replace(b"web]", b"www]")
    changes = compare(said(TEXT), said(other))
    assert list(as_lines(changes)) == [
        "changed the file",
        "    workers added: 2",
        "    refuse taken out: reset",
        "changed service ssh",
        "    max_ttl: 2h -> 3h",
        "added service www",
        "    port added: tcp/80",
        "    ttl added: 1h",
        "    when added: Mon-Fri 08:00-18:00 UTC",
        "changed client old.one",
        "    services: ssh, web -> ssh, www",
        "    open changed",
        "removed service web",
        "    port taken out: tcp/80",
        "    ttl taken out: 1h",
        "    when taken out: Mon-Fri 08:00-18:00 UTC",
    ]
    assert in_numbers(changes) == (
        "1 service changed, 1 service added, 1 client changed, 1 service removed, workers changed, refuse changed"
    )


def test_nothing_changed_is_said_so() -> None:
    assert compare(said(TEXT), said(TEXT)) == []
    assert in_numbers([]) == "nothing has changed in the rules"


def test_no_secret_is_in_it() -> None:
    private = bytes(range(32))
    one = replace(read(TEXT), server_keys=(ServerKey(private),))
    text = str(describe(one, lambda _: "digest"))
    for secret in ("a_secret_of_old", private.hex(), repr(private)):
        assert secret not in text


def test_a_port_sequence_that_changes_is_seen_and_not_shown() -> None:
    one = read(TEXT)
    steps = [Ports(Transport.TCP, port) for port in (7001, 7002, 7003)]
    laptop = replace(one.clients["laptop"], sequences=Sequences(opens=(tuple(steps),)))
    other = replace(laptop, sequences=Sequences(opens=(tuple(steps[::-1]),)))
    before, after = (
        describe(replace(one, clients={"laptop": its}), lambda secret: f"{hash(secret):x}") for its in (laptop, other)
    )
    assert list(as_lines(compare(before, after))) == ["changed client laptop", "    sequence changed"]


@pytest.mark.parametrize("kind", [Rules, Service, Client, FirewallSettings])
def test_whatever_changes_is_seen(kind: type) -> None:
    """Also a field that somebody adds to settings.py one day."""
    the_rules = read(TEXT)
    for field in fields(kind):
        if field.name == "name" or (kind is Rules and field.name in {"services", "clients", "firewall"}):
            continue
        after = changed(the_rules, kind, {field.name: _Odd()})
        assert compare(describe(the_rules, bytes.hex), describe(after, bytes.hex)), field.name


def changed(the_rules: Rules, kind: type, what: dict[str, Any]) -> Rules:
    if kind is Service:
        return replace(the_rules, services={**the_rules.services, "ssh": replace(the_rules.services["ssh"], **what)})
    if kind is Client:
        return replace(the_rules, clients={**the_rules.clients, "laptop": replace(the_rules.clients["laptop"], **what)})
    if kind is FirewallSettings:
        return replace(the_rules, firewall=replace(the_rules.firewall, **what))
    return replace(the_rules, **what)


class _Odd:
    """No value that rules could have."""
