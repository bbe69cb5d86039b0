"""The clients of a rules file: whose keys, for which services, from where, until when.

Pure but for what it is handed: ``read_key`` fetches the content of an ``open_file``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import yaml

from gatekeeper import duration
from gatekeeper.networks import Source
from gatekeeper.rules import sequences, values
from gatekeeper.rules.document import Document, Entry, Place, Tell, is_empty, place_of
from gatekeeper.rules.fwknop import FwknopReader
from gatekeeper.rules.sequences import SequenceReader
from gatekeeper.rules.values import ReadKey
from gatekeeper.sealed import keys
from gatekeeper.settings import Client, Ports, Service, Transport

MAX_KEY = 512
"""Longest plain key in bytes."""
_TELL_EVERY = 100
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_ALL = ("services", "ttl", "from", "not_after", "when", "prefix")
_PREFIXES = {4: (16, 32), 6: (32, 128)}
"""The widest and the narrowest that a grant may be, by IP version."""
_SEALED = ("key", "also_keys", "bind", "for_others")
_PLAIN = ("open", "open_file", "close", "close_file")
_FWKNOP = ("fwknop",)
_KINDS = {
    "fwknop": _FWKNOP,
    "a port sequence": sequences.FIELDS,
    "a plain key": _PLAIN,
    "a sealed key": ("key", "also_keys", "bind"),
}
_NAME_AN_ADDRESS = {"a sealed key", "fwknop"}
_WHY_ONE = "make two clients of them: each has one kind of key, and each kind is as safe as it is"


class ClientReader:
    """Reads the section ``clients``."""

    def __init__(
        self,
        document: Document,
        read_key: ReadKey,
        services: Mapping[str, Service],
        *,
        named: Iterable[str],
        knock_ports: Iterable[int] = (),
    ) -> None:
        """``named``: the services that the file names, also those that are wrong and were complained about."""
        self._doc = document
        self._read_key = read_key
        self._services = services
        self._named = frozenset(named)
        self._plain: dict[bytes, tuple[Entry, str]] = {}
        self._public: dict[bytes, str] = {}
        taken = [(Ports(Transport.UDP, port), "a knock port") for port in knock_ports]
        taken += [(ports, f'a port of service "{one.name}"') for one in services.values() for ports in one.ports]
        self._sequences = SequenceReader(document, read_key, taken)
        self._fwknop = FwknopReader(document, read_key)
        self.places: dict[str, Place] = {}
        """Where each client stands."""

    def read(
        self, section: Entry | None, *, taken: Mapping[bytes, str], tell: Tell = lambda _: None
    ) -> dict[str, Client]:
        """Read all clients. ``taken``: public keys that a client cannot have, and what they are."""
        self._public.update(taken)
        clients: dict[str, Client] = {}
        node = Entry.value_of(section)
        number = len(node.value) if isinstance(node, yaml.MappingNode) else 1
        for count, entry in enumerate(self._doc.entries(node, "clients")):
            if count % _TELL_EVERY == 0:
                tell(count / number)
            client = self._client(entry)
            if client is not None:
                clients[client.name] = client
                self.places[client.name] = place_of(entry.key)
        for key, (field, what) in self._plain.items():
            begin, _, end = key.rpartition(b" ")
            if begin in self._plain and end.decode(errors="replace") in self._named:
                hint = f"a knock for {end.decode()} with that key would look the same"
                self._doc.complain(field.value, f"{what} is {self._plain[begin][1]} and a service", hint)
        self._sequences.finish()
        return clients

    def _client(self, entry: Entry) -> Client | None:
        what = f'client "{entry.name}"'
        if not _CLIENT_NAME.fullmatch(entry.name):
            hint = "1 to 64 letters, digits, - _ . or @, beginning with a letter or digit"
            self._doc.complain(entry.key, f'"{entry.name}" cannot be the name of a client', hint)
            return None
        fields = self._doc.fields(entry.value, what, (*_SEALED, *_PLAIN, *sequences.FIELDS, *_FWKNOP, *_ALL))
        kind, *others = [name for name, its in _KINDS.items() if any(one in fields for one in its)] or [""]
        odd = [name for other in others for name in _KINDS[other] if name in fields]
        if "for_others" in fields and kind and kind not in _NAME_AN_ADDRESS:
            odd.append("for_others")
        if odd:
            self._doc.complain(fields[odd[0]].key, f"{what} has {kind}, and {odd[0]}", _WHY_ONE)
            return None
        is_plain, is_sequence = kind == "a plain key", kind == "a port sequence"
        services = self._services_of(entry, fields.get("services"), what)
        public = self._public_keys(fields, what)
        open_key, close_key = self._key(fields, "open", what), self._key(fields, "close", what)
        its_sequences = self._sequences.read(fields, entry.name) if is_sequence else None
        if is_sequence and its_sequences is None:
            return None
        fwknop = self._fwknop.read(fields["fwknop"], what) if "fwknop" in fields else None
        if kind in {"", "a sealed key"} and "key" not in fields:
            if is_empty(entry.value) or isinstance(entry.value, yaml.MappingNode):
                hint = "add key: with the public key that `gatekeeper join` or `gatekeeper keygen` prints"
                self._doc.complain(entry.key, f"{what} has no key", hint)
            return None
        if is_plain and "open" not in fields and "open_file" not in fields:
            self._doc.complain(entry.key, f"{what} has no key that opens", "add open: or open_file:")
            return None
        return Client(
            name=entry.name,
            services=services,
            keys=public,
            open_key=open_key,
            close_key=close_key,
            sequences=its_sequences,
            fwknop=None if fwknop is None else fwknop.keys,
            ttl=self._ttl(fields.get("ttl"), services),
            must_bind=self._must_bind(fields.get("bind")) if fwknop is None else fwknop.require_source,
            for_others=values.truth(self._doc, fields.get("for_others")),
            sources=self._sources(fields.get("from")),
            not_after=values.date(self._doc, fields.get("not_after")),
            hours=values.hours(self._doc, fields.get("when")),
            prefixes=self._prefixes(fields.get("prefix"), what),
        )

    def _services_of(self, entry: Entry, field: Entry | None, what: str) -> tuple[str, ...]:
        if field is None:
            if isinstance(entry.value, yaml.MappingNode):
                self._doc.complain(entry.key, f"{what} has no services", "add services: [NAME, ...]")
            return ()
        allowed: list[str] = []
        nodes = self._doc.items(field.value, f"services of {what}")
        if nodes is not None and not nodes:
            self._doc.complain(field.value, f"{what} has no services", "name at least one")
        for node in nodes or ():
            name = self._doc.text(node, "the name of a service")
            if name is None:
                continue
            if name not in self._named:
                hint = self._doc.did_you_mean(name, tuple(sorted(self._named)))
                self._doc.complain(node, f'there is no service "{name}"', hint)
            elif name in allowed:
                self._doc.complain(node, f'service "{name}" stands twice in {what}')
            else:
                allowed.append(name)
        return tuple(allowed)

    def _ttl(self, field: Entry | None, services: tuple[str, ...]) -> int | None:
        ttl = values.seconds(self._doc, field, default=0)
        for name in services:
            longest = self._services[name].max_ttl if name in self._services else None
            if field is not None and longest is not None and (ttl is None or ttl > longest):
                message = f'ttl is longer than max_ttl of "{name}" ({duration.show(longest)})'
                self._doc.complain(field.value, message, "make ttl shorter or max_ttl longer")
                break
        return ttl

    def _must_bind(self, field: Entry | None) -> bool:
        return field is not None and values.word(self._doc, field, ("optional", "required")) == "required"

    def _sources(self, field: Entry | None) -> tuple[Source, ...]:
        if field is not None and isinstance(field.value, yaml.SequenceNode) and not field.value.value:
            self._doc.complain(field.value, "from is empty: no knock could come from there", "take the line out")
        return values.networks(self._doc, field)

    def _prefixes(self, field: Entry | None, what: str) -> tuple[int, int]:
        default = Client(name="", services=()).prefixes
        fields = self._doc.fields(Entry.value_of(field), f"prefix of {what}", ("ipv4", "ipv6"))
        v4 = values.number(self._doc, fields["ipv4"], *_PREFIXES[4]) if "ipv4" in fields else None
        v6 = values.number(self._doc, fields["ipv6"], *_PREFIXES[6]) if "ipv6" in fields else None
        if field is not None and is_empty(field.value):
            self._doc.complain(field.key, f"prefix of {what} is empty", "write {ipv4: 24, ipv6: 56}")
        return v4 or default[0], v6 or default[1]

    # -- keys

    def _public_keys(self, fields: Mapping[str, Entry], what: str) -> tuple[bytes, ...]:
        found: list[bytes | None] = []
        if "key" in fields:
            found.append(self._public_key(fields["key"].value, f"key of {what}"))
        if "also_keys" in fields:
            nodes = self._doc.items(fields["also_keys"].value, f"also_keys of {what}")
            found += [self._public_key(node, f"one of also_keys of {what}") for node in nodes or ()]
        return tuple(key for key in found if key is not None)

    def _public_key(self, node: yaml.Node, what: str) -> bytes | None:
        text = self._doc.text(node, "a public key")
        if text is None:
            return None
        try:
            key = keys.parse_public(text)
        except ValueError as error:
            hint = "copy the public key that `gatekeeper join`, `gatekeeper pubkey` or `wg pubkey` prints"
            self._doc.complain(node, f"{what}: {error}", hint)
            return None
        if key in self._public:
            hint = "every device makes a key of its own: `gatekeeper join` or `gatekeeper keygen`"
            self._doc.complain(node, f"{what} is {self._public[key]} too", hint)
            return None
        self._public[key] = what
        return key

    def _key(self, fields: Mapping[str, Entry], name: str, what: str) -> bytes | None:
        inline, by_file = fields.get(name), fields.get(f"{name}_file")
        if inline and by_file:
            self._doc.complain(by_file.key, f"{what} has both {name} and {name}_file", "keep one of them")
            return None
        if by_file:
            key, field = values.file_content(self._doc, by_file, self._read_key), by_file
        elif inline:
            text = self._doc.text(inline.value, inline.name)
            key, field = None if text is None else text.encode(), inline
        else:
            return None
        return key if key is not None and self._is_usable(key, field, what) else None

    def _is_usable(self, key: bytes, field: Entry, what: str) -> bool:
        if not key:
            self._doc.complain(field.value, f"{field.name} of {what} is empty", "a key needs at least one character")
            return False
        if len(key) > MAX_KEY:
            self._doc.complain(field.value, f"{field.name} of {what} is longer than {MAX_KEY} bytes")
            return False
        if b"\n" in key or b"\r" in key:
            self._doc.complain(field.value, f"{field.name} of {what} has more than one line")
            return False
        if key in self._plain:
            other = self._plain[key][1]
            self._doc.complain(field.value, f"{field.name} of {what} is {other} too", "every key must differ")
            return False
        self._plain[key] = (field, f"{field.name} of {what}")
        if values.is_guessable(key):
            hint = "anyone could guess it: make one with `openssl rand -hex 16`"
            self._doc.warn(field.value, f"{field.name} of {what} is easy to guess", hint)
        return True
