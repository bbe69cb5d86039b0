"""Every value that crosses from one room to another, and the protocols that rooms are replaced by.

Pure: values only. Times are Unix seconds (float), durations are whole seconds (int). ``None`` as a
duration or a deadline means "until it is closed".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Protocol

Address = IPv4Address | IPv6Address
Source = IPv4Network | IPv6Network
"""Who a grant is for: a network; a single address is a /32 or a /128."""

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


@dataclass(frozen=True, slots=True)
class Service:
    """A protected port. ``ttl`` and ``max_ttl`` in seconds; ``None`` is "until closed" and "no limit"."""

    name: str
    transport: Transport
    port: int
    ttl: int | None
    max_ttl: int | None = None
    established: Established = Established.KEEP

    @property
    def keeps_established(self) -> bool:
        """Whether open connections outlive a grant that ends by time."""
        return self.transport is Transport.TCP and self.established is Established.KEEP


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


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A private key of the server's (32 bytes), and when it stops being accepted (Unix seconds)."""

    private: bytes = field(repr=False)
    until: float | None = None


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """Where gatekeeper hangs in the kernel: iptables variant, NFQUEUE number, connmark bit."""

    variant: str = "auto"
    queue: int = 6220
    mark: int = 0x2000_0000


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file that was read and found whole."""

    services: Mapping[str, Service]
    clients: Mapping[str, Client]
    knock_port: int = 62201
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
    LINK_LOCAL = "link-local"
    BAD_CHECKSUM = "bad-checksum"
    MALFORMED = "malformed"
    FRAGMENT = "fragment"
    NOT_GUARDED = "not-guarded"
    OVERLOADED = "overloaded"
    NOT_APPLIED = "not-applied"
    INTERNAL_ERROR = "internal-error"


@dataclass(frozen=True, slots=True)
class Datagram:
    """A candidate knock, dissected."""

    source: Address
    destination: Address
    source_port: int
    destination_port: int
    payload: bytes = field(repr=False)
    checksum_ok: bool = True


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


class KnockFormat(Protocol):
    """A way to write a knock. One file in ``knocks/`` each."""

    name: str

    def glance(self, payload: bytes, *, now: float) -> bool | Refusal | Knock:
        """Tell, in about a microsecond, whether a payload is of this format and worth dissecting.

        Or, where the very same was read before, what it says: then it is dissected only if it may count.
        """

    def open(self, datagram: Datagram, *, now: float) -> Knock | Refusal:
        """Read a knock whose payload a glance found worth it."""

    def renew(self, *, now: float, at_once: bool = False) -> None:
        """Make what the time to come needs: a piece of it, or all at once. Asked once a second, off the packet path."""


class Replays(Protocol):
    """What stamps have been spent, as far as the gate knows."""

    def refusal(self, stamp: Stamp, action: Action, *, now: float) -> Reason | None:
        """Say why a stamp cannot be spent; ``None`` if it can."""

    def spend(self, stamp: Stamp, action: Action) -> None:
        """Note that it is."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What a key has spent: nothing at or below ``floor``, no opening at or below ``closed``, none of ``spent``.

    Unix times in nanoseconds.
    """

    floor: int
    closed: int = 0
    spent: tuple[int, ...] = ()


class Store(Protocol):
    """The truth about grants and spent stamps. Every method is atomic and, once it has returned, on the disk."""

    def commit(self, effects: Sequence[Effect], *, now: float) -> list[Outcome]:
        """Carry out effects in one transaction; one outcome each."""

    def expire(self, *, now: float, limit: int = -1) -> list[Grant]:
        """Remove and return the grants that ended by time; at most ``limit`` of them, if it is not negative."""

    def forget(self, grants: Sequence[Grant]) -> None:
        """Remove grants, whoever gave them."""

    def live(self, *, now: float) -> list[Grant]:
        """All grants that hold at ``now``."""

    @property
    def born(self) -> int:
        """When the store was made (Unix time in nanoseconds): the floor of a key that has none."""

    def floors(self) -> dict[bytes, Floor]:
        """Return the floors of the keys that have one."""

    def matching(self, service: str, source: Source, *, now: float) -> list[Grant]:
        """The live grants, of any client, for exactly this service and source."""

    def owed_cuts(self) -> list[Revoke]:
        """The revokes, of any process, whose cuts have not been settled."""

    def settle_cuts(self, cuts: Sequence[Revoke]) -> None:
        """Note that these have been carried out."""

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add to the counters that outlive a restart."""

    def counts(self) -> dict[str, int]:
        """Return these counters."""

    def changed_by_others(self) -> bool:
        """Whether another process has written since this was last asked."""

    def close(self) -> None:
        """Let go of the store."""


class Backend(Protocol):
    """A firewall that grants are projected into."""

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Make these, and no others, the members of each service; the values are seconds left."""

    def put(self, service: str, source: Source, *, timeout: int | None) -> None:
        """Let ``source`` in for ``timeout`` seconds, whatever was there before."""

    def remove(self, service: str, source: Source) -> None:
        """Let ``source`` in no longer. No error if it was not, nor if the service is not there."""

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        """End the open connections of ``sources``, but for addresses to ``spare``; return how many."""


def host(address: Address) -> Source:
    """Return the source that is this one address."""
    return ip_network(address)


def show_source(source: Source) -> str:
    """Write a source as people do: a single address without its prefix length."""
    return str(source.network_address) if source.num_addresses == 1 else str(source)


def lies_in(inner: Source, outer: Source) -> bool:
    """Whether every address of ``inner`` is one of ``outer``."""
    return covers([outer], inner.network_address) and covers([outer], inner.broadcast_address)


def covers(sources: Iterable[Source], address: Address) -> bool:
    """Whether an address lies in one of the sources."""
    return any(address.version == source.version and address in source for source in sources)


def unmapped(source: Source) -> Source:
    """Return the IPv4 network that an IPv6 one stands for (::ffff:a.b.c.d), or what it was given."""
    mapped = source.network_address.ipv4_mapped if isinstance(source, IPv6Network) else None
    return source if mapped is None or source.prefixlen < 96 else ip_network((int(mapped), source.prefixlen - 96))
