"""What worker and keeper say to each other, as bytes. Pure.

JSON, and not Python's own pickle: whoever takes over the worker, by a packet, must not get the keeper with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import groupby, islice
from typing import Any

from gatekeeper.heavy import PLACES
from gatekeeper.model import Admit, Effect, Floor, Grant, Reason, Revoke, Sender, Stamp, TrailEntry

_AT_ONCE = 500
"""Grants or floors in one message: it must fit a socket's buffer."""
_LARGEST = 2**63 - 1
_LAST_MOMENT = 1e15
"""Unix seconds: later than anything that a rule or a command can say."""
_LONGEST_GRACE = 600 * 10**9
_MOST_COUNTS, _LONGEST_NAME = 100, 60
_WOULD = "would-"
"""Counters are kept in the store for good, so nobody may fill it with their names."""


@dataclass(frozen=True, slots=True)
class Do:
    """Worker to keeper: carry this out."""

    serial: int
    effect: Effect
    reason: Reason
    client: str | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """Keeper to worker: it was carried out, or (not ``went_well``) was not. What it changed was said before."""

    serial: int
    went_well: bool


@dataclass(frozen=True, slots=True)
class Grants:
    """Keeper to worker: these are the live grants, and no others; with ``more`` to come."""

    grants: tuple[Grant, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """Keeper to worker: these grants began, and these ended."""

    admitted: tuple[Grant, ...] = ()
    ended: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Floors:
    """Keeper to worker: what stamps have been spent; with ``more`` to come."""

    born: int
    floors: Mapping[bytes, Floor]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Worker to keeper: what was counted since the last time."""

    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Noted:
    """Worker to keeper: clients that were refused since the last time, for the audit trail."""

    entries: tuple[TrailEntry, ...]


@dataclass(frozen=True, slots=True)
class Senders:
    """Worker to keeper: who was refused since the last time, why, and how often at the least."""

    counts: Mapping[Sender, int]


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """Keeper to worker: the wall clock was set."""


Message = Do | Done | Grants | Changed | Floors | Counts | Noted | Senders | ClockStepped


def encode(message: Message) -> bytes:
    """Write a message."""
    return json.dumps([type(message).__name__, *_WRITERS[type(message)](message)], separators=(",", ":")).encode()


def decode(data: bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: it is none.
    """
    try:
        name, *parts = json.loads(data, parse_constant=_refuse)
        message: Message = _READERS[name](*parts)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"not a message: {error}") from error
    return message


def all_grants(grants: Iterable[Grant]) -> Iterator[Grants]:
    """Say what grants there are, in messages of a bearable size."""
    for part in _parts(grants):
        yield Grants(part, more=True)
    yield Grants(())


def all_changes(admitted: Iterable[Grant], ended: Iterable[Grant]) -> Iterator[Changed]:
    """Say what began and what ended, likewise."""
    for part in _parts(ended):
        yield Changed(ended=part)
    for part in _parts(admitted):
        yield Changed(admitted=part)


def gathered(messages: Iterable[Message]) -> Iterator[Message]:
    """Say the same in fewer messages: changes of one kind that follow each other are told together."""
    for kind, run in groupby(messages, key=_kind):
        if kind is None:
            yield from run
        else:
            grants = [grant for one in run if isinstance(one, Changed) for grant in (*one.admitted, *one.ended)]
            yield from all_changes(grants, ()) if kind == "admitted" else all_changes((), grants)


def _kind(message: Message) -> str | None:
    """Name what a message tells of grants, if it is one thing."""
    if not isinstance(message, Changed) or bool(message.admitted) == bool(message.ended):
        return None
    return "admitted" if message.admitted else "ended"


def all_floors(born: int, floors: Mapping[bytes, Floor]) -> Iterator[Floors]:
    """Say what floors there are, in messages of a bearable size."""
    part: dict[bytes, Floor] = {}
    weight = 0
    for key, floor in floors.items():
        if weight >= _AT_ONCE:
            yield Floors(born, part, more=True)
            part, weight = {}, 0
        part[key] = floor
        weight += 2 + len(floor.spent)  # up to ``replay.MOST``: 100 kB
    yield Floors(born, part)


def _parts(grants: Iterable[Grant]) -> Iterator[tuple[Grant, ...]]:
    left = iter(grants)
    while part := tuple(islice(left, _AT_ONCE)):
        yield part


def _grants(grants: Iterable[Grant]) -> list[Any]:
    return [[str(one.source), one.service, one.client, one.expires_at] for one in grants]


def _read_grants(found: Sequence[Any]) -> tuple[Grant, ...]:
    return tuple(
        Grant(ip_network(_word(source)), _word(service), _word(client), None if end is None else _moment(end))
        for source, service, client, end in found
    )


