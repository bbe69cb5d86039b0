"""The services of a rules file: which ports are guarded, where, for how long they open, who needs no knock. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

from gatekeeper import duration
from gatekeeper.networks import Address, Networks, Source, is_unicast
from gatekeeper.rules import hooks, values
from gatekeeper.rules.document import Document, Entry, is_empty
from gatekeeper.rules.hooks import HookReader
from gatekeeper.settings import Established, Guard, Ports, Service, Transport

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}", re.ASCII)  # 16: an ipset's name holds 31 in all
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,13}(?:[A-Za-z0-9_.:@-]|\+)?", re.ASCII)
_FIELDS = (
    *("port", "interface", "address", "ttl", "max_ttl", "established", "when", "always", "never", "guard"),
    *(hooks.ON_OPEN, hooks.ON_CLOSE),
)
_EPHEMERAL = (32768, 60999)
"""The ports that Linux takes for outgoing connections (net.ipv4.ip_local_port_range)."""


class ServiceReader:
    """Reads the section ``services``."""

    def __init__(
        self, document: Document, hook_reader: HookReader, *, always: tuple[Source, ...], never: tuple[Source, ...]
    ) -> None:
        """``always`` and ``never``: those of all services."""
        self._doc, self._hooks = document, hook_reader
        self._always, self._never = always, never
        self.named: set[str] = set()
        """All that the section names, also what is wrong and was complained about."""

    def read(self, section: Entry | None) -> dict[str, Service]:
        """Read all services."""
        services: dict[str, Service] = {}
        for entry in self._doc.entries(Entry.value_of(section), "services"):
            self.named.add(entry.name)
            service = self._service(entry)
            if service is None:
                continue
            for other in services.values():
                if (port := _shared_port(service, other)) is not None:
                    hint = "merge the two, or name an address: for each, and not the same"
                    self._doc.complain(entry.key, f'"{service.name}" and "{other.name}" both guard {port}', hint)
                    break
            services[service.name] = service
        return services

    def _service(self, entry: Entry) -> Service | None:
        what = f'service "{entry.name}"'
        if not _NAME.fullmatch(entry.name):
            hint = "1 to 16 letters, digits, - or _, beginning with a letter or digit"
            self._doc.complain(entry.key, f'"{entry.name}" cannot be the name of a service', hint)
            return None
        fields = self._doc.fields(entry.value, what, _FIELDS)
        if "port" not in fields:
            if is_empty(entry.value) or isinstance(entry.value, yaml.MappingNode):
                self._doc.complain(entry.key, f"{what} has no port", "add port: tcp/22 (for example)")
            return None
        ports = self._ports(fields["port"], what)
        ttl, max_ttl = self._ttl(fields)
        always, never = self._networks(fields)
        guard = self._guard(fields, what)
        service = Service(
            name=entry.name,
            ports=ports,
            ttl=ttl,
            max_ttl=max_ttl,
            established=self._established(fields.get("established"), ports),
            addresses=self._addresses(fields.get("address"), what, guard),
            interfaces=self._interfaces(fields.get("interface")),
            always=always,
            never=never,
            hours=values.hours(self._doc, fields.get("when")),
            guard=guard,
            on_open=self._hooks.read(fields, hooks.ON_OPEN),
            on_close=self._hooks.read(fields, hooks.ON_CLOSE),
        )
        return service if ports else None

    def _ports(self, field: Entry, what: str) -> tuple[Ports, ...]:
        found: list[Ports] = []
        for node in values.one_or_more(self._doc, field, "take the service out, or name one"):
            ports = values.ports(self._doc, node, "port")
            if ports is None:
                continue
            if any(ports.overlaps(other) for other in found):
                self._doc.complain(node, f"{ports} stands twice in {what}", "take one out")
            elif ports.last > ports.first and ports.first <= _EPHEMERAL[1] and ports.last >= _EPHEMERAL[0]:
                hint = "answers to what this machine asks others could be dropped: guard what is served"
                self._doc.warn(node, f"{ports} has ports that Linux takes for outgoing connections", hint)
            found.append(ports)
        return tuple(found)

    def _ttl(self, fields: dict[str, Entry]) -> tuple[int | None, int | None]:
        ttl = values.seconds(self._doc, fields.get("ttl"), default=3600)
        max_ttl = values.seconds(self._doc, fields.get("max_ttl"), default=None)
        if max_ttl is not None and (ttl is None or ttl > max_ttl) and "ttl" in fields:
            message = f"ttl is longer than max_ttl ({duration.show(max_ttl)})"
            self._doc.complain(fields["ttl"].value, message, "make ttl shorter or max_ttl longer")
        elif max_ttl is not None and ttl is not None:
            ttl = min(ttl, max_ttl)
        return ttl, max_ttl

    def _established(self, field: Entry | None, ports: Iterable[Ports]) -> Established:
        is_tcp = any(one.transport is Transport.TCP for one in ports)
        default = Established.KEEP if is_tcp else Established.CUT
        if field is None:
            return default
        word = values.word(self._doc, field, ("keep", "cut"))
        if word == "keep" and ports and not is_tcp:
            hint = "udp has no connections to keep; take the line out"
            self._doc.complain(field.value, "established: keep is for tcp only", hint)
        return Established(word) if word else default

    def _guard(self, fields: dict[str, Entry], what: str) -> Guard:
        field = fields.get("guard")
        word = values.word(self._doc, field, tuple(Guard)) if field is not None else None
        if field is not None and word == Guard.FORWARD and "address" not in fields:
            hint = "add address: those of the hosts behind this machine"
            self._doc.complain(field.value, f"{what} is guarded on its way to other hosts, and names none", hint)
        return Guard(word) if word else Guard.INPUT

    def _addresses(self, field: Entry | None, what: str, guard: Guard) -> tuple[Address, ...]:
        if field is None:
            return ()
        whose = "that host" if guard is Guard.FORWARD else "this machine"
        found: list[Address] = []
        for node in values.one_or_more(self._doc, field, "take the line out: then it is guarded at all addresses"):
            address = values.address(self._doc, node)
            if address is not None and address.is_unspecified:
                self._doc.complain(node, f"{address} is no address", "to guard all addresses, take the line out")
            elif address is not None and not is_unicast(address):
                self._doc.complain(node, f"{address} is no address that can be guarded", f"name one of {whose}'s")
            elif address is not None and address not in found:
                found.append(address)
        versions = {address.version for address in found}
        if len(versions) == 1:
            other = 6 if versions == {4} else 4
            hint = f"if {whose} has IPv{other}, the same port is open there: name an address of it too"
            self._doc.warn(field.value, f"{what} is not guarded over IPv{other}", hint)
        return tuple(found)

    def _interfaces(self, field: Entry | None) -> tuple[str, ...]:
        if field is None:
            return ()
        found: list[str] = []
        for node in values.one_or_more(self._doc, field, "take the line out: then it is guarded on all"):
            name = self._doc.text(node, "an interface")
            if name is None:
                continue
            if not _INTERFACE.fullmatch(name):
                hint = "such as eth0, or eth+ for all whose names begin so"
                self._doc.complain(node, f'"{name}" cannot be the name of an interface', hint)
            elif name in {"lo", "lo+", "l+"}:
                self._doc.complain(node, "loopback is never guarded", "name the interface that faces the network")
            else:
                found.append(name)
        return tuple(dict.fromkeys(found))

    def _networks(self, fields: dict[str, Entry]) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
        always = self._always + values.always(self._doc, fields.get("always"))
        never = self._never + values.networks(self._doc, fields.get("never"))
        if "always" in fields or "never" in fields:
            warn_of_contradiction(self._doc, fields.get("always") or fields["never"], always, never)
        return tuple(dict.fromkeys(always)), tuple(dict.fromkeys(never))


def warn_of_contradiction(document: Document, field: Entry, always: Iterable[Source], never: Iterable[Source]) -> None:
    """Warn of what is in ``always`` and does nothing there, for ``never`` goes before it."""
    banned = Networks(never)
    for network in always:
        if banned.holds(network):
            document.warn(field.value, f"{network} lies in never:, which goes before always:", "take one of them out")


def _shared_port(one: Service, other: Service) -> Ports | None:
    """Return ports that two services guard at the same address; ``None`` if there are none."""
    if one.addresses and other.addresses and not set(one.addresses) & set(other.addresses):
        return None
    if (one.guard is Guard.FORWARD) is not (other.guard is Guard.FORWARD) and not (one.addresses and other.addresses):
        return None  # all addresses of this machine's are none of a host's behind it
    return next((mine for mine in one.ports for its in other.ports if mine.overlaps(its)), None)
