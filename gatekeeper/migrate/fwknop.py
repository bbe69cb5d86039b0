"""Stanzas of access.conf -> clients of rules.yaml with the same effect, and what has no equal. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Network, ip_network

from gatekeeper import duration
from gatekeeper.migrate import draft as drafts
from gatekeeper.migrate import names, stanzakeys
from gatekeeper.migrate.access import Setting, Stanza
from gatekeeper.migrate.draft import Draft, DraftClient
from gatekeeper.migrate.note import Notes
from gatekeeper.settings import Ports, Transport

LocalTime = Callable[[int, int, int], float]
"""Tells when a day (year, month, day) begins on this machine: Unix seconds. May raise ``OverflowError``."""

_TTL, _MAX_TTL = 30, 300
_LONGEST_TTL = 2 << 22
_LATEST = datetime(9998, 12, 31, tzinfo=UTC).timestamp()
_PORT = re.compile(r"(tcp|udp)/(\d{1,5})", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{1,4})", re.ASCII)
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
        keys = stanzakeys.read(stanza, self._notes)
        if keys is None or not self._opens_ports(stanza):
            return None
        key, hmac_key = keys
        sources, expire = self._sources(stanza), self._not_after(stanza)
        services = self._services(stanza) if sources is not None and expire is not None else None
        if sources is None or expire is None or services is None:
            return None
        fields = {
            "fwknop": drafts.mapping(stanzakeys.fields(stanza, key, hmac_key, self._notes)),
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
