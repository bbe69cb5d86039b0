"""What is sent: an encrypted message with an HMAC behind it, all in base64. Pure.

Each body begins with the same ten characters, which are left out of what is sent. Whoever reads one looks at the HMAC
first, which costs a microsecond or two and tells nothing of a key; nothing is decrypted before.
"""

from __future__ import annotations

import hmac
import re

from gatekeeper.fwknop import cipher
from gatekeeper.fwknop.message import LENGTHS, Message, pack, unpadded
from gatekeeper.settings import FwknopKeys

PREFIX = b"U2FsdGVkX1"
"""``Salted__`` in base64, but for its last four bits."""
SHORTEST, LONGEST = 140, 1500
"""How many characters are sent, at the least and at the most."""
FIRST = b"89+/"
"""The first character: the last four bits of ``Salted__``, and two of the salt."""
_SHAPE = re.compile(rb"[89+/][A-Za-z0-9+/]{%d,%d}" % (SHORTEST - 1, LONGEST - 1))
_BODIES = frozenset((blocks * 16 * 8 + 5) // 6 - len(PREFIX) for blocks in range(2, 80))
"""How many characters a body can have, without its prefix."""


def seal(message: Message, keys: FwknopKeys, *, salt: bytes) -> bytes:
    """Write what is sent. ``salt``: 8 bytes of chance, new for each."""
    body = cipher.encrypt(pack(message), keys.key, keys.mode, salt)
    return body.removeprefix(PREFIX) + (b"" if keys.hmac_key is None else _tag(body, keys.hmac_key, keys.hmac))


def has_shape(payload: bytes) -> bool:
    """Whether it can be of this format at all, as far as the alphabet tells."""
    return _SHAPE.fullmatch(payload) is not None


def body_of(payload: bytes, kind: str) -> bytes | None:
    """Return the body, its prefix put back, if the length is right for an HMAC of this kind (``none``: without)."""
    length = len(payload) - LENGTHS.get(kind, 0)
    return PREFIX + payload[:length] if length in _BODIES else None


def is_right(payload: bytes, body: bytes, keys: FwknopKeys) -> bool:
    """Whether the HMAC behind the body is this key holder's."""
    tag = payload[len(body) - len(PREFIX) :]
    return keys.hmac_key is not None and hmac.compare_digest(_tag(body, keys.hmac_key, keys.hmac), tag)


def opened(body: bytes, keys: FwknopKeys) -> bytes:
    """Decrypt a body; return the plaintext.

    Raises:
        ValueError: it was not encrypted with these keys.
    """
    return cipher.decrypt(body, keys.key, keys.mode)


def _tag(body: bytes, key: bytes, kind: str) -> bytes:
    return unpadded(hmac.digest(key, body, kind))
