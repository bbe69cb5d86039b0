"""What rules.yaml may say: nodes to ``Rules``, every problem noted at its line and column.

Pure but for what it is handed: ``read_key`` fetches the content of a key file, ``read_private`` that of one which
nobody else may read; ``look`` looks at a program; ``processors`` is how many the machine has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import yaml

from gatekeeper.firewall import lanes
from gatekeeper.rules import hooks, metrics, trail, values
from gatekeeper.rules.clients import ClientReader
from gatekeeper.rules.document import Document, Entry, Place, Tell, is_empty
from gatekeeper.rules.hooks import HookReader, Look
from gatekeeper.rules.include import SECTIONS
from gatekeeper.rules.services import ServiceReader, warn_of_contradiction
from gatekeeper.rules.values import ReadKey
from gatekeeper.sealed import keys
from gatekeeper.settings import FirewallSettings, Mode, Ports, Refuse, Rules, ServerKey, Service, Transport, Via

_TOP = (
    *("mode", "refuse", "always", "never", "workers", "watch", "metrics", "include", "trail"),
    *(hooks.ON_OPEN, hooks.ON_CLOSE, hooks.TIMEOUT),
    *("knock", "server", "firewall", *SECTIONS),
)
_MOST_KNOCK_PORTS = 16
_LAST_QUEUE = 65_536 - lanes.TAKEN
_BACKENDS = ("auto", "ipset", "rules")
_VARIANTS = ("auto", "nft", "legacy")


class Reader:
    """Reads one document into ``Rules``."""

    def __init__(
        self, document: Document, read_key: ReadKey, read_private: ReadKey, look: Look, *, processors: int
    ) -> None:
        self._doc, self._look = document, look
        self._processors = processors
        self._read_key, self._read_private = read_key, read_private
        self.places: dict[str, Place] = {}
        """Where each client stands."""

    def read(self, root: yaml.Node | None, more: Sequence[yaml.Node] = (), tell: Tell = lambda _: None) -> Rules:
        """Read everything, noting every problem; the result counts only if the document did not fail.

        ``more``: the files that it includes. ``tell``: how much of the clients is read, for they can be many.
        """
        top = self._doc.fields(root, "the file", _TOP)
        parts = [top, *(self._doc.fields(one, "an included file", SECTIONS) for one in more)]
        for name in SECTIONS:
            section = self._doc.merged([part[name] for part in parts if name in part], name)
            top |= {} if section is None else {name: section}
        always, never = values.always(self._doc, top.get("always")), values.networks(self._doc, top.get("never"))
        if "always" in top:
            warn_of_contradiction(self._doc, top["always"], always, never)
        hook_reader = HookReader(self._doc, self._look, top)
        service_reader = ServiceReader(self._doc, hook_reader, always=always, never=never)
        services = service_reader.read(top.get("services"))
        if not services and not self._doc.failed:
            self._doc.complain(root, "no services: there is nothing to guard", "add a section services:")
        knock = self._knock(top.get("knock"), services)
        server_keys = self._server(top.get("server"))
        taken = {keys.public_of(key.private): "a key of the server" for key in server_keys}
        reader = ClientReader(
            self._doc, self._read_key, services, named=service_reader.named, knock_ports=knock.knock_ports
        )
        clients = reader.read(top.get("clients"), taken=taken, tell=tell)
        self.places = reader.places
        if not clients and not self._doc.failed:
            hint = "nobody can knock; only `gatekeeper grant` opens a port"
            self._doc.warn(top["clients"].key if "clients" in top else None, "no clients", hint)
        return replace(
            knock,
            services=services,
            clients=clients,
            mode=self._mode(top.get("mode")),
            refuse=self._refuse(top.get("refuse")),
            never=never,
            firewall=self._firewall(top.get("firewall")),
            workers=self._workers(top.get("workers")),
            watch=values.truth(self._doc, top.get("watch")),
            metrics=metrics.listen(self._doc, top.get("metrics")),
            trail=trail.read(self._doc, top.get("trail")),
            hook_timeout=hooks.timeout(self._doc, top.get(hooks.TIMEOUT), default=knock.hook_timeout),
            server_keys=server_keys,
        )

    def _mode(self, field: Entry | None) -> Mode:
        mode = Mode(values.word(self._doc, field, tuple(Mode)) or Mode.GUARD) if field is not None else Mode.GUARD
        if mode is Mode.OBSERVE and field is not None:
            self._doc.warn(field.value, "mode: observe drops nothing", "take the line out to guard")
        return mode

    def _refuse(self, field: Entry | None) -> Refuse:
        word = values.word(self._doc, field, tuple(Refuse)) if field is not None else None
        return Refuse(word or Refuse.SILENT)

    def _workers(self, field: Entry | None) -> int:
        if field is None:
            return Rules({}, {}).workers
        if values.is_word(field, "auto"):
            return lanes.workers_for(self._processors)
        return values.number(self._doc, field, 1, lanes.MAX_WORKERS, or_word="auto") or 1

    # -- knock

    def _knock(self, section: Entry | None, services: dict[str, Service]) -> Rules:
        """Read how knocks arrive, into rules that are empty otherwise."""
        default = Rules({}, {})
        fields = self._doc.fields(Entry.value_of(section), "knock", ("port", "via", "skew", "ack"))
        via = self._via(fields.get("via"), services)
        ports = self._knock_ports(fields.get("port"), via)
        for service in services.values():
            for port in ports:
                if any(Ports(Transport.UDP, port).overlaps(its) for its in service.ports):
                    where = fields["port"].value if "port" in fields else (section.key if section else None)
                    message = f'the knock port udp/{port} is a port of service "{service.name}" too'
                    self._doc.complain(where, message, "choose another port for one of them")
        skew = values.seconds(self._doc, fields.get("skew"), default=default.skew)
        if skew is None or skew > default.skew:
            self._doc.complain(fields["skew"].value, f"skew is at most {default.skew}s", "take the line out")
        ack = values.truth(self._doc, fields.get("ack"))
        if ack and Via.UDP not in via:
            self._doc.warn(fields["ack"].value, "only knocks by udp are answered", "take the line out")
        return replace(default, knock_ports=ports, via=via, skew=skew or default.skew, ack=ack)

    def _via(self, field: Entry | None, services: dict[str, Service]) -> frozenset[Via]:
        if field is None:
            return Rules({}, {}).via
        found: set[Via] = set()
        for node in values.one_or_more(self._doc, field, "take the line out: then knocks come by udp"):
            word = values.word(self._doc, Entry(field.key, node), tuple(Via))
            found |= {Via(word)} if word else set()
        if Via.SYN in found and services and not any(one.has(Transport.TCP) for one in services.values()):
            self._doc.complain(field.value, "a SYN goes to a protected tcp port, and there is none", "take syn out")
        return frozenset(found)

    def _knock_ports(self, field: Entry | None, via: frozenset[Via]) -> tuple[int, ...]:
        if field is None:
            return Rules({}, {}).knock_ports if Via.UDP in via else ()
        found: list[int] = []
        for node in values.one_or_more(self._doc, field, "take the line out: then it is udp/62201"):
            ports = values.ports(self._doc, node, "port")
            if ports is None:
                continue
            if ports.transport is Transport.TCP:
                self._doc.complain(node, "knocks come by udp", f"write udp/{ports.first}")
            elif ports.last > ports.first:
                self._doc.complain(node, "knock ports are named one by one", f"write [udp/{ports.first}, ...]")
            elif ports.first in found:
                self._doc.complain(node, f"{ports} stands twice", "take one out")
            else:
                found.append(ports.first)
        if len(found) > _MOST_KNOCK_PORTS:
            self._doc.complain(field.value, f"there are {len(found)} knock ports", f"{_MOST_KNOCK_PORTS} at most")
        if Via.UDP not in via:
            self._doc.complain(field.key, "knock ports are for udp, and via does not name it", "add udp to via")
        return tuple(found)

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
        fields = self._doc.fields(Entry.value_of(section), "firewall", ("variant", "backend", "queue", "mark"))
        variant = values.word(self._doc, fields["variant"], _VARIANTS) if "variant" in fields else None
        backend = values.word(self._doc, fields["backend"], _BACKENDS) if "backend" in fields else None
        queue = values.number(self._doc, fields["queue"], 0, _LAST_QUEUE) if "queue" in fields else None
        mark = values.number(self._doc, fields["mark"], 1, 0x8000_0000) if "mark" in fields else None
        if mark is not None and mark.bit_count() != 1:
            hint = "one bit, such as 0x20000000, that nothing else on this machine uses"
            self._doc.complain(fields["mark"].value, f"mark {mark:#x} is not a single bit", hint)
        return FirewallSettings(
            variant or default.variant,
            default.queue if queue is None else queue,
            default.mark if mark is None else mark,
            backend or default.backend,
        )
