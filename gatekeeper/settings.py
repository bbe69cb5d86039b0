"""What rules.yaml says, as values. Pure.

Times are Unix seconds (float), durations are whole seconds (int). ``None`` as a duration or a deadline means "until it
is closed".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gatekeeper.networks import Address, Source
from gatekeeper.schedule import Hours


class Transport(enum.StrEnum):
    """A transport protocol, by the name that rules.yaml and iptables use."""

    TCP = "tcp"
    UDP = "udp"

    @property
    def number(self) -> int:
        """The protocol's number (IANA)."""
        return 6 if self is Transport.TCP else 17


class Established(enum.StrEnum):
    """What becomes of open connections when a grant ends by time (a close always cuts)."""

    KEEP = "keep"
    CUT = "cut"


class Guard(enum.StrEnum):
    """Where a service's packets are guarded, which is where its port really is."""

    INPUT = "input"
    """On this machine: its own processes serve it."""
    FORWARD = "forward"
    """On hosts behind this machine, whose addresses the service has."""
    PUBLISHED = "published"
    """On this machine for the world, which its address translation (or a proxy) takes elsewhere."""


class Via(enum.StrEnum):
    """How a knock may travel: as a datagram to a knock port, in an echo request, or in a SYN to a protected port."""

    UDP = "udp"
    ICMP = "icmp"
    SYN = "syn"


class Mode(enum.StrEnum):
    """Whether strangers are kept out, or it is only said whom that would hit."""

    GUARD = "guard"
    OBSERVE = "observe"


class Refuse(enum.StrEnum):
    """What strangers hear of a protected port: nothing, or what a closed port would say."""

    SILENT = "silent"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of one transport, from ``first`` to ``last``."""

    transport: Transport
    first: int
    last: int = 0
    """0: ``first`` alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "last", self.last or self.first)

    def __str__(self) -> str:
        return f"{self.transport}/{self.first}" + (f"-{self.last}" if self.last > self.first else "")

    def overlaps(self, other: Ports) -> bool:
        """Whether a port is in both."""
        return self.transport is other.transport and self.first <= other.last and other.first <= self.last

    def lies_in(self, other: Ports) -> bool:
        """Whether each of its ports is one of the other's."""
        return self.transport is other.transport and other.first <= self.first and self.last <= other.last


@dataclass(frozen=True, slots=True)
class Service:
    """Protected ports. ``ttl`` and ``max_ttl`` in seconds; ``None`` is "until closed" and "no limit"."""

    name: str
    ports: tuple[Ports, ...]
    ttl: int | None
    max_ttl: int | None = None
    established: Established = Established.KEEP
    """Of TCP; UDP has no connections that could be kept."""
    addresses: tuple[Address, ...] = ()
    """The addresses at which it is guarded, of this machine or (``forward``) of hosts behind; none: at all of ours."""
    interfaces: tuple[str, ...] = ()
    """Those by which it is guarded, as iptables names them; none named: all."""
    always: tuple[Source, ...] = ()
    """Who needs no knock."""
    never: tuple[Source, ...] = ()
    """Whom no knock lets in; goes before ``always``."""
    hours: tuple[Hours, ...] = ()
    """When knocks may open it; none named: at any time."""
    guard: Guard = Guard.INPUT
    on_open: tuple[str, ...] = ()
    """The program, with its arguments, that is run when a grant begins; empty: none."""
    on_close: tuple[str, ...] = ()
    """The same, when one ends."""

    def keeps(self, transport: Transport) -> bool:
        """Whether open connections outlive a grant that ends by time."""
        return transport is Transport.TCP and self.established is Established.KEEP

    def has(self, transport: Transport) -> bool:
        """Whether any of its ports is of a transport."""
        return any(ports.transport is transport for ports in self.ports)

    def fleeting(self) -> Service | None:
        """Return the part of it whose connections are cut when a grant ends by time; ``None`` if there is none."""
        ports = tuple(one for one in self.ports if not self.keeps(one.transport))
        return replace(self, ports=ports) if ports else None


Steps = tuple[Ports, ...]
"""A port sequence: single ports, in their order."""


