"""Plain keys: a datagram that is a client's ``open`` or ``close`` string, as the ancestor had it.

Pure. Whoever sees such a datagram can read and replay it: this format is for trying things out.
The datagram may end in one newline (``echo`` adds one), and may name one service behind a space
(``open_sesame ssh``).

Keys are looked up by their BLAKE2s digest, and the hit is then compared with ``hmac.compare_digest``.
So the time of a lookup tells no more than the time of a hash, which is nothing about a key, and the
cost does not grow with the number of clients.
"""

from __future__ import annotations

import hmac
from hashlib import blake2s

from gatekeeper.model import Action, Datagram, Knock, Reason, Refusal
from gatekeeper.settings import Rules

MAX_PAYLOAD = 1024
"""Longest plain knock in bytes: key, space, service, newline."""


class PlainKeys:
    """The plain keys of a rules file."""

    name = "plain"

    def __init__(self, rules: Rules) -> None:
        self._keys: dict[bytes, tuple[bytes, Action, str]] = {}
        for client in rules.clients.values():
            if client.open_key is not None:
                self._keys[_digest(client.open_key)] = (client.open_key, Action.OPEN, client.name)
            if client.close_key is not None:
                self._keys[_digest(client.close_key)] = (client.close_key, Action.CLOSE, client.name)

    def glance(self, payload: bytes, *, now: float) -> bool:  # noqa: ARG002 (no time in it)
        """Whether the payload is a key of ours, with or without a service behind it."""
        return self._read(payload) is not None

    def open(self, datagram: Datagram, *, now: float) -> Knock | Refusal:  # noqa: ARG002 (no time in it)
        """Read a plain knock."""
        found = self._read(datagram.payload)
        if found is None:
            return Refusal(Reason.UNKNOWN_KEY)
        action, client, service = found
        return Knock(action, client, () if service is None else (service,))

    def tags(self, *, now: float) -> None:
        """Name none: a key may be anything."""

    def renew(self, *, now: float, at_once: bool = False) -> None:
        """Do nothing: plain keys stay what they are."""

    def _read(self, payload: bytes) -> tuple[Action, str, str | None] | None:
        if not self._keys or len(payload) > MAX_PAYLOAD:
            return None
        if payload.endswith(b"\n"):
            payload = payload[:-2] if payload.endswith(b"\r\n") else payload[:-1]
        if (found := self._match(payload)) is not None:
            return (*found, None)
        key, space, service = payload.rpartition(b" ")
        if space and (found := self._match(key)) is not None:
            return (*found, service.decode("ascii", "backslashreplace"))
        return None

    def _match(self, candidate: bytes) -> tuple[Action, str] | None:
        hit = self._keys.get(_digest(candidate))
        if hit is None or not hmac.compare_digest(hit[0], candidate):
            return None
        return hit[1], hit[2]


def _digest(key: bytes) -> bytes:
    return blake2s(key).digest()
