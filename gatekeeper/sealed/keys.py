"""X25519 keys (RFC 7748), written as WireGuard writes them: base64 of 32 bytes.

A key is 32 bytes here; which kind, the name says. Any 32 bytes are a private key: X25519 itself sets and
clears the bits that must be (RFC 7748, 5).
"""

from __future__ import annotations

import binascii
import os

from gatekeeper.sealed.primitives import private_key, public_bytes, public_key

SIZE = 32
_TEXT = 44
_PRIME = 2**255 - 19
# The points of low order: with these, the shared secret is the same whatever the private key (RFC 7748, 6.1).
_LOW_ORDER = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _PRIME - 1,
    }
)


def generate() -> bytes:
    """Make a private key: 32 bytes from the operating system, the bits set and cleared as ``wg genkey`` does."""
    raw = bytearray(os.urandom(SIZE))
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return bytes(raw)


def public_of(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return public_bytes(private_key(private))


def exchange(private: bytes, public: bytes) -> bytes:
    """Return the shared secret (X25519).

    Raises:
        ValueError: the public key is of low order, so that the secret would be none.
    """
    return private_key(private).exchange(public_key(public))


def show(key: bytes) -> str:
    """Write a key as ``wg`` does."""
    return binascii.b2a_base64(key, newline=False).decode()


def parse(text: str) -> bytes:
    """Read a key that ``show`` or ``wg genkey`` wrote.

    Raises:
        ValueError: it is not one; the message says why, and does not repeat it (it may be a private key).
    """
    stripped = text.strip()
    if len(stripped) != _TEXT:
        raise ValueError(f"a key is {_TEXT} characters of base64, not {len(stripped)}")
    try:
        key = binascii.a2b_base64(stripped.encode(), strict_mode=True)
    except (binascii.Error, UnicodeError):
        raise ValueError("this is not base64") from None
    if len(key) != SIZE or show(key) != stripped:
        raise ValueError(f"this is not the base64 of {SIZE} bytes")
    return key


def parse_public(text: str) -> bytes:
    """Read a public key that can be used: in its one canonical form, and not of low order.

    Raises:
        ValueError: it cannot; the message says why.
    """
    key = parse(text)
    number = int.from_bytes(key, "little")
    if number >= _PRIME:
        raise ValueError("this is not the canonical form of a public key")
    if number in _LOW_ORDER:
        raise ValueError("this public key is of low order: it would keep no secret")
    return key
