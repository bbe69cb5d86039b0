"""Knocks that fwknopd reads, made as fwknop's client makes them: for servers that are still to be moved."""

from __future__ import annotations

import base64
import os
import re
import time

from gatekeeper.client.fwknoprc import Settings
from gatekeeper.client.knocker import Knock, Maker
from gatekeeper.errors import ClientError
from gatekeeper.fwknop import envelope
from gatekeeper.fwknop.kinds import DIGESTS, MODES
from gatekeeper.fwknop.message import Kind, Message
from gatekeeper.settings import FwknopKeys

ANYBODY = "0.0.0.0"  # noqa: S104  (what stands for the address that a knock comes from)
_PORTS = re.compile(r"(?:tcp|udp)/[1-9]\d{0,4}(?:,(?:tcp|udp)/[1-9]\d{0,4})*", re.ASCII)
_SALT = 8
_LONGEST_KEY, _LONGEST_HMAC_KEY, _LONGEST_USER, _MOST_PORTS = 32, 136, 64, 16
_MAKE = "`fwknop --key-gen` makes keys, and `--key-file FILE` reads what it prints"
_UNSUPPORTED = {
    "NAT_ACCESS": "NAT access",
    "NAT_PORT": "NAT access",
    "SPOOF_SOURCE_IP": "another source address",
    "TIME_OFFSET": "another time than the clock's",
    "GPG_RECIPIENT": "encryption with GnuPG",
    "KEY_FILE": "a file of keys by host",
    "HMAC_KEY_FILE": "a file of keys by host",
}
_UNSUPPORTED_IF_YES = {
    "USE_GPG": "encryption with GnuPG",
    "NAT_LOCAL": "NAT access",
    "NAT_RAND_PORT": "NAT access",
    "RAND_PORT": "a random port",
}


class FwknopMaker(Maker):
    """Makes a fresh knock each time."""

    def __init__(self, keys: FwknopKeys, message: Message) -> None:
        """``message``: what each says, but for its time and its chance."""
        self._keys, self._message = keys, message
        self.warnings = {}

    def make(self, local: str, server: str, *, is_first_try: bool) -> Knock:  # noqa: ARG002
        """Make one."""
        old = self._message
        message = Message(
            user=old.user,
            sent_at=int(time.time()),
            kind=old.kind,
            text=old.text,
            nat=old.nat,
            timeout=old.timeout,
            random=f"{int.from_bytes(os.urandom(8)) % 10**16:016}",
            digest=old.digest,
        )
        return Knock(envelope.seal(message, self._keys, salt=os.urandom(_SALT)))


def message(ports: str, address: str, timeout: int | None, *, user: str, digest: str) -> Message:
    """Say what to ask for: ``tcp/22,udp/53``, for whom, and for how many seconds (``None``: as the server has it).

    Raises:
        ClientError: that cannot be asked for.
    """
    numbers = [int(one.partition("/")[2]) for one in ports.split(",")] if _PORTS.fullmatch(ports) else []
    if not 0 < len(numbers) <= _MOST_PORTS or max(numbers) > 65535:
        raise ClientError(f"{ports!a} are no ports to ask for", "write --access tcp/22, or tcp/22,udp/53")
    if not 0 < len(user) <= _LONGEST_USER or not user.isprintable():
        raise ClientError(f"no user can be called {user!a}", "name another with SPOOF_USER in the stanza")
    kind = Kind.ACCESS if timeout is None else Kind.TIMED_ACCESS
    return Message(
        user=user, sent_at=0, kind=kind, text=f"{address},{ports}", nat=None, timeout=timeout, random="", digest=digest
    )


def read_keys(settings: Settings) -> FwknopKeys:
    """Take the keys of a stanza, or of a file of keys.

    Raises:
        ClientError: there is none, or it cannot be used.
    """
    key = _key(settings, "KEY", _LONGEST_KEY)
    hmac_key = _key(settings, "HMAC_KEY", _LONGEST_HMAC_KEY)
    if key is None:
        raise ClientError(f"there is no KEY, and no KEY_BASE64, in {settings.file}", _MAKE)
    if hmac_key is None and settings.is_on("USE_HMAC"):
        raise ClientError(f"there is no HMAC_KEY, and no HMAC_KEY_BASE64, in {settings.file}", _MAKE)
    if key == hmac_key:
        raise ClientError(f"key and HMAC key in {settings.file} are the same", "fwknopd takes two that differ")
    kind = word(settings, "HMAC_DIGEST_TYPE", DIGESTS, "sha256")
    return FwknopKeys(
        key=key,
        hmac_key=hmac_key,
        hmac="none" if hmac_key is None else kind,
        mode=word(settings, "ENCRYPTION_MODE", MODES, "cbc"),
    )


def word(settings: Settings, name: str, known: tuple[str, ...], otherwise: str) -> str:
    """Read one of several words, in small letters.

    Raises:
        ClientError: it is another.
    """
    found = (settings.get(name) or otherwise).lower()
    if found not in known:
        raise ClientError(f"{name} in {settings.file} cannot be {found!a}", f"it is one of {', '.join(known)}")
    return found


def refuse_what_we_cannot(settings: Settings) -> None:
    """Refuse what a stanza asks for and we cannot do, rather than send something else.

    Raises:
        ClientError: it does.
    """
    asked = [name for name in _UNSUPPORTED if settings.get(name) is not None]
    asked += [name for name in _UNSUPPORTED_IF_YES if settings.is_on(name)]
    protocol = settings.get("SPA_SERVER_PROTO")
    if protocol is not None and protocol.lower() != "udp":
        raise ClientError(f"SPA_SERVER_PROTO in {settings.file}: knocks go by udp, not by {protocol!a}")
    for name in asked:
        words = {**_UNSUPPORTED, **_UNSUPPORTED_IF_YES}[name]
        raise ClientError(f"{name} in {settings.file}: {words} is not for this client", "use fwknop for that")


def _key(settings: Settings, name: str, longest: int) -> bytes | None:
    """Read a key; where it stands there twice, fwknop takes the one that is not base64."""
    text, encoded = settings.get(name), settings.get(f"{name}_BASE64")
    if text is not None:
        key = text.encode(errors="surrogateescape")
    elif encoded is not None:
        name = f"{name}_BASE64"
        bare = encoded.rstrip("=")
        try:
            key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        except ValueError:
            raise ClientError(f"{name} in {settings.file} is not base64", _MAKE) from None
    else:
        return None
    if not 0 < len(key) <= longest:
        raise ClientError(f"{name} in {settings.file} has {len(key)} bytes: 1 to {longest} can be used", _MAKE)
    return key
