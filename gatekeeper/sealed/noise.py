"""Noise_KK_25519_ChaChaPoly_BLAKE2s, its two messages (The Noise Protocol Framework, revision 34, 7.5).

::

    KK:
      -> s
      <- s
      ...
      -> e, es, ss
      <- e, ee, se

Pure: ephemeral keys come in as arguments. There is no transport phase: the handshake's payloads are all
that is ever said. ``ss`` comes in as an argument too, because the server has it at hand for each client.
"""

from __future__ import annotations

from gatekeeper.sealed.primitives import ChaCha20Poly1305, blake2s, private_key, public_bytes, public_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

PROTOCOL = b"Noise_KK_25519_ChaChaPoly_BLAKE2s"
OVERHEAD = 48
"""Bytes that a message is longer than its payload: an X25519 key and a Poly1305 tag."""

_START = blake2s(PROTOCOL).digest()  # 5.2: the name is longer than a hash, so it is hashed
_INNER, _OUTER = bytes(x ^ 0x36 for x in range(256)), bytes(x ^ 0x5C for x in range(256))
_INNER_REST, _OUTER_REST = b"\x36" * 32, b"\x5c" * 32  # a block of BLAKE2s is 64 bytes
_NONCE = bytes(12)  # each key of this handshake seals one payload


class LowOrderError(ValueError):
    """A public key that leads to no secret (RFC 7748, 6.1)."""


class Handshake:
    """One handshake, from either end: symmetric state (5.2), and the ephemeral keys once they are known."""

    def __init__(self, prologue: bytes, *, initiator: bytes, responder: bytes, ss: bytes) -> None:
        """Begin, with both static public keys and the secret that they share."""
        self._ck = _START
        self._h = blake2s(_START + prologue).digest()
        self._mix_hash(initiator)
        self._mix_hash(responder)
        self._initiator, self._responder = initiator, responder
        self._ss = ss
        self._k = b""
        self._e: X25519PrivateKey | None = None
        self._re = b""

    # -- the first message: initiator to responder

    def write_first(self, payload: bytes, ephemeral: bytes) -> bytes:
        """Initiator: seal the first message. ``ephemeral`` is a fresh private key, never used twice."""
        self._e = private_key(ephemeral)
        e = public_bytes(self._e)
        return e + self._first(e, _exchange(self._e, self._responder), payload, seal=True)

    def read_first(self, message: bytes, private: X25519PrivateKey) -> bytes:
        """Responder: open the first message with the static private key; return its payload.

        Raises:
            ValueError: it was not sealed by the initiator for us, or its ephemeral key is of low order.
        """
        self._re = message[:32]
        return self._first(self._re, _exchange(private, self._re), message[32:], seal=False)

    def _first(self, e: bytes, es: bytes, text: bytes, *, seal: bool) -> bytes:
        self._mix_hash(e)
        self._mix_key(es)
        self._mix_key(self._ss)
        return self._crypt(text, seal=seal)

    # -- the second message: responder to initiator

    def write_second(self, payload: bytes, ephemeral: bytes) -> bytes:
        """Responder: seal the answer."""
        mine = private_key(ephemeral)
        e = public_bytes(mine)
        return e + self._second(e, _exchange(mine, self._re), _exchange(mine, self._initiator), payload, seal=True)

    def read_second(self, message: bytes, private: X25519PrivateKey) -> bytes:
        """Initiator: open the answer with the static private key; return its payload.

        Raises:
            ValueError: it is not the responder's answer to our first message.
        """
        assert self._e is not None, "the first message comes first"  # noqa: S101
        e, state = message[:32], (self._h, self._ck, self._k)
        try:
            return self._second(e, _exchange(self._e, e), _exchange(private, e), message[32:], seal=False)
        except ValueError:  # anybody can send something: the answer may still come
            self._h, self._ck, self._k = state
            raise

    def _second(self, e: bytes, ee: bytes, se: bytes, text: bytes, *, seal: bool) -> bytes:
        self._mix_hash(e)
        self._mix_key(ee)
        self._mix_key(se)
        return self._crypt(text, seal=seal)

    # -- the symmetric state

    def _mix_hash(self, data: bytes) -> None:
        self._h = blake2s(self._h + data).digest()

    def _mix_key(self, secret: bytes) -> None:
        """HKDF with two outputs (4.3)."""
        temporary = _hmac(self._ck, secret)
        self._ck = _hmac(temporary, b"\x01")
        self._k = _hmac(temporary, self._ck + b"\x02")

    def _crypt(self, text: bytes, *, seal: bool) -> bytes:
        cipher, h = ChaCha20Poly1305(self._k), self._h
        if seal:
            sealed = cipher.encrypt(_NONCE, text, h)
            self._mix_hash(sealed)
            return sealed
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  (a client that only knocks does without)

        try:
            opened = cipher.decrypt(_NONCE, text, h)
        except InvalidTag:
            raise ValueError("the seal is not right") from None
        self._mix_hash(text)
        return opened


def _hmac(key: bytes, message: bytes) -> bytes:
    """HMAC-BLAKE2s (RFC 2104) with a key of 32 bytes; the module ``hmac`` takes 7 ms to import."""
    inner = blake2s(key.translate(_INNER) + _INNER_REST + message).digest()
    return blake2s(key.translate(_OUTER) + _OUTER_REST + inner).digest()


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(public_key(public))
    except ValueError:
        raise LowOrderError("a public key of low order") from None