@dataclass(frozen=True, slots=True)
class Flags:
    """Which TCP packets may be steps of a sequence: those that have all flags of ``on`` and none of ``off`` (RFC 9293).

    Others are neither steps nor wrong ones.
    """

    on: int = 0x02
    """SYN."""
    off: int = 0x10
    """ACK."""

    def match(self, flags: int) -> bool:
        """Whether a packet with these flags may be a step."""
        return flags & (self.on | self.off) == self.on


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """The port sequences of a client. They stay out of ``repr``, as keys do."""

    opens: tuple[Steps, ...] = field(repr=False)
    closes: Steps = field(default=(), repr=False)
    """Empty: none."""
    within: int = 25
    """Seconds from the first step to the last."""
    flags: Flags = Flags()
    once: bool = False
    """Whether each of those that open counts once, for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FwknopKeys:
    """What a client of fwknop's shares with the server."""

    key: bytes = field(repr=False)
    """It encrypts with this: a passphrase, or bytes of chance."""
    hmac_key: bytes | None = field(default=None, repr=False)
    hmac: str = "sha256"
    """The kind of its HMAC; ``none``: it sends none."""
    mode: str = "cbc"
    """How it encrypts."""
    user: str | None = None
    """Who its messages must say that they are from; ``None``: it does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A key holder: of X25519 keys (one for each device), plain keys, port sequences, or keys of fwknop's.

    Secrets stay out of ``repr``.
    """

    name: str
    services: tuple[str, ...]
    keys: tuple[bytes, ...] = ()
    """Public keys, 32 bytes each."""
    open_key: bytes | None = field(default=None, repr=False)
    close_key: bytes | None = field(default=None, repr=False)
    sequences: Sequences | None = None
    fwknop: FwknopKeys | None = None
    ttl: int | None = 0
    """Seconds that its knocks open a service for; 0: as the service has it, ``None``: until closed."""
    must_bind: bool = False
    """Whether its knocks must name the address that they come from."""
    for_others: bool = False
    """Whether its knocks may name another address."""
    sources: tuple[Source, ...] = ()
    """Where its knocks may come from; none named: from anywhere."""
    not_after: float | None = None
    hours: tuple[Hours, ...] = ()
    """When its knocks may open; none named: at any time."""
    prefixes: tuple[int, int] = (32, 128)
    """How wide its grants are, around the sender's address: prefix lengths for IPv4 and IPv6."""

    @property
    def can_knock(self) -> bool:
        """Whether it has anything to knock with."""
        return bool(self.keys or self.has_secrets)

    @property
    def has_secrets(self) -> bool:
        """Whether the rules have something that is good for knocking as this client."""
        return bool(self.open_key or self.fwknop or self.sequences)


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A private key of the server's (32 bytes), and when it stops being accepted (Unix seconds)."""

    private: bytes = field(repr=False)
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the metrics are to be had."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """Where gatekeeper hangs in the kernel: iptables variant, NFQUEUE number, mark bit, backend."""

    variant: str = "auto"
    queue: int = 6220
    mark: int = 0x2000_0000
    backend: str = "auto"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the kernel can know of a kind of knocks that have no tag."""

    shortest: int
    longest: int
    """Bytes."""
    begins_with: bytes = b""
    """One of these is the first; none named: anything."""
    ascii: int = 0
    """So many, from the first on, are ASCII."""
    tries: int = 0
    """So many keys may have to be tried for each, at some microsecond each."""

    def fits(self, payload: bytes) -> bool:
        """Whether a datagram gets past the kernel, as far as its bytes tell."""
        begins = not self.begins_with or payload[:1] in self.begins_with
        return self.shortest <= len(payload) <= self.longest and begins and payload[: self.ascii].isascii()


_DECRYPTION = 8
"""To decrypt takes as long as so many HMACs (docs/knock-formats.md)."""


@dataclass(frozen=True, slots=True)
class TrailSettings:
    """How much of the audit trail is kept."""

    keep: int | None = 90 * 86_400
    """Seconds; ``None``: whatever its age."""
    size: int = 16_000_000
    """Bytes that it may take."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file that was read and found whole."""

    services: Mapping[str, Service]
    clients: Mapping[str, Client]
    knock_ports: tuple[int, ...] = (62201,)
    via: frozenset[Via] = frozenset({Via.UDP})
    mode: Mode = Mode.GUARD
    refuse: Refuse = Refuse.SILENT
    never: tuple[Source, ...] = ()
    """Who may not even knock. (Every service has these in its own ``never`` too.)"""
    firewall: FirewallSettings = FirewallSettings()
    workers: int = 1
    """Processes that look at packets, each with queues of its own."""
    skew: int = 120
    """Seconds that a client's clock may differ from ours."""
    ack: bool = False
    """Whether sealed knocks that were accepted are answered."""
    watch: bool = False
    """Whether ``run`` goes over to the file when it was changed, without being told to."""
    metrics: Listen | None = None
    """Where Prometheus finds the metrics; ``None``: nowhere."""
    hook_timeout: int = 10
    """Seconds that a program of ``on_open`` or ``on_close`` may take."""
    trail: TrailSettings | None = TrailSettings()
    """``None``: no audit trail."""
    server_keys: tuple[ServerKey, ...] = ()
    """Those that the rules name, the current one (no ``until``) first; without one, the state directory has it."""

    @property
    def has_tagged(self) -> bool:
        """Whether some client's knocks begin with a tag that the kernel can know."""
        return any(client.keys for client in self.clients.values())

    @property
    def has_sequences(self) -> bool:
        """Whether some client knocks by a port sequence."""
        return any(client.sequences is not None for client in self.clients.values())

    @property
    def has_hooks(self) -> bool:
        """Whether programs are run when grants of some service begin or end."""
        return any(one.on_open or one.on_close for one in self.services.values())

    @property
    def untagged(self) -> tuple[Shape, ...]:
        """What knocks without a tag look like; none: no client sends any."""
        shapes = []
        keys = [key for one in self.clients.values() for key in (one.open_key, one.close_key) if key is not None]
        if keys:
            # a plain key may name a service, and end a line
            behind = max(map(len, self.services), default=0) + len(" \r\n")
            shapes.append(Shape(min(map(len, keys)), max(map(len, keys)) + behind))
        if theirs := [one.fwknop for one in self.clients.values() if one.fwknop is not None]:
            tries = sum(1 if one.hmac_key is not None else _DECRYPTION for one in theirs)
            shapes.append(Shape(140, 1500, begins_with=b"89+/", ascii=100, tries=tries))
        return tuple(shapes)


def show_ports(service: Service) -> str:
    """Write the ports of a service as rules.yaml has them."""
    return ", ".join(map(str, service.ports))
