"""Every value that crosses from one room to another.

Pure: values only. Times are Unix seconds (float), durations are whole seconds (int). ``None`` as a
duration or a deadline means "until it is closed".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gatekeeper.networks import Address, Source
from gatekeeper.schedule import Hours

BY_HAND = "(admin)"
"""The client of a grant that an administrator gave; rules.yaml cannot name a client so."""


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
    """This machine's addresses at which it is guarded; none named: at all."""
    interfaces: tuple[str, ...] = ()
    """Those by which it is guarded, as iptables names them; none named: all."""
    always: tuple[Source, ...] = ()
    """Who needs no knock."""
    never: tuple[Source, ...] = ()
    """Whom no knock lets in; goes before ``always``."""
    hours: tuple[Hours, ...] = ()
    """When knocks may open it; none named: at any time."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A key holder: of X25519 keys, one for each device, or of plain keys (which stay out of ``repr``)."""

    name: str
    services: tuple[str, ...]
    keys: tuple[bytes, ...] = ()
    """Public keys, 32 bytes each."""
    open_key: bytes | None = field(default=None, repr=False)
    close_key: bytes | None = field(default=None, repr=False)
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


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A private key of the server's (32 bytes), and when it stops being accepted (Unix seconds)."""

    private: bytes = field(repr=False)
    until: float | None = None


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """Where gatekeeper hangs in the kernel: iptables variant, NFQUEUE number, mark bit, backend."""

    variant: str = "auto"
    queue: int = 6220
    mark: int = 0x2000_0000
    backend: str = "auto"


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
    skew: int = 120
    """Seconds that a client's clock may differ from ours."""
    acknowledge: bool = False
    """Whether sealed knocks that were accepted are answered."""
    server_keys: tuple[ServerKey, ...] = ()
    """Those that the rules name, the current one (no ``until``) first; without one, the state directory has it."""


class Action(enum.StrEnum):
    """What a knock asks for."""

    OPEN = "open"
    CLOSE = "close"


class Verdict(enum.Enum):
    """What becomes of a queued packet."""

    DROP = "drop"
    REPEAT = "repeat"
    """Given back: the kernel's own rules judge it again."""
    HOLD = "hold"
    """Kept a little, then given back: a grant may be on its way."""
    ACCEPT = "accept"
    """Goes on: an echo request, which nothing here guards."""


class Reason(enum.StrEnum):
    """Why a packet met its verdict: one code per cause, the same in logs, counters and docs/reasons.md."""

    OPENED = "opened"
    CLOSED = "closed"
    GRANTED = "granted"
    NO_GRANT = "no-grant"
    NO_GRANT_MIDSTREAM = "no-grant-midstream"
    UNKNOWN_KEY = "unknown-key"
    UNKNOWN_CLIENT = "unknown-client"
    WRONG_EPOCH = "wrong-epoch"
    BAD_MAC = "bad-mac"
    LOW_ORDER = "low-order"
    BAD_SEAL = "bad-seal"
    BAD_FIELDS = "bad-fields"
    OLD_SERVER_KEY = "old-server-key"
    CLIENT_EXPIRED = "client-expired"
    CLOCK_SKEW = "clock-skew"
    REPLAYED = "replayed"
    BEFORE_CLOSE = "before-close"
    BEFORE_STORE = "before-store"
    FLOOR_AHEAD = "floor-ahead"
    SOURCE_NOT_ALLOWED = "source-not-allowed"
    ADDRESS_MISSING = "address-missing"
    ADDRESS_MISMATCH = "address-mismatch"
    BAD_ADDRESS = "bad-address"
    SERVICE_NOT_ALLOWED = "service-not-allowed"
    OUTSIDE_HOURS = "outside-hours"
    NEVER = "never"
    LINK_LOCAL = "link-local"
    BAD_CHECKSUM = "bad-checksum"
    MALFORMED = "malformed"
    FRAGMENT = "fragment"
    NOT_GUARDED = "not-guarded"
    ECHO = "echo"
    OVERLOADED = "overloaded"
    NOT_APPLIED = "not-applied"
    INTERNAL_ERROR = "internal-error"


@dataclass(frozen=True, slots=True)
class Datagram:
    """A candidate knock, dissected. An echo request has no ports: they are 0."""

    source: Address
    destination: Address
    source_port: int
    destination_port: int
    payload: bytes = field(repr=False)
    checksum_ok: bool = True
    via: Via = Via.UDP


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes a knock one of a kind: who sent it (a public key), and when (Unix time in nanoseconds)."""

    key: bytes
    sent_at: int


@dataclass(frozen=True, slots=True)
class Knock:
    """What a key holder asks for. No services named: all that the client may open."""

    action: Action
    client: str
    services: tuple[str, ...] = ()
    ttl: int | None = 0
    """Seconds asked for; 0: the server's own, ``None``: until closed."""
    address: Address | None = None
    """Whom it is for; ``None``: whoever the server sees."""
    stamp: Stamp | None = None
    """``None`` where a format has none: then nothing stops a replay."""
    answer: Callable[[Action, int | None, bytes], bytes] | None = None
    """Writes what may be sent back: what was done, for how many seconds, with a fresh private key."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A knock that a format knows for its own, and refuses."""

    reason: Reason
    client: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """``source`` may reach ``service`` until ``expires_at`` (Unix seconds; ``None``: until closed)."""

    source: Source
    service: str
    client: str
    expires_at: float | None

    def is_live(self, now: float) -> bool:
        """Whether the grant still holds at ``now``."""
        return self.expires_at is None or self.expires_at > now


@dataclass(frozen=True, slots=True)
class Admit:
    """Effect: put these grants in place. A stamp is spent with it, or stands in its way."""

    grants: tuple[Grant, ...]
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class Revoke:
    """Effect: end the grants whose source lies in ``source``; ``None`` stands for any client, any service."""

    source: Source
    client: str | None = None
    services: tuple[str, ...] | None = None
    stamp: Stamp | None = None


Effect = Admit | Revoke


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back to whom, once the effect is carried out; ``write`` takes a fresh private key."""

    datagram: Datagram
    write: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says about one packet, and why."""

    verdict: Verdict
    reason: Reason
    effect: Effect | None = None
    client: str | None = None
    note: str | None = None
    """More of the cause than the reason says, for people."""
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of effects: grants put in place, grants ended, connections cut, what the kernel refused.

    ``refused``: the effect was not carried out, for its stamp was spent or stale.
    """

    admitted: tuple[Grant, ...] = ()
    ended: tuple[Grant, ...] = ()
    cut: int = 0
    error: str | None = None
    refused: Reason | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """What a key has spent: nothing at or below ``floor``, no opening at or below ``closed``, none of ``spent``.

    Unix times in nanoseconds.
    """

    floor: int
    closed: int = 0
    spent: tuple[int, ...] = ()


def show_ports(service: Service) -> str:
    """Write the ports of a service as rules.yaml has them."""
    return ", ".join(map(str, service.ports))
