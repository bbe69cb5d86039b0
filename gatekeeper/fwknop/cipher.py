"""How fwknop encrypts: AES-256 with a key and an IV that OpenSSL's old derivation makes of a key and a salt. Pure.

Old and weak (MD5, one round, so a passphrase is guessed fast), and what the clients out there do. What it lacks is made
up for by the HMAC around it, which is looked at first (``envelope.py``).
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR, ECB
from cryptography.hazmat.primitives.padding import PKCS7

from gatekeeper.fwknop.text import padded, unpadded

SALT = 8
"""Bytes of salt."""
_MAGIC = b"Salted__"
_BLOCK = 16
_LEGACY_KEY = 16
"""Bytes of a key in the mode of fwknop before 2.5: shorter ones are filled up, longer ones cut."""


def encrypt(plaintext: bytes, key: bytes, mode: str, salt: bytes) -> bytes:
    """Encrypt; return the body in base64, with its prefix and without padding."""
    padder = PKCS7(_BLOCK * 8).padder()
    blocks = padder.update(plaintext) + padder.finalize()
    return unpadded(_MAGIC + salt + _run(blocks, key, mode, salt, forward=True))


def decrypt(body: bytes, key: bytes, mode: str) -> bytes:
    """Decrypt a body in base64.

    Raises:
        ValueError: it is none, or was not encrypted with this key in this mode.
    """
    raw = padded(body)
    start = len(_MAGIC) + SALT
    if not raw.startswith(_MAGIC) or len(raw) <= start or len(raw) % _BLOCK:
        raise ValueError("it is not a salted body of whole blocks")
    blocks = _run(raw[start:], key, mode, raw[len(_MAGIC) : start], forward=False)
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    try:
        return unpadder.update(blocks) + unpadder.finalize()
    except ValueError:
        raise ValueError("it was encrypted with another key, or in another mode") from None


def _run(blocks: bytes, key: bytes, mode: str, salt: bytes, *, forward: bool) -> bytes:
    """Encrypt (``forward``) or decrypt whole blocks."""
    if mode == "legacy":
        mode, key = "cbc", key[:_LEGACY_KEY].ljust(_LEGACY_KEY, b"0")
    key, iv = _derive(key, salt)
    if mode in ("cfb", "ofb"):
        return _feedback(blocks, key, iv, by_output=mode == "ofb", forward=forward)
    means = CBC(iv) if mode == "cbc" else CTR(iv) if mode == "ctr" else ECB()  # noqa: S305
    cipher = Cipher(algorithms.AES(key), means)
    run = cipher.encryptor() if forward else cipher.decryptor()
    return run.update(blocks) + run.finalize()


def _feedback(blocks: bytes, key: bytes, iv: bytes, *, by_output: bool, forward: bool) -> bytes:
    """CFB and OFB of whole blocks. By ourselves: the library is about to give them up, and they are this short."""
    run = Cipher(algorithms.AES(key), ECB()).encryptor()  # noqa: S305  (a block at a time)
    done = bytearray()
    for start in range(0, len(blocks), _BLOCK):
        block, stream = blocks[start : start + _BLOCK], run.update(iv)
        mixed = (int.from_bytes(block) ^ int.from_bytes(stream)).to_bytes(_BLOCK)
        done += mixed
        iv = stream if by_output else mixed if forward else block
    return bytes(done)


def _derive(key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Make a key of 32 and an IV of 16 bytes: EVP_BytesToKey of OpenSSL, with MD5 and one round."""
    made = last = b""
    while len(made) < 48:
        last = hashlib.md5(last + key + salt, usedforsecurity=False).digest()
        made += last
    return made[:32], made[32:48]
