"""What rules.yaml may say: nodes to ``Rules``, every problem noted at its line and column.

Pure but for what it is handed: ``read_key`` fetches the content of a key file, ``read_private`` that of one which
nobody else may read.
"""

from __future__ import annotations

import re
from dataclasses import replace

import yaml

from gatekeeper import duration
from gatekeeper.model import Established, FirewallSettings, Rules, ServerKey, Service, Transport
from gatekeeper.rules import values
from gatekeeper.rules.clients import ClientReader
from gatekeeper.rules.document import Document, Entry, is_empty
from gatekeeper.rules.values import ReadKey
from gatekeeper.sealed import keys

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}", re.ASCII)  # 16: an ipset's name holds 31 in all
_TOP = ("services", "knock", "server", "clients", "firewall")
_VARIANTS = ("auto", "nft", "legacy")


class Reader:
    """Reads one document into ``Rules``."""

    def __init__(self, document: Document, read_key: ReadKey, read_private: ReadKey) -> None:
        self._doc = document
        self._read_key, self._read_private = read_key, read_private
        self._named: set[str] = set()  # services, also those that are wrong and were complained about

    def read(self, root: yaml.Node | None) -> Rules:
        """Read everything, noting every problem; the result counts only if the document did not fail."""
        top = self._doc.fields(root, "the file", _TOP)
        services = self._services(top.get("services"))
        if not services and not self._doc.failed:
            self._doc.complain(root, "no services: there is nothing to guard", "add a section services:")
        knock = self._knock(top.get("knock"), services)
        server_keys = self._server(top.get("server"))
        taken = {keys.public_of(key.private): "a key of the server" for key in server_keys}
        reader = ClientReader(self._doc, self._read_key, services, named=self._named)
        clients = reader.read(top.get("clients"), taken=taken)
        if not clients and not self._doc.failed:
            hint = "nobody can knock; only `gatekeeper grant` opens a port"
            self._doc.warn(top["clients"].key if "clients" in top else None, "no clients", hint)
        firewall = self._firewall(top.get("firewall"))
        return replace(knock, services=services, clients=clients, firewall=firewall, server_keys=server_keys)

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
        port = values.port(self._doc, fields["port"], "port")
        ttl = values.seconds(self._doc, fields.get("ttl"), default=3600)
        max_ttl = values.seconds(self._doc, fields.get("max_ttl"), default=None)
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
        word = values.word(self._doc, field, ("keep", "cut"))
        if word == "keep" and transport is Transport.UDP:
            hint = "udp has no connections to keep; take the line out"
            self._doc.complain(field.value, "established: keep is for tcp only", hint)
        return Established(word) if word else default

    # -- knock

    def _knock(self, section: Entry | None, services: dict[str, Service]) -> Rules:
        """Read how knocks arrive, into rules that are empty otherwise."""
        default = Rules({}, {})
        fields = self._doc.fields(Entry.value_of(section), "knock", ("port", "skew", "acknowledge"))
        port: tuple[Transport, int] | None = (Transport.UDP, default.knock_port)
        if "port" in fields:
            port = values.port(self._doc, fields["port"], "port")
            if port is not None and port[0] is Transport.TCP:
                self._doc.complain(fields["port"].value, "knocks come by udp", f"write udp/{port[1]}")
                port = None
        for service in services.values():
            if port == (service.transport, service.port):
                where = fields["port"].value if "port" in fields else (section.key if section else None)
                message = f'the knock port udp/{service.port} is the port of service "{service.name}" too'
                self._doc.complain(where, message, "choose another port for one of them")
        skew = values.seconds(self._doc, fields.get("skew"), default=default.skew)
        if skew is None or skew > default.skew:
            self._doc.complain(fields["skew"].value, f"skew is at most {default.skew}s", "take the line out")
        return replace(
            default,
            knock_port=port[1] if port else default.knock_port,
            skew=skew or default.skew,
            acknowledge=values.truth(self._doc, fields.get("acknowledge")),
        )

    # -- server

    def _server(self, section: Entry | None) -> tuple[ServerKey, ...]:
        fields = self._doc.fields(Entry.value_of(section), "server", ("key_file", "old_keys"))
        found = [self._server_key(fields["key_file"], None)] if "key_file" in fields else []
        old = self._doc.items(fields["old_keys"].value, "old_keys") if "old_keys" in fields else ()
        for node in old or ():
            its = self._doc.fields(node, "one of old_keys", ("key_file", "until"))
            missing = [name for name in ("key_file", "until") if name not in its]
            if missing:
                if is_empty(node) or isinstance(node, yaml.MappingNode):
                    hint = "write {key_file: FILE, until: 2027-01-31}"
                    self._doc.complain(node, f"one of old_keys has no {missing[0]}", hint)
                continue
            found.append(self._server_key(its["key_file"], values.date(self._doc, its["until"])))
        usable = [key for key in found if key is not None]
        if len({keys.public_of(key.private) for key in usable}) < len(usable):
            self._doc.complain(section.key if section else None, "a key of the server stands twice")
        return tuple(usable)

    def _server_key(self, field: Entry, until: float | None) -> ServerKey | None:
        content = values.file_content(self._doc, field, self._read_private)
        if content is None:
            return None
        try:
            return ServerKey(keys.parse(content.decode("ascii", "replace")), until)
        except ValueError as error:
            hint = "a private key is what `gatekeeper keygen` or `wg genkey` writes"
            self._doc.complain(field.value, f"the key in this file cannot be used: {error}", hint)
            return None

    # -- firewall

    def _firewall(self, section: Entry | None) -> FirewallSettings:
        default = FirewallSettings()
        fields = self._doc.fields(Entry.value_of(section), "firewall", ("variant", "queue", "mark"))
        variant = values.word(self._doc, fields["variant"], _VARIANTS) if "variant" in fields else None
        queue = values.number(self._doc, fields["queue"], 0, 65535) if "queue" in fields else None
        mark = values.number(self._doc, fields["mark"], 1, 0x8000_0000) if "mark" in fields else None
        if mark is not None and mark.bit_count() != 1:
            hint = "one bit, such as 0x20000000, that nothing else on this machine uses"
            self._doc.complain(fields["mark"].value, f"mark {mark:#x} is not a single bit", hint)
        return FirewallSettings(
            variant or default.variant,
            default.queue if queue is None else queue,
            default.mark if mark is None else mark,
        )
