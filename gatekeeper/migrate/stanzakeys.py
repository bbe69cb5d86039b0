"""The keys of a stanza of access.conf, and what goes with them, as rules.yaml has them. Pure."""

from __future__ import annotations

import base64
import binascii

from gatekeeper.migrate import lines
from gatekeeper.migrate.access import Setting, Stanza
from gatekeeper.migrate.note import Notes

_HMACS = ("md5", "sha1", "sha256", "sha384", "sha512", "sha3_256", "sha3_512")
_MODES = ("cbc", "cfb", "ofb", "ctr", "ecb", "legacy")
_LONGEST_KEY, _LONGEST_LEGACY_KEY, _LONGEST_HMAC_KEY = 32, 16, 136
_CHANGE_ME = "__CHANGEME__"


def read(stanza: Stanza, notes: Notes) -> tuple[bytes, bytes] | None:
    """Return key and HMAC key (empty if there is none), or ``None`` where no client can be made of them."""
    setting, hmac_setting = stanza.get("KEY", "KEY_BASE64"), stanza.get("HMAC_KEY", "HMAC_KEY_BASE64")
    gpg = stanza.get("GPG_DECRYPT_PW") or stanza.is_on("GPG_ALLOW_NO_PW") or stanza.get("GPG_DECRYPT_ID")
    if gpg is not None:
        hint: str | None = "make the client a sealed key: gatekeeper invite, gatekeeper join"
        for one in (one for one in stanza.settings if one.name.startswith("GPG_")):
            notes.add(one.where, f"{one.name}: knocks that are encrypted with GnuPG are refused", hint)
            hint = None  # once is enough
    if setting is None:
        if gpg is None:
            notes.add(stanza.where, "this stanza has no KEY: fwknopd refuses such a file", None)
        return None
    key = _key(setting, notes)
    hmac_key = b"" if hmac_setting is None else _key(hmac_setting, notes)
    if key is None or hmac_key is None:
        return None
    is_legacy = _mode(stanza) == "legacy"
    if is_legacy and len(key) > _LONGEST_LEGACY_KEY:
        notes.add(setting.where, f"{setting.name}: its first {_LONGEST_LEGACY_KEY} bytes count in legacy mode")
        key = key[:_LONGEST_LEGACY_KEY]
    for name, value, longest in (("KEY", key, _LONGEST_KEY), ("HMAC_KEY", hmac_key, _LONGEST_HMAC_KEY)):
        if len(value) > longest:
            where = (stanza.get(name, f"{name}_BASE64") or setting).where
            words = f"{name}: it has {len(value)} bytes, and fwknop's clients can use {longest}"
            notes.add(where, words, "give the client another key")
            return None
    if key == hmac_key:
        notes.add(setting.where, f"{setting.name} is the HMAC key too: fwknopd refuses such a file")
        return None
    return key, hmac_key


def _key(setting: Setting, notes: Notes) -> bytes | None:
    hint = "make keys with `fwknop --key-gen`, and give them to the client too"
    if setting.value.upper() == _CHANGE_ME:
        notes.add(setting.where, f"{setting.name} has not been set: fwknopd refuses such a file", hint)
        return None
    if not setting.name.endswith("_BASE64"):
        return lines.as_bytes(setting.value)
    text = setting.value.partition("=")[0]
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        notes.add(setting.where, f"{setting.name} is not base64", hint)
        return None
    if not key:
        notes.add(setting.where, f"{setting.name} is empty", hint)
        return None
    return key


def _mode(stanza: Stanza) -> str | None:
    setting = stanza.get("ENCRYPTION_MODE")
    mode = "cbc" if setting is None else setting.value.lower()
    return mode if mode in _MODES else None


def fields(stanza: Stanza, key: bytes, hmac_key: bytes, notes: Notes) -> dict[str, str]:
    """Return the fields of ``fwknop:``, not yet quoted; note what is no value that it can have."""
    found = _shown("key", key, stanza)
    kind = stanza.get("HMAC_DIGEST_TYPE")
    if hmac_key:
        found |= _shown("hmac_key", hmac_key, stanza)
        name = "sha256" if kind is None else kind.value.lower()
        if kind is not None and name not in _HMACS:
            notes.add(kind.where, f"{kind.name}: {kind.value!a} is none that fwknopd knows; sha256 is taken")
            name = "sha256"
        found["hmac"] = name
    else:
        notes.add(
            stanza.where,
            "it has no HMAC_KEY: whoever guesses a passphrase, or alters a packet, is not found out",
            "give it one, and its client as well, as soon as you can: hmac: none is for the time until then",
        )
        found["hmac"] = "none"
    mode = _mode(stanza)
    if mode is None:
        setting = stanza.get("ENCRYPTION_MODE")
        assert setting is not None  # noqa: S101  (for the type checker: only a setting can be wrong)
        notes.add(setting.where, f"{setting.name}: {setting.value!a} is none that a KEY can have; cbc is taken")
    elif mode != "cbc":
        found["mode"] = mode
    if stanza.is_on("REQUIRE_SOURCE_ADDRESS", "REQUIRE_SOURCE"):
        found["require_source"] = "true"
    user = stanza.get("REQUIRE_USERNAME")
    if user is not None:
        if user.value.isprintable() and len(user.value) <= 64:
            found["user"] = user.value
        else:
            notes.add(user.where, f"{user.name}: no message can bear the name {user.value!a}; it is left out")
    return found


def _shown(name: str, key: bytes, stanza: Stanza) -> dict[str, str]:
    """Write a key as the stanza has it: as it is, or in base64; in base64 too if it is no plain text."""
    setting = stanza.get(name.upper(), f"{name.upper()}_BASE64")
    is_text = key.isascii() and key.decode("ascii").isprintable() and key.strip() == key
    if is_text and setting is not None and not setting.name.endswith("_BASE64"):
        return {name: key.decode("ascii")}
    return {f"{name}_base64": base64.b64encode(key).decode("ascii")}
