"""What rules say, field by field, as text; and what is different between two of them. Pure.

There is no secret in that text: of a key it has a digest, by which it shows that a key was changed, and nothing else.
What stays out of ``repr`` in settings.py is a secret here.
"""

from __future__ import annotations

import dataclasses
import enum
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NamedTuple

from gatekeeper import duration, schedule, sizes
from gatekeeper.networks import show_source
from gatekeeper.schedule import Hours
from gatekeeper.settings import Client, FirewallSettings, Rules, Service, TrailSettings

Said = Mapping[str, Mapping[str, str]]
"""What rules say: of each thing (``service ssh``), by the field that rules.yaml has for it. Defaults are left out."""
Digest = Callable[[bytes], str]
THE_FILE = "the file"
_SECRET = "key#"  # noqa: S105  (what a digest begins with)
_NAMES = {
    "ports": "port",
    "addresses": "address",
    "interfaces": "interface",
    "hours": "when",
    "keys": "key",
    "open_key": "open",
    "close_key": "close",
    "must_bind": "bind",
    "sources": "from",
    "prefixes": "prefix",
    "knock_ports": "knock: port",
    "via": "knock: via",
    "skew": "knock: skew",
    "ack": "knock: ack",
    "server_keys": "server",
    "sequences": "sequence",
}
"""Attributes of settings.py that have another name in rules.yaml."""
_DURATIONS = frozenset({"ttl", "max_ttl", "skew", "hook_timeout"})
_ARGUMENTS = frozenset({"on_open", "on_close"})
_MOMENTS = frozenset({"not_after", "until"})


class Field(NamedTuple):
    """A field that is different. ``None``: it is not there. Of a key neither says more than that it is."""

    name: str
    before: str | None
    after: str | None


class Change(NamedTuple):
    """A thing of the rules that is different."""

    kind: str
    """``added``, ``removed`` or ``changed``."""
    what: str
    fields: tuple[Field, ...]


def describe(rules: Rules, digest: Digest) -> dict[str, dict[str, str]]:
    """Say what rules say. ``digest`` makes of a secret what two can be compared by."""
    its: dict[str, dict[str, str]] = {THE_FILE: dict(_fields(rules, Rules({}, {}), digest))}
    its[THE_FILE] |= {f"firewall: {name}": text for name, text in _fields(rules.firewall, FirewallSettings(), digest)}
    for service in rules.services.values():
        its[f"service {service.name}"] = dict(_fields(service, _PLAIN_SERVICE, digest))
    for client in rules.clients.values():
        its[f"client {client.name}"] = dict(_fields(client, _PLAIN_CLIENT, digest))
    return its


def compare(before: Said, after: Said) -> list[Change]:
    """List what is different, in the order of ``after``; what is gone comes last."""
    found = []
    for what, fields in after.items():
        if what not in before:
            found.append(Change("added", what, _compared({}, fields)))
        elif changed := _compared(before[what], fields):
            found.append(Change("changed", what, changed))
    gone = [Change("removed", what, _compared(fields, {})) for what, fields in before.items() if what not in after]
    return found + gone


def in_numbers(changes: Sequence[Change]) -> str:
    """Sum it up: ``1 service added, 2 clients changed``."""
    counts = Counter((one.kind, one.what.partition(" ")[0]) for one in changes if one.what != THE_FILE)
    words = [f"{count} {what}{'s'[: count != 1]} {kind}" for (kind, what), count in counts.items()]
    words += [f"{field.name} changed" for one in changes if one.what == THE_FILE for field in one.fields]
    return ", ".join(words) or "nothing has changed in the rules"


def as_lines(changes: Sequence[Change]) -> Iterator[str]:
    """Lay it out for people."""
    for change in changes:
        yield f"{change.kind} {change.what}"
        for field in change.fields:
            yield f"    {_words(field)}"


def _words(field: Field) -> str:
    name, before, after = field
    if before is None or after is None:
        kind, text = ("added", after) if before is None else ("taken out", before)
        return f"{name} {kind}" if is_secret(text) else f"{name} {kind}: {text}"
    return f"{name} changed" if is_secret(after) else f"{name}: {before} -> {after}"


def is_secret(text: str | None) -> bool:
    """Whether this is a digest, which is nobody's business."""
    return text is not None and text.startswith(_SECRET)


def _compared(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Field, ...]:
    names = dict.fromkeys([*after, *before])
    return tuple(
        Field(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def _fields(thing: Any, plain: Any, digest: Digest) -> Iterator[tuple[str, str]]:  # noqa: ANN401  (any of settings.py)
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if (type(thing), field.name) in _ELSEWHERE or value == getattr(plain, field.name):
            continue
        text = _SECRET + digest(_as_bytes(value)) if not field.repr else _text(field.name, value, digest)
        yield _NAMES.get(field.name, field.name), text


def _as_bytes(secret: object) -> bytes:
    return secret if isinstance(secret, bytes) else repr(secret).encode()


def _text(name: str, value: object, digest: Digest) -> str:  # noqa: PLR0911  (one for each type)
    if (silent := _what_repr_hides(value)) is not None:
        return _SECRET + digest(repr(silent).encode())
    match value:
        case bytes():
            return _SECRET + digest(value)
        case enum.Enum():
            return str(value.value)
        case bool():
            return str(value).lower()
        case tuple() if name in _ARGUMENTS:
            return shlex.join(value)
        case frozenset():
            return ", ".join(sorted(_text(name, one, digest) for one in value))
        case tuple():
            return ", ".join(_text(name, one, digest) for one in value)
        case IPv4Network() | IPv6Network():
            return show_source(value)
        case Hours():
            return schedule.show(value)
        case _:
            return _number(name, value)


def _what_repr_hides(value: Any) -> tuple[object, ...] | None:  # noqa: ANN401  (any of settings.py)
    """Return all that is in something of which ``repr`` does not show all; ``None`` for anything else."""
    if dataclasses.is_dataclass(value) and any(not field.repr for field in dataclasses.fields(value)):
        return tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    return None


def _number(name: str, value: object) -> str:
    if name in _DURATIONS and (value is None or isinstance(value, int)):
        return duration.show(value)
    if name in _MOMENTS and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
    if name == "mark" and isinstance(value, int):
        return f"{value:#x}"
    if isinstance(value, TrailSettings):
        return f"keep {duration.show(value.keep)}, size {sizes.show(value.size)}"
    return "none" if value is None else str(value)


_ELSEWHERE = {(Rules, "services"), (Rules, "clients"), (Rules, "firewall"), (Service, "name"), (Client, "name")}
"""What a thing is called, and what is described by itself."""
_PLAIN_SERVICE = Service("", (), -1)
_PLAIN_CLIENT = Client(name="", services=())
