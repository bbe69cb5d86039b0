"""What a client of fwknop's has in a rules file: its keys, and how it uses them.

Pure but for what it is handed: ``read_key`` fetches the content of a key file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple

from gatekeeper.fwknop.kinds import DIGESTS, MODES
from gatekeeper.rules import values
from gatekeeper.rules.document import Document, Entry
from gatekeeper.rules.values import ReadKey
from gatekeeper.settings import FwknopKeys

_FORMS = ("", "_base64", "_file", "_base64_file")
_FIELDS = (*(f"{secret}{form}" for secret in ("key", "hmac_key") for form in _FORMS), "hmac", "mode")
_ALSO = ("require_source", "user")
_NONE = "none"
MAX_KEY, MAX_HMAC_KEY = 32, 136
"""Bytes: what fwknop's clients can use."""
_LONGEST_USER = 64


class Found(NamedTuple):
    """What stands there."""

    keys: FwknopKeys
    require_source: bool


class FwknopReader:
    """Reads ``fwknop`` of each client."""

    def __init__(self, document: Document, read_key: ReadKey) -> None:
        self._doc = document
        self._read_key = read_key
        self._known: dict[tuple[bytes, bytes | None], str] = {}

    def read(self, field: Entry, what: str) -> Found | None:
        """Read it; ``None``: it cannot be used, which was complained about."""
        what = f"fwknop of {what}"
        fields = self._doc.fields(field.value, what, (*_FIELDS, *_ALSO))
        kind = values.word(self._doc, fields["hmac"], (*DIGESTS, _NONE)) if "hmac" in fields else "sha256"
        mode = values.word(self._doc, fields["mode"], MODES) if "mode" in fields else "cbc"
        key = self._secret(fields, "key", MAX_KEY, what)
        hmac_key = self._secret(fields, "hmac_key", MAX_HMAC_KEY, what)
        user = self._user(fields.get("user"), what)
        require_source = values.truth(self._doc, fields.get("require_source"))
        if not any(f"key{form}" in fields for form in _FORMS):
            hint = "KEY or KEY_BASE64 of its stanza in access.conf; `fwknop --key-gen` makes one"
            self._doc.complain(field.key, f"{what} has no key", f"add key: or key_base64: ({hint})")
            return None
        has_hmac_key = [fields[f"hmac_key{form}"] for form in _FORMS if f"hmac_key{form}" in fields]
        if kind == _NONE and has_hmac_key:
            self._doc.complain(has_hmac_key[0].key, f"{what} has an HMAC key, and hmac: none", "take one of them out")
        elif kind == _NONE:
            hint = "it costs a decryption for each packet that could be its; have the client send one (--use-hmac)"
            self._doc.warn(fields["hmac"].value, f"{what}: only its encryption says who has sent a knock", hint)
        elif not has_hmac_key:
            hint = "add hmac_key: or hmac_key_base64:; or hmac: none, where its knocks have none"
            self._doc.complain(field.key, f"{what} has no HMAC key", hint)
        if key is None or kind is None or mode is None or (hmac_key is None and kind != _NONE):
            return None
        if (key, hmac_key) in self._known:
            hint = "nobody could tell whose knock it is; give each its own, or make one client of them"
            self._doc.complain(field.key, f"{what} has the keys of {self._known[key, hmac_key]} too", hint)
            return None
        self._known[key, hmac_key] = what
        return Found(FwknopKeys(key=key, hmac_key=hmac_key, hmac=kind, mode=mode, user=user), require_source)

    def _secret(self, fields: Mapping[str, Entry], name: str, longest: int, what: str) -> bytes | None:
        """Read a key in one of its four forms."""
        those = [fields[f"{name}{form}"] for form in _FORMS if f"{name}{form}" in fields]
        if not those:
            return None
        field = those[0]
        if len(those) > 1:
            self._doc.complain(those[1].key, f"{what} has both {field.name} and {those[1].name}", "keep one of them")
            return None
        if field.name.endswith("_file"):
            raw = values.file_content(self._doc, field, self._read_key)
        else:
            text = self._doc.text(field.value, field.name)
            raw = None if text is None else text.encode()
        if raw is None:
            return None
        is_base64 = "_base64" in field.name
        secret = self._decoded(raw, field, what) if is_base64 else raw
        return secret if secret is not None and self._is_usable(secret, longest, field, what) else None

    def _decoded(self, raw: bytes, field: Entry, what: str) -> bytes | None:
        try:
            return base64.b64decode(raw.strip(), validate=True)
        except binascii.Error:
            hint = "copy it whole, with the = at its end; a passphrase belongs into the field without _base64"
            self._doc.complain(field.value, f"{field.name} of {what} is not base64", hint)
            return None

    def _is_usable(self, secret: bytes, longest: int, field: Entry, what: str) -> bool:
        if not secret:
            self._doc.complain(field.value, f"{field.name} of {what} is empty")
            return False
        if len(secret) > longest:
            words = f"{field.name} of {what} has {len(secret)} bytes, and fwknop's clients can use {longest}"
            hint = "is it base64? then it belongs into the field with _base64" if "_base64" not in field.name else None
            self._doc.complain(field.value, words, hint)
            return False
        if "_base64" not in field.name and (b"\n" in secret or b"\r" in secret):
            self._doc.complain(field.value, f"{field.name} of {what} has more than one line")
            return False
        if values.is_guessable(secret):
            hint = "whoever has recorded a knock can try keys at leisure: `fwknop --key-gen` makes better ones"
            self._doc.warn(field.value, f"{field.name} of {what} is easy to guess", hint)
        return True

    def _user(self, field: Entry | None, what: str) -> str | None:
        user = None if field is None else self._doc.text(field.value, field.name)
        if field is not None and user is not None and not 0 < len(user) <= _LONGEST_USER:
            self._doc.complain(field.value, f"user of {what} must have 1 to {_LONGEST_USER} characters")
        return user
