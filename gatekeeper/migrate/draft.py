"""rules.yaml in the making: services and clients, and their text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gatekeeper import duration
from gatekeeper.migrate import names
from gatekeeper.migrate.note import Note, printable
from gatekeeper.settings import Ports

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_-.:@")
_WORDS = frozenset({"null", "~", ""})


@dataclass(slots=True)
class DraftService:
    """A service to be."""

    ports: Ports
    max_ttl: int | None = None
    """The longest that a client may ask for, in seconds, where clients can ask."""


@dataclass(slots=True)
class DraftClient:
    """A client to be: its fields as YAML has them, in their order."""

    origin: str
    """Where it came from: ``FILE:LINE``."""
    fields: dict[str, str]
    notes: list[Note] = field(default_factory=list)
    """What of it has no equal."""


@dataclass(slots=True)
class Draft:
    """All that is known so far."""

    origin: str
    wanted: dict[str, Ports] = field(default_factory=dict)
    """Services that the user has named."""
    services: dict[str, DraftService] = field(default_factory=dict)
    clients: dict[str, DraftClient] = field(default_factory=dict)
    knock: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, list[Note]]] = field(default_factory=list)
    """What is no client, and why: each with its origin."""
    general: list[Note] = field(default_factory=list)

    def service(self, ports: Ports) -> str | None:
        """Return the name of the service that has exactly these ports, made if need be; ``None``: another has some."""
        for name, known in {**{name: DraftService(one) for name, one in self.wanted.items()}, **self.services}.items():
            if known.ports == ports:
                self.services.setdefault(name, known)
                return name
            if known.ports.overlaps(ports):
                return None
        name = names.of_service(ports)
        if name in self.services or name in self.wanted:
            name = str(ports).replace("/", "-")
        self.services[name] = DraftService(ports)
        return name

    def text(self) -> str:
        """Write it as rules.yaml."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# From {printable(self.origin)}, by `gatekeeper import`. It holds keys: nobody else should read it."
        for note in self.general:
            yield from _comment(note, "")
        if self.knock:
            yield ""
            yield f"knock: {_flow(self.knock)}"
        yield ""
        yield "services:"
        for name, service in self.services.items():
            fields = {"port": str(service.ports)}
            if service.max_ttl is not None:
                fields["max_ttl"] = duration.show(service.max_ttl)
            yield f"  {name}: {_flow(fields)}"
        yield ""
        yield "clients:"
        for name, client in self.clients.items():
            yield f"  # {printable(client.origin)}"
            for note in client.notes:
                yield from _comment(note, "  ")
            yield f"  {name}:"
            yield from (f"    {key}: {value}" for key, value in client.fields.items())
        for origin, notes in self.left_out:
            yield f"  # {printable(origin)}: left out"
            for note in notes:
                yield from _comment(note, "  ")


def _comment(note: Note, indent: str) -> Iterator[str]:
    yield f"{indent}#   {note}"
    if note.hint:
        yield f"{indent}#     hint: {printable(note.hint)}"


def _flow(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}"


def mapping(fields: dict[str, str]) -> str:
    """Write values (not yet quoted) as a mapping in a line."""
    return _flow({key: quoted(value) for key, value in fields.items()})


def sequence(values: Iterable[str]) -> str:
    """Write values (not yet quoted) as a list in a line."""
    return "[" + ", ".join(map(quoted, values)) + "]"


def quoted(text: str) -> str:
    """Write a word for YAML, in ASCII: the terminal or the locale may have no other; it must be printable."""
    if not text.isascii():
        return '"' + "".join(_escaped(char) for char in text) + '"'
    is_plain = set(text) <= _PLAIN and text[:1].isalnum() and text[-1:] != ":" and text.lower() not in _WORDS
    return text if is_plain else "'" + text.replace("'", "''") + "'"


def _escaped(char: str) -> str:
    if char in {'"', "\\"}:
        return "\\" + char
    return char if char.isascii() else f"\\U{ord(char):08x}"
