"""What rules.yaml may say: nodes to ``Rules``, every problem noted at its line and column.

Pure but for what it is handed: ``read_key`` fetches the content of an ``open_file``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from gatekeeper.model import Client, Established, FirewallSettings, Rules, Service, Transport
from gatekeeper.rules import duration
from gatekeeper.rules.document import Document, Entry, is_empty

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}", re.ASCII)  # 16: an ipset's name holds 31 in all
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_PORT = re.compile(r"(tcp|udp)/(\d{1,5})", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|\d{1,10}", re.ASCII)
_TOP = ("services", "knock", "clients", "firewall")
_VARIANTS = ("auto", "nft", "legacy")
MAX_KEY = 512
"""Longest plain key in bytes."""
GUESSABLE = 16
"""A plain key shorter than this (bytes) is warned about, and so are the well-known ones."""
_WELL_KNOWN = frozenset({b"open_sesame", b"close_sesame", b"opensesame", b"open sesame", b"password", b"changeme"})

ReadKey = Callable[[str], bytes]


class Reader:
    """Reads one document into ``Rules``."""

    def __init__(self, document: Document, read_key: ReadKey) -> None:
        self._doc = document
        self._read_key = read_key
        self._keys: dict[bytes, tuple[Entry, str]] = {}
        self._named: set[str] = set()  # services, also those that are wrong and were complained about

    def read(self, root: yaml.Node | None) -> Rules:
        """Read everything, noting every problem; the result counts only if the document did not fail."""
        top = self._doc.fields(root, "the file", _TOP)
        services = self._services(top.get("services"))
        if not services and not self._doc.failed:
            self._doc.complain(root, "no services: there is nothing to guard", "add a section services:")
        knock_port = self._knock(top.get("knock"), services)
        clients = self._clients(top.get("clients"))
        if not clients and not self._doc.failed:
            hint = "nobody can knock; only `gatekeeper grant` opens a port"
            self._doc.warn(top["clients"].key if "clients" in top else None, "no clients", hint)
        firewall = self._firewall(top.get("firewall"))
        return Rules(services, clients, knock_port, firewall)

    # -- services

    def _services(self, section: Entry | None) -> dict[str, Service]:
        services: dict[str, Service] = {}
        taken: dict[tuple[Transport, int], str] = {}
        for entry in self._doc.entries(Entry.value_of(section), "services"):
            self._named.add(entry.name)
            service = self._service(entry)
            if service is None:
                continue
            services[service.name] = service
            other = taken.setdefault((service.transport, service.port), service.name)
            if other != service.name:
                port = f"{service.transport}/{service.port}"
                self._doc.complain(entry.key, f'"{service.name}" and "{other}" both guard {port}', "merge the two")
        return services

    def _service(self, entry: Entry) -> Service | None:
        what = f'service "{entry.name}"'
        if not _NAME.fullmatch(entry.name):
            hint = "1 to 16 letters, digits, - or _, beginning with a letter or digit"
            self._doc.complain(entry.key, f'"{entry.name}" cannot be the name of a service', hint)
            return None
        fields = self._doc.fields(entry.value, what, ("port", "ttl", "max_ttl", "established"))
        if "port" not in fields:
            if is_empty(entry.value) or isinstance(entry.value, yaml.MappingNode):
                self._doc.complain(entry.key, f"{what} has no port", "add port: tcp/22 (for example)")
            return None
        port = self._port(fields["port"], "port")
        ttl = self._duration(fields.get("ttl"), default=3600)
        max_ttl = self._duration(fields.get("max_ttl"), default=None)
        if max_ttl is not None and (ttl is None or ttl > max_ttl) and "ttl" in fields:
            message = f"ttl is longer than max_ttl ({duration.show(max_ttl)})"
            self._doc.complain(fields["ttl"].value, message, "make ttl shorter or max_ttl longer")
        elif max_ttl is not None and ttl is not None:
            ttl = min(ttl, max_ttl)
        if port is None:
            return None
        established = self._established(fields.get("established"), port[0])
        return Service(entry.name, *port, ttl, max_ttl, established)

    def _established(self, field: Entry | None, transport: Transport) -> Established:
        default = Established.KEEP if transport is Transport.TCP else Established.CUT
        if field is None:
            return default
        word = self._word(field, ("keep", "cut"))
        if word == "keep" and transport is Transport.UDP:
            hint = "udp has no connections to keep; take the line out"
            self._doc.complain(field.value, "established: keep is for tcp only", hint)
        return Established(word) if word else default

    def _port(self, field: Entry, what: str) -> tuple[Transport, int] | None:
        text = self._doc.text(field.value, what)
        if text is None:
            return None
        match = _PORT.fullmatch(text.lower())
        if not match:
            self._doc.complain(field.value, f'"{text}" is not a port', _port_hint(text))
            return None
        number = int(match[2])
        if not 1 <= number <= 65535:
            self._doc.complain(field.value, f"port {number} is out of range", "ports go from 1 to 65535")
            return None
        return Transport(match[1]), number

    def _duration(self, field: Entry | None, *, default: int | None) -> int | None:
        if field is None:
            return default
        text = self._doc.text(field.value, field.name)
        if text is None:
            return default
        try:
            return duration.parse(text)
        except ValueError as error:
            hint = (
                f"did you mean {text}s?" if text.isascii() and text.isdecimal() and text.strip("0") else duration.HINT
            )
            self._doc.complain(field.value, f"{field.name}: {error}", hint)
            return default

    # -- knock

    def _knock(self, section: Entry | None, services: dict[str, Service]) -> int:
        default = Rules({}, {}).knock_port
        fields = self._doc.fields(Entry.value_of(section), "knock", ("port",))
        port: tuple[Transport, int] | None = (Transport.UDP, default)
        if "port" in fields:
            port = self._port(fields["port"], "port")
            if port is not None and port[0] is Transport.TCP:
                self._doc.complain(fields["port"].value, "knocks come by udp", f"write udp/{port[1]}")
                port = None
        for service in services.values():
            if port == (service.transport, service.port):
                where = fields["port"].value if "port" in fields else (section.key if section else None)
                message = f'the knock port udp/{service.port} is the port of service "{service.name}" too'
                self._doc.complain(where, message, "choose another port for one of them")
        return port[1] if port else default

    # -- clients

    def _clients(self, section: Entry | None) -> dict[str, Client]:
        clients: dict[str, Client] = {}
        for entry in self._doc.entries(Entry.value_of(section), "clients"):
            client = self._client(entry)
            if client is not None:
                clients[client.name] = client
        for key, (field, what) in self._keys.items():
            begin, _, end = key.rpartition(b" ")
            if begin in self._keys and end.decode(errors="replace") in self._named:
                hint = f"a knock for {end.decode()} with that key would look the same"
                self._doc.complain(field.value, f"{what} is {self._keys[begin][1]} and a service", hint)
        return clients

    def _client(self, entry: Entry) -> Client | None:
        what = f'client "{entry.name}"'
        if not _CLIENT_NAME.fullmatch(entry.name):
            hint = "1 to 64 letters, digits, - _ . or @, beginning with a letter or digit"
            self._doc.complain(entry.key, f'"{entry.name}" cannot be the name of a client', hint)
            return None
        known = ("open", "open_file", "close", "close_file", "services")
        fields = self._doc.fields(entry.value, what, known)
        allowed = self._client_services(entry, fields.get("services"), what)
        open_key = self._key(fields, "open", what)
        close_key = self._key(fields, "close", what)
        if "open" not in fields and "open_file" not in fields:
            if is_empty(entry.value) or isinstance(entry.value, yaml.MappingNode):
                self._doc.complain(entry.key, f"{what} has no key", "add open: or open_file:")
            return None
        return Client(entry.name, allowed, open_key, close_key) if open_key else None

    def _client_services(self, entry: Entry, field: Entry | None, what: str) -> tuple[str, ...]:
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

    def _key(self, fields: dict[str, Entry], name: str, what: str) -> bytes | None:
        inline, by_file = fields.get(name), fields.get(f"{name}_file")
        if inline and by_file:
            self._doc.complain(by_file.key, f"{what} has both {name} and {name}_file", "keep one of them")
            return None
        field = inline or by_file
        if field is None:
            return None
        text = self._doc.text(field.value, field.name)
        if text is None:
            return None
        key = text.encode()
        if by_file:
            try:
                key = self._read_key(text)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                self._doc.complain(field.value, f"cannot read the key in {text}: {reason}")
                return None
        return key if self._is_usable(key, field, what) else None

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
        if key in self._keys:
            other = self._keys[key][1]
            self._doc.complain(field.value, f"{field.name} of {what} is {other} too", "every key must differ")
            return False
        self._keys[key] = (field, f"{field.name} of {what}")
        if len(key) < GUESSABLE or key.lower() in _WELL_KNOWN or len(set(key)) < 6:
            hint = "anyone could guess it: make one with `openssl rand -hex 16`"
            self._doc.warn(field.value, f"{field.name} of {what} is easy to guess", hint)
        return True

    # -- firewall

    def _firewall(self, section: Entry | None) -> FirewallSettings:
        default = FirewallSettings()
        fields = self._doc.fields(Entry.value_of(section), "firewall", ("variant", "queue", "mark"))
        variant = self._word(fields["variant"], _VARIANTS) if "variant" in fields else None
        queue = self._number(fields["queue"], 0, 65535) if "queue" in fields else None
        mark = self._number(fields["mark"], 1, 0x8000_0000) if "mark" in fields else None
        if mark is not None and mark.bit_count() != 1:
            hint = "one bit, such as 0x20000000, that nothing else on this machine uses"
            self._doc.complain(fields["mark"].value, f"mark {mark:#x} is not a single bit", hint)
        return FirewallSettings(
            variant or default.variant,
            default.queue if queue is None else queue,
            default.mark if mark is None else mark,
        )

    def _word(self, field: Entry, known: tuple[str, ...]) -> str | None:
        text = self._doc.text(field.value, field.name)
        if text is not None and text not in known:
            self._doc.complain(field.value, f'{field.name} cannot be "{text}"', self._doc.did_you_mean(text, known))
            return None
        return text

    def _number(self, field: Entry, low: int, high: int) -> int | None:
        text = self._doc.text(field.value, field.name)
        if text is None:
            return None
        if not _NUMBER.fullmatch(text):
            self._doc.complain(field.value, f'{field.name} must be a number, not "{text}"')
            return None
        number = int(text, 16) if text[:2] in ("0x", "0X") else int(text)
        if not low <= number <= high:
            self._doc.complain(field.value, f"{field.name} {text} is out of range", f"it goes from {low} to {high}")
            return None
        return number


def _port_hint(text: str) -> str:
    number, _, transport = text.lower().partition("/")
    if re.fullmatch(r"[1-9]\d{0,4}", number, re.ASCII) and int(number) <= 65535 and transport in ("", "tcp", "udp"):
        return f"did you mean {transport or 'tcp'}/{number}?"
    return "write tcp/22 or udp/51820"
