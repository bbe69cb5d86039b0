"""What a knock of fwknop's says, before it is encrypted: fields between colons, and a digest of them. Pure.

The digest is no proof of anything, for there is no key in it; what proves who has written a message is the HMAC
around it (``envelope.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import IntEnum

from gatekeeper.fwknop.kinds import DIGESTS
from gatekeeper.fwknop.text import padded, unpadded


class Kind(IntEnum):
    """What a message asks for. ``TIMED``: it says for how many seconds."""

    COMMAND = 0
    ACCESS = 1
    NAT = 2
    TIMED_ACCESS = 3
    TIMED_NAT = 4
    LOCAL_NAT = 5
    TIMED_LOCAL_NAT = 6


NATS = frozenset({Kind.NAT, Kind.TIMED_NAT, Kind.LOCAL_NAT, Kind.TIMED_LOCAL_NAT})
"""Kinds that name where the server should lead the client's packets."""
TIMED = frozenset({Kind.TIMED_ACCESS, Kind.TIMED_NAT, Kind.TIMED_LOCAL_NAT})
LENGTHS = {kind: (hashlib.new(kind, usedforsecurity=False).digest_size * 8 + 5) // 6 for kind in DIGESTS}
"""How many characters each has, in base64 without padding."""

_KINDS = {str(int(kind)): kind for kind in Kind}
_LONGEST_USER = 64
_RANDOM = re.compile(r"\d{16}", re.ASCII)
_VERSION = re.compile(r"\d{1,3}(\.\d{1,3}){1,3}", re.ASCII)
_SECONDS = re.compile(r"\d{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``text`` and ``nat`` are as the client wrote them: nobody has looked at what they say."""

    user: str
    sent_at: int
    """Unix seconds."""
    kind: Kind
    text: str
    """``ADDRESS,tcp/22,udp/53``; of a command ``ADDRESS,COMMAND``."""
    nat: str | None
    """``ADDRESS,PORT``, of the kinds that have it."""
    timeout: int | None
    """Seconds, of the kinds that have it."""
    random: str
    """16 digits, so that no two messages are the same."""
    version: str = "3.0.0"
    digest: str = "sha256"
    """The kind of the digest behind the fields."""


def pack(message: Message) -> bytes:
    """Write a message, its digest included."""
    fields = [
        message.random,
        _encode(message.user),
        str(message.sent_at),
        message.version,
        str(int(message.kind)),
        _encode(message.text),
    ]
    if message.kind in NATS:
        fields.append(_encode(message.nat or ""))
    if message.kind in TIMED:
        fields.append(str(message.timeout or 0))
    body = ":".join(fields).encode("ascii")
    return body + b":" + _digest(message.digest, body)


def digest_of(plaintext: bytes) -> str:
    """Tell of which kind its digest is: that is by its length, and by which of them fits.

    Raises:
        ValueError: none does, so this was not written by a client of fwknop's, or is not what it wrote.
    """
    body, _, digest = plaintext.rpartition(b":")
    for kind in DIGESTS:
        if LENGTHS[kind] == len(digest) and hmac.compare_digest(_digest(kind, body), digest):
            return kind
    raise ValueError("its digest does not fit")


def unpack(plaintext: bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: it is none; says why.
    """
    digest = digest_of(plaintext)
    try:
        fields = plaintext.decode("ascii").split(":")[:-1]
    except UnicodeDecodeError:
        raise ValueError("it is not ASCII") from None
    if len(fields) < 6:
        raise ValueError("there are fields too few")
    random, user, sent_at, version, number, text, *more = fields
    _require(random, _RANDOM, "random number")
    _require(sent_at, _SECONDS, "time")
    _require(version, _VERSION, "version")
    if number not in _KINDS:
        raise ValueError("it is of no kind that there is")
    kind = _KINDS[number]
    nat = _decode("NAT access", _next(more, "NAT access")) if kind in NATS else None
    timeout = _seconds(more.pop()) if kind in TIMED and more else None
    if kind in TIMED and timeout is None:
        raise ValueError("there is no timeout")
    if more:  # a password for servers of old (fwknop in Perl), which fwknopd ignores as well
        _decode("server auth", more.pop())
    if more:
        raise ValueError("there are fields too many")
    return Message(
        user=_user(user),
        sent_at=int(sent_at),
        kind=kind,
        text=_decode("message", text),
        nat=nat,
        timeout=timeout,
        random=random,
        version=version,
        digest=digest,
    )


def _digest(kind: str, body: bytes) -> bytes:
    return unpadded(hashlib.new(kind, body, usedforsecurity=False).digest())


def _next(fields: list[str], name: str) -> str:
    if not fields:
        raise ValueError(f"there is no {name}")
    return fields.pop(0)


def _require(field: str, pattern: re.Pattern[str], name: str) -> None:
    if not pattern.fullmatch(field):
        raise ValueError(f"the {name} makes no sense")


def _seconds(field: str) -> int:
    _require(field, _SECONDS, "timeout")
    return int(field)


def _user(field: str) -> str:
    user = _decode("user", field)
    if len(user) > _LONGEST_USER:
        raise ValueError("the user's name is too long")
    return user


def _encode(text: str) -> str:
    return unpadded(text.encode()).decode("ascii")


def _decode(name: str, field: str) -> str:
    """Read a field of text: no empty one, and nothing that a terminal or a C string would take for an end."""
    try:
        text = padded(field.encode("ascii")).decode()
    except ValueError:
        raise ValueError(f"the {name} is not text in base64") from None
    if not text or not text.isprintable():
        raise ValueError(f"the {name} is empty, or not printable")
    return text
