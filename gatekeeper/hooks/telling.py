"""Of what became of the grants: which programs are to be run for it, and what they are told. Pure.

A grant opens once: a knock that renews it runs nothing, nor does a restart. It closes once, however it ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from gatekeeper.model import Grant, Outcome
from gatekeeper.networks import Source, show_source
from gatekeeper.settings import Rules, Service

RESTORED, ENDED = "restored", "ended"
"""What a start says of the grants that live on; and of those that ended while nobody was there, or by other rules."""
_OPEN, _CLOSE = "open", "close"
_ALWAYS = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/",
}
_OURS = "GATEKEEPER_"
_MOST_PORTS = 256
"""Of a service, that are told: an environment has its bounds."""


class Event(NamedTuple):
    """A program to be run: its arguments, for how many seconds at the most, and its whole environment."""

    argv: tuple[str, ...]
    limit: int
    environment: dict[str, str]

    @property
    def whose(self) -> tuple[str, ...]:
        """The grant that it is about: what is about the same is run one after the other."""
        return tuple(self.environment.get(_OURS + name, "") for name in ("CLIENT", "SOURCE", "SERVICE"))

    def fields(self) -> dict[str, object]:
        """Say in the log which it is. No arguments: they are anybody's."""
        named = {name: self.environment.get(_OURS + name.upper(), "") for name in ("client", "source", "service")}
        return {"hook": self.argv[0], "on": self.environment.get(_OURS + "EVENT", ""), **named}


class Teller:
    """Follows the grants of the services that have hooks."""

    def __init__(self, rules: Rules) -> None:
        self._services = {one.name: one for one in rules.services.values() if one.on_open or one.on_close}
        self._limit = rules.hook_timeout
        self._open: set[tuple[str, Source, str]] = set()

    def note(self, reason: str, outcome: Outcome, *, now: float) -> Iterator[Event]:
        """Take in a change, by the name that the log has for it; say what is to be run."""
        for grant in outcome.ended:
            service, key = self._services.get(grant.service), _key(grant)
            if service is not None and (key in self._open or reason == ENDED):
                self._open.discard(key)
                yield from self._event(service, grant, reason, now, _CLOSE)
        for grant in outcome.admitted:
            service, key = self._services.get(grant.service), _key(grant)
            if service is not None and key not in self._open:
                self._open.add(key)
                if reason != RESTORED:
                    yield from self._event(service, grant, reason, now, _OPEN)

    def _event(self, service: Service, grant: Grant, reason: str, now: float, what: str) -> Iterator[Event]:
        argv = service.on_open if what == _OPEN else service.on_close
        if not argv:
            return
        end = grant.expires_at if what == _OPEN else None
        its = {
            "EVENT": what,
            "REASON": reason,
            "CLIENT": grant.client,
            "SOURCE": show_source(grant.source),
            "SERVICE": service.name,
            "PORTS": " ".join(map(str, service.ports[:_MOST_PORTS])),
            "AT": _moment(now),
            "TTL": "" if end is None else str(max(0, math.ceil(end - now))),
            "EXPIRES_AT": "" if end is None else _moment(end),
        }
        yield Event(argv, self._limit, _ALWAYS | {_OURS + name: text for name, text in its.items()})


def encode(event: Event) -> bytes:
    """Write an event, as the keeper sends it."""
    return json.dumps(event).encode()


def decode(message: bytes) -> Event:
    """Read one.

    Raises:
        ValueError: it is none.
    """
    try:
        argv, limit, environment = json.loads(message)
        return Event(tuple(map(str, argv)), int(limit), {str(name): str(text) for name, text in environment.items()})
    except (TypeError, AttributeError) as error:
        raise ValueError("not an event") from error


def _key(grant: Grant) -> tuple[str, Source, str]:
    return grant.service, grant.source, grant.client


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
