"""Packets of fwknop's format with any fields, right and wrong."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from typing import Any

from gatekeeper.fwknop import cipher, envelope
from gatekeeper.fwknop.message import Kind, Message
from gatekeeper.settings import FwknopKeys

KEY = bytes(range(0x10, 0x30))
HMAC_KEY = bytes(range(0x40, 0x80))
KEYS = FwknopKeys(key=KEY, hmac_key=HMAC_KEY)
USUAL: dict[str, Any] = {"user": "alice", "kind": Kind.ACCESS, "nat": None, "timeout": None}


def message(sent_at: float, text: str = "0.0.0.0,tcp/22", **said: Any) -> Message:
    """Make a message that is like no other."""
    random = f"{secrets.randbelow(10**16):016}"
    return Message(**(USUAL | {"sent_at": int(sent_at), "text": text, "random": random} | said))


def packet(sent_at: float, text: str = "0.0.0.0,tcp/22", *, keys: FwknopKeys = KEYS, **said: Any) -> bytes:
    """Write one whole."""
    return envelope.seal(message(sent_at, text, **said), keys, salt=os.urandom(8))


def around(plaintext: bytes, *, keys: FwknopKeys = KEYS, digest: bool = True) -> bytes:
    """Encrypt whatever stands there, with an HMAC that is right; with a ``digest`` behind it that is."""
    if digest:
        plaintext += b":" + base64.b64encode(hashlib.sha256(plaintext).digest()).rstrip(b"=")
    body = cipher.encrypt(plaintext, keys.key, keys.mode, os.urandom(8))
    return resealed(body.removeprefix(envelope.PREFIX), keys=keys)


def resealed(body: bytes, *, keys: FwknopKeys = KEYS) -> bytes:
    """Put an HMAC that is right behind a body, which has no prefix."""
    whole = envelope.begun(keys)
    whole.update(envelope.PREFIX + body)
    return body + base64.b64encode(whole.digest()).rstrip(b"=")


def b64(text: str | bytes) -> bytes:
    """Write a field as fwknop does."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).rstrip(b"=")


def fields(sent_at: float, **other: bytes) -> bytes:
    """Write the fields of a usual message, but for those that are given."""
    usual = {
        "random": b"1234567890123456",
        "user": b64("alice"),
        "time": str(int(sent_at)).encode(),
        "version": b"3.0.0",
        "kind": b"1",
        "text": b64("0.0.0.0,tcp/22"),
    }
    return b":".join((usual | other).values())