# What a worker says may be anybody's words. A value of another type than the store and the kernel expect would end the
# keeper, and, once it is stored, each keeper after it.


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number here")


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a word")
    value.encode()  # or the store, which wants UTF-8, would take it for damage (UnicodeError is a ValueError)
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -_LARGEST <= value <= _LARGEST:
        raise TypeError("not a number that the store can hold")
    return value


def _moment(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not -_LAST_MOMENT <= value <= _LAST_MOMENT:
        raise TypeError("not a moment")
    return value


def _effect(effect: Effect) -> list[Any]:
    stamp = None if effect.stamp is None else _stamp(effect.stamp)
    if isinstance(effect, Admit):
        return ["admit", _grants(effect.grants), stamp]
    return ["revoke", [str(effect.source), effect.client, effect.services], stamp]


def _read_effect(kind: str, what: Sequence[Any], stamp: Sequence[Any] | None) -> Effect:
    its = None if stamp is None else _read_stamp(*stamp)
    if kind == "admit":
        return Admit(_read_grants(what), its)
    source, client, services = what
    its_client = None if client is None else _word(client)
    return Revoke(ip_network(_word(source)), its_client, None if services is None else tuple(map(_word, services)), its)


def _stamp(stamp: Stamp) -> list[Any]:
    return [stamp.key.hex(), stamp.sent_at, stamp.grace, stamp.once]


def _read_stamp(key: str, sent_at: int, grace: int, once: object) -> Stamp:
    if not 0 <= _number(grace) <= _LONGEST_GRACE:
        raise ValueError("not a stamp")
    return Stamp(bytes.fromhex(key), _number(sent_at), grace, once is True)


def _read_do(serial: int, effect: Sequence[Any], reason: str, client: str | None, note: str | None) -> Do:
    said = [None if one is None else _word(one) for one in (client, note)]
    return Do(_number(serial), _read_effect(*effect), Reason(reason), *said)


def _read_counts(counts: Mapping[str, int]) -> Counts:
    if len(counts) > _MOST_COUNTS or any(len(_word(name)) > _LONGEST_NAME for name in counts):
        raise ValueError("not counters")
    return Counts({name: _number(number) for name, number in counts.items()})


def _read_noted(found: Sequence[Sequence[Any]]) -> Noted:
    """Read refusals. Not when they were: that is the keeper's to say."""
    return Noted(tuple(TrailEntry(0.0, *_read_refusal(*one)) for one in found))


def _read_refusal(reason: str, client: str, source: str | None, note: str | None) -> tuple[Any, ...]:
    its_source = None if source is None else str(ip_address(_word(source)))
    words = None if note is None else _word(note)
    return Reason(reason.removeprefix(_WOULD)) and reason, _word(client), its_source, None, None, words


def is_sender(source: bytes, reason: str) -> bool:
    """Whether a worker can have refused such a one."""
    return len(source) in {4, 8} and reason.removeprefix("would-") in set(Reason)


def _read_senders(rows: Sequence[Any]) -> Senders:
    if len(rows) > PLACES:
        raise ValueError("too many senders")
    counts: dict[Sender, int] = {}
    for source, reason, number in rows:
        sender = bytes.fromhex(source), _word(reason)
        if not is_sender(*sender) or _number(number) < 1:
            raise ValueError("not a sender")
        counts[sender] = number
    return Senders(counts)


def _floors(floors: Mapping[bytes, Floor]) -> dict[str, Any]:
    return {key.hex(): [one.floor, one.closed, one.spent] for key, one in floors.items()}


def _read_floors(found: Mapping[str, Any]) -> dict[bytes, Floor]:
    return {bytes.fromhex(key): Floor(floor, closed, tuple(spent)) for key, (floor, closed, spent) in found.items()}


_WRITERS: dict[type[Any], Any] = {
    Do: lambda one: (one.serial, _effect(one.effect), one.reason, one.client, one.note),
    Done: lambda one: (one.serial, one.went_well),
    Grants: lambda one: (_grants(one.grants), one.more),
    Changed: lambda one: (_grants(one.admitted), _grants(one.ended)),
    Floors: lambda one: (one.born, _floors(one.floors), one.more),
    Counts: lambda one: (dict(one.counts),),
    Noted: lambda one: ([(its.reason, its.client, its.source, its.note) for its in one.entries],),
    Senders: lambda one: ([[source.hex(), reason, number] for (source, reason), number in one.counts.items()],),
    ClockStepped: lambda _: (),
}
_READERS: dict[str, Any] = {
    "Do": _read_do,
    "Done": Done,
    "Grants": lambda grants, more: Grants(_read_grants(grants), more),
    "Changed": lambda admitted, ended: Changed(_read_grants(admitted), _read_grants(ended)),
    "Floors": lambda born, floors, more: Floors(born, _read_floors(floors), more),
    "Counts": _read_counts,
    "Noted": _read_noted,
    "Senders": _read_senders,
    "ClockStepped": ClockStepped,
}
