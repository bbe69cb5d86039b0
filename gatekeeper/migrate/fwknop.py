"""Stanzas of access.conf -> clients of rules.yaml with the same effect, and what has no equal. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Network, ip_network

from gatekeeper import duration
from gatekeeper.migrate import draft as drafts
from gatekeeper.migrate import lines, names
from gatekeeper.migrate.access import Setting, Stanza
from gatekeeper.migrate.draft import Draft, DraftClient
from gatekeeper.migrate.note import Notes
from gatekeeper.settings import Ports, Transport

LocalTime = Callable[[int, int, int], float]
"""Tells when a day (year, month, day) begins on this machine: Unix seconds. May raise ``OverflowError``."""

_HMACS = ("md5", "sha1", "sha256", "sha384", "sha512", "sha3_256", "sha3_512")
_MODES = ("cbc", "cfb", "ofb", "ctr", "ecb", "legacy")
_LONGEST_KEY, _LONGEST_LEGACY_KEY, _LONGEST_HMAC_KEY = 32, 16, 136
_TTL, _MAX_TTL = 30, 300
_LONGEST_TTL = 2 << 22
_LATEST = datetime(9998, 12, 31, tzinfo=UTC).timestamp()
_PORT = re.compile(r"(tcp|udp)/(\d{1,5})", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{1,4})", re.ASCII)
_CHANGE_ME = "__CHANGEME__"
_NAME_PORTS = "name what it may open: --service ssh=tcp/22, for as many as need be"
_COMMANDS = "no command is run here: let ssh do it (a key with a forced command), once its port is open"
_NAT = (
    "let your own firewall translate the port for good (iptables -t nat -A PREROUTING ... -j DNAT), and guard what the "
    "world sees of it: {port: tcp/N, guard: published}; then give the client that service"
)


class Converter:
    """Makes clients of stanzas."""

    def __init__(self, draft: Draft, notes: Notes, local_time: LocalTime) -> None:
        self._draft, self._notes, self._local_time = draft, notes, local_time
        self._by_keys: dict[tuple[bytes, bytes], tuple[DraftClient, list[IPv4Network]]] = {}
        self._longest: dict[str, dict[int, tuple[str, int]]] = {}

    def convert(self, stanzas: list[Stanza]) -> None:
        """Put each stanza into the draft: as a client, or with the reason why it is none."""
        for number, stanza in enumerate(stanzas, 1):
            before = len(self._notes.kept)
            client = self._client(stanza, number)
            notes = self._notes.kept[before:]
            if client is not None:
                client.notes += notes
            else:
                self._draft.left_out.append(("{}:{}".format(*stanza.where), notes))
        self._set_longest()

    def _client(self, stanza: Stanza, number: int) -> DraftClient | None:
        keys = self._keys(stanza)
        if keys is None or not self._opens_ports(stanza):
            return None
        key, hmac_key = keys
        sources, expire = self._sources(stanza), self._not_after(stanza)
        services = self._services(stanza) if sources is not None and expire is not None else None
        if sources is None or expire is None or services is None:
            return None
        fields = {
            "fwknop": drafts.mapping(self._fwknop(stanza, key, hmac_key)),
            "services": drafts.sequence(services),
            "ttl": duration.show(self._ttl(stanza, services)),
            "for_others": "true",
        }
        if expire:
            fields["not_after"] = expire
        self._note_what_is_lost(stanza)
        known = self._by_keys.get(keys)
        if known is not None:
            return self._join(known, fields, sources, stanza)
        client = DraftClient("{}:{}".format(*stanza.where), fields)
        self._set_sources(client, sources)
        user = stanza.get("REQUIRE_USERNAME")
        name = names.of_client(user.value if user else None, f"fwknop-{number}", self._draft.clients)
        self._draft.clients[name] = client
        self._by_keys[keys] = client, sources
        return client

    def _join(
        self,
        known: tuple[DraftClient, list[IPv4Network]],
        fields: dict[str, str],
        sources: list[IPv4Network],
        stanza: Stanza,
    ) -> DraftClient | None:
        """Add a stanza with the keys of another to it, if they differ by their sources only."""
        client, theirs = known
        if {key: value for key, value in client.fields.items() if key != "from"} != fields:
            self._notes.add(
                stanza.where,
                f"its keys are those of {client.origin}, its rights are others: one key is one client here",
                "give it keys of its own, or write into the other one what both shall have",
            )
            return None
        theirs[:] = [*theirs, *sources] if theirs and sources else []  # none: anywhere
        self._set_sources(client, theirs)
        return client

    @staticmethod
    def _set_sources(client: DraftClient, sources: list[IPv4Network]) -> None:
        client.fields.pop("from", None)
        if sources:
            client.fields["from"] = drafts.sequence(dict.fromkeys(map(str, sources)))

    # -- keys

    def _keys(self, stanza: Stanza) -> tuple[bytes, bytes] | None:
        """Return key and HMAC key (empty if there is none), or ``None`` where no client can be made of them."""
        setting, hmac_setting = stanza.get("KEY", "KEY_BASE64"), stanza.get("HMAC_KEY", "HMAC_KEY_BASE64")
        gpg = stanza.get("GPG_DECRYPT_PW") or stanza.is_on("GPG_ALLOW_NO_PW") or stanza.get("GPG_DECRYPT_ID")
        if gpg is not None:
            hint: str | None = "make the client a sealed key: gatekeeper invite, gatekeeper join"
            for one in (one for one in stanza.settings if one.name.startswith("GPG_")):
                self._notes.add(one.where, f"{one.name}: knocks that are encrypted with GnuPG are refused", hint)
                hint = None  # once is enough
        if setting is None:
            if gpg is None:
                self._notes.add(stanza.where, "this stanza has no KEY: fwknopd refuses such a file", None)
            return None
        key = self._key(setting)
        hmac_key = b"" if hmac_setting is None else self._key(hmac_setting)
        if key is None or hmac_key is None:
            return None
        is_legacy = self._mode(stanza) == "legacy"
        if is_legacy and len(key) > _LONGEST_LEGACY_KEY:
            self._notes.add(
                setting.where, f"{setting.name}: its first {_LONGEST_LEGACY_KEY} bytes count in legacy mode"
            )
            key = key[:_LONGEST_LEGACY_KEY]
        for name, value, longest in (("KEY", key, _LONGEST_KEY), ("HMAC_KEY", hmac_key, _LONGEST_HMAC_KEY)):
            if len(value) > longest:
                where = (stanza.get(name, f"{name}_BASE64") or setting).where
                words = f"{name}: it has {len(value)} bytes, and fwknop's clients can use {longest}"
                self._notes.add(where, words, "give the client another key")
                return None
        if key == hmac_key:
            self._notes.add(setting.where, f"{setting.name} is the HMAC key too: fwknopd refuses such a file")
            return None
        return key, hmac_key

    def _key(self, setting: Setting) -> bytes | None:
        hint = "make keys with `fwknop --key-gen`, and give them to the client too"
        if setting.value.upper() == _CHANGE_ME:
            self._notes.add(setting.where, f"{setting.name} has not been set: fwknopd refuses such a file", hint)
            return None
        if not setting.name.endswith("_BASE64"):
            return lines.as_bytes(setting.value)
        text = setting.value.partition("=")[0]
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            self._notes.add(setting.where, f"{setting.name} is not base64", hint)
            return None
        if not key:
            self._notes.add(setting.where, f"{setting.name} is empty", hint)
            return None
        return key

    def _mode(self, stanza: Stanza) -> str | None:
        setting = stanza.get("ENCRYPTION_MODE")
        mode = "cbc" if setting is None else setting.value.lower()
        return mode if mode in _MODES else None

    def _fwknop(self, stanza: Stanza, key: bytes, hmac_key: bytes) -> dict[str, str]:
        fields = _shown("key", key, stanza)
        kind = stanza.get("HMAC_DIGEST_TYPE")
        if hmac_key:
            fields |= _shown("hmac_key", hmac_key, stanza)
            name = "sha256" if kind is None else kind.value.lower()
            if kind is not None and name not in _HMACS:
                self._notes.add(kind.where, f"{kind.name}: {kind.value!a} is none that fwknopd knows; sha256 is taken")
                name = "sha256"
            fields["hmac"] = name
        else:
            self._notes.add(
                stanza.where,
                "it has no HMAC_KEY: whoever guesses a passphrase, or alters a packet, is not found out",
                "give it one, and its client as well, as soon as you can: hmac: none is for the time until then",
            )
            fields["hmac"] = "none"
        mode = self._mode(stanza)
        if mode is None:
            setting = stanza.get("ENCRYPTION_MODE")
            assert setting is not None  # noqa: S101  (for the type checker: only a setting can be wrong)
            self._notes.add(
                setting.where, f"{setting.name}: {setting.value!a} is none that a KEY can have; cbc is taken"
            )
        elif mode != "cbc":
            fields["mode"] = mode
        if stanza.is_on("REQUIRE_SOURCE_ADDRESS", "REQUIRE_SOURCE"):
            fields["require_source"] = "true"
        user = stanza.get("REQUIRE_USERNAME")
        if user is not None:
            if user.value.isprintable() and len(user.value) <= 64:
                fields["user"] = user.value
            else:
                self._notes.add(user.where, f"{user.name}: no message can bear the name {user.value!a}; it is left out")
        return fields

    # -- what may be opened

    def _opens_ports(self, stanza: Stanza) -> bool:
        """Tell whether what a stanza does is to open ports of this machine."""
        cycle, nat, everything = stanza.get("CMD_CYCLE_OPEN"), stanza.get("FORCE_NAT"), stanza.is_on("FORWARD_ALL")
        if cycle is not None:
            words = f"{cycle.name}: commands that open and close have no equal"
            hint = "if all they do is open a port, write OPEN_PORTS in their place, and import again"
            self._notes.add(cycle.where, words, hint)
            return False
        led = nat or everything
        if led is not None:
            words = (
                f"{led.name}: leading connections elsewhere has no equal; without that, a port of this machine's opens"
            )
            self._notes.add(led.where, words, _NAT)
            return False
        return True

    def _sources(self, stanza: Stanza) -> list[IPv4Network] | None:
        """Return where knocks may come from (none: anywhere), or ``None`` if that cannot be read."""
        setting = stanza.settings[0]
        found: list[IPv4Network] = []
        for word in map(str.strip, setting.value.split(",")):
            if word.upper() == "ANY":
                return []
            try:
                network = ip_network(word, strict=False)
            except ValueError:
                network = None
            if not isinstance(network, IPv4Network):
                self._notes.add(
                    setting.where, f"SOURCE: {word!a} is no IPv4 address or network: fwknopd refuses such a file"
                )
                return None
            found.append(network)
        return found

    def _services(self, stanza: Stanza) -> list[str] | None:
        """Name the services of a stanza, or ``None`` if there is none."""
        asked, refused = stanza.get("OPEN_PORTS"), self._ports(stanza.get("RESTRICT_PORTS"))
        if asked is None:
            ports = list(self._draft.wanted.values())
            restricts = stanza.get("RESTRICT_PORTS")
            where = stanza.where if restricts is None else restricts.where
            words = "any port may be asked for" if restricts is None else "any port may be asked for, but for a few"
            if not ports:
                self._notes.add(where, f"it has no OPEN_PORTS: {words}, which has no equal", _NAME_PORTS)
                return None
            self._notes.add(where, f"it has no OPEN_PORTS: {words}, which has no equal; those of --service are taken")
        else:
            ports = self._ports(asked)
        found: list[str] = []
        for one in ports:
            if any(one.overlaps(other) for other in refused):
                continue
            name = self._draft.service(one)
            if name is None:
                where = (asked or stanza.settings[0]).where
                self._notes.add(where, f"{one} is a part of another service: it is left out", "name it with --service")
            elif name not in found:
                found.append(name)
        if not found:
            where = (asked or stanza.settings[0]).where
            self._notes.add(where, "there is no port left that it may open", _NAME_PORTS)
        return found or None

    def _ports(self, setting: Setting | None) -> list[Ports]:
        found: list[Ports] = []
        for word in map(str.strip, setting.value.split(",")) if setting else ():
            match = _PORT.fullmatch(word)
            if setting is None or match is None or not 1 <= int(match[2]) <= 65535:
                where = setting.where if setting else ("", 0)
                self._notes.add(where, f"{word!a} is no port: fwknopd refuses such a file", "write tcp/22 or udp/53")
                continue
            found.append(Ports(Transport(match[1].lower()), int(match[2])))
        return found

    # -- until when

    def _ttl(self, stanza: Stanza, services: list[str]) -> int:
        """Return for how long a knock opens; remember how long one may ask for."""
        ttl = self._seconds(stanza.get("FW_ACCESS_TIMEOUT"), _TTL)
        longest = max(ttl, self._seconds(stanza.get("MAX_FW_TIMEOUT"), _MAX_TTL))
        where = (stanza.get("MAX_FW_TIMEOUT", "FW_ACCESS_TIMEOUT") or stanza.settings[0]).where
        for name in services:
            self._longest.setdefault(name, {}).setdefault(longest, where)
        return ttl

    def _set_longest(self) -> None:
        """Give each service the longest of what its clients may ask for."""
        for name, found in self._longest.items():
            service = self._draft.services[name]
            service.max_ttl = max(found)
            for seconds, where in found.items():
                if seconds < service.max_ttl:
                    words = (
                        f"MAX_FW_TIMEOUT: its clients may ask for {duration.show(service.max_ttl)} of {name}, "
                        f"not {duration.show(seconds)}: how long one may ask for belongs to the service here"
                    )
                    self._notes.add(where, words, "make max_ttl of the service shorter if that is too long")

    def _seconds(self, setting: Setting | None, default: int) -> int:
        if setting is None:
            return default
        found = int(setting.value) if _NUMBER.fullmatch(setting.value) else -1
        if 0 <= found <= _LONGEST_TTL:
            return found or default
        self._notes.add(setting.where, f"{setting.name}: {setting.value!a} is no number of seconds; {default} is taken")
        return default

    def _not_after(self, stanza: Stanza) -> str | None:
        """Return its last moment (empty: it has none), or ``None`` if that cannot be read."""
        setting = stanza.get("ACCESS_EXPIRE", "ACCESS_EXPIRE_EPOCH")
        if setting is None:
            return ""
        end = self._expiry(setting)
        if end is None:
            words = f"{setting.name}: {setting.value!a} cannot be read: fwknopd refuses such a file"
            self._notes.add(setting.where, words, "write MM/DD/YYYY, or seconds for ACCESS_EXPIRE_EPOCH")
            return None
        if end <= 0 or end > _LATEST:
            return ""
        return datetime.fromtimestamp(int(end), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _expiry(self, setting: Setting) -> float | None:
        if setting.name == "ACCESS_EXPIRE_EPOCH":
            return float(setting.value) if _NUMBER.fullmatch(setting.value) else None
        match = _DATE.match(setting.value)
        if match is None:
            return None
        month, day, year = (int(number) for number in match.groups())
        try:
            return self._local_time(year + 2000 if year < 100 else year, max(month, 1), day)
        except (OverflowError, ValueError, OSError):
            return None

    # -- what is lost

    def _note_what_is_lost(self, stanza: Stanza) -> None:
        command = stanza.is_on("ENABLE_CMD_EXEC")
        if command is not None:
            self._notes.add(command.where, f"{command.name}: messages with commands are refused", _COMMANDS)
        destination = stanza.get("DESTINATION")
        if destination is not None and "ANY" not in [word.strip() for word in destination.value.upper().split(",")]:
            words = f"{destination.name}: a knock may go to any address of this machine"
            self._notes.add(destination.where, words, "`address` of a service says at which its port is guarded")
        for name in ("FORCE_SNAT", "FORCE_MASQUERADE"):
            setting = stanza.get(name)
            if setting is not None and (name == "FORCE_SNAT" or setting.is_yes):
                self._notes.add(setting.where, f"{name}: nothing is translated here; fwknopd wants FORCE_NAT with it")


def _shown(name: str, key: bytes, stanza: Stanza) -> dict[str, str]:
    """Write a key as the stanza has it: as it is, or in base64; in base64 too if it is no plain text."""
    setting = stanza.get(name.upper(), f"{name.upper()}_BASE64")
    is_text = key.isascii() and key.decode("ascii").isprintable() and key.strip() == key
    if is_text and setting is not None and not setting.name.endswith("_BASE64"):
        return {name: key.decode("ascii")}
    return {f"{name}_base64": base64.b64encode(key).decode("ascii")}
