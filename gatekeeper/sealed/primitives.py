"""X25519, ChaCha20-Poly1305 and BLAKE2s. Pure. Here because of what they take to import.

ssh waits for our client at every connect. The public modules of ``cryptography`` are faces of objects that its
binding holds, and take 30 ms to import; ``hashlib`` takes 7 ms, for hashes that are not needed here. So these
are the objects themselves, and the public faces where they cannot be found so (any more). What runs
underneath is the same; the tests run both ways.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as the one of typing, which takes 5 ms
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

__all__ = ["ChaCha20Poly1305", "blake2s", "private_key", "public_bytes", "public_key"]

try:
    from _blake2 import blake2s  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from hashlib import blake2s

try:
    from cryptography.hazmat.bindings._rust import openssl as _binding

    _from_private_bytes = _binding.x25519.from_private_bytes
    _from_public_bytes = _binding.x25519.from_public_bytes
    ChaCha20Poly1305 = _binding.aead.ChaCha20Poly1305
except (ImportError, AttributeError):
    from cryptography.hazmat.primitives.asymmetric import x25519 as _public
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    _from_private_bytes = _public.X25519PrivateKey.from_private_bytes
    _from_public_bytes = _public.X25519PublicKey.from_public_bytes


def private_key(raw: bytes) -> X25519PrivateKey:
    """Load a private key of 32 bytes."""
    return _from_private_bytes(raw)


def public_key(raw: bytes) -> X25519PublicKey:
    """Load a public key of 32 bytes."""
    return _from_public_bytes(raw)


def public_bytes(private: X25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public key of a private one."""
    public = private.public_key()
    try:
        return public.public_bytes_raw()
    except AttributeError:  # before cryptography 40, which is younger than Debian 12
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

        return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
