"""What is sent: an encrypted message with an HMAC behind it, all in base64. Pure.

Each body begins with the same ten characters, which are left out of what is sent. Whoever reads one looks at the HMAC
first, which costs a microsecond and tells nothing of a key; nothing is decrypted before.
"""

from __future__ import annotations

import hmac
import re

from gatekeeper.fwknop import cipher
from gatekeeper.fwknop.message import LENGTHS, Message, digest_of, pack
from gatekeeper.fwknop.text import padded, unpadded
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
    tag = b"" if keys.hmac_key is None else unpadded(hmac.digest(keys.hmac_key, body, keys.hmac))
    return body.removeprefix(PREFIX) + tag


def has_shape(payload: bytes) -> bool:
    """Whether it can be of this format at all, as far as length and alphabet tell."""
    return _SHAPE.fullmatch(payload) is not None


def parts(payload: bytes, kind: str) -> tuple[bytes, bytes] | None:
    """Take apart what was sent with an HMAC of a kind: the body, its prefix put back, and the HMAC.

    ``None``: it cannot be, for its length is not that of whole blocks and such an HMAC, or there is a second way to
    write the very same one.
    """
    length = len(payload) - LENGTHS.get(kind, 0)
    if length not in _BODIES:
        return None
    text = payload[length:]
    tag = padded(text)
    return (PREFIX + payload[:length], tag) if unpadded(tag) == text else None


def begun(keys: FwknopKeys) -> hmac.HMAC:
    """Begin an HMAC, of which each packet takes a copy: half of the work is then done (docs/knock-formats.md)."""
    return hmac.new(keys.hmac_key or b"", digestmod=keys.hmac)


def is_right(begun: hmac.HMAC, body: bytes, tag: bytes) -> bool:
    """Whether this is the HMAC of a body, in constant time."""
    whole = begun.copy()
    whole.update(body)
    return hmac.compare_digest(whole.digest(), tag)


def opened(body: bytes, keys: FwknopKeys) -> bytes:
    """Decrypt a body; return the plaintext, whose digest fits.

    Raises:
        ValueError: it was not encrypted with these keys.
    """
    plaintext = cipher.decrypt(body, keys.key, keys.mode)
    digest_of(plaintext)
    return plaintext
