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


@dataclass(frozen=True, slots=True)
class Client:
    """A key holder. Keys stay out of ``repr``, so that no log can show them."""

    name: str
    services: tuple[str, ...]
    open_key: bytes = field(repr=False)
    close_key: bytes | None = field(default=None, repr=False)


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
class Knock:
    """What a key holder asks for. No services named: all that the client may open."""

    action: Action
    client: str
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A knock that a format knows for its own, and refuses."""

    reason: Reason
    client: str | None = None


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
    """Effect: put these grants in place."""

    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Revoke:
    """Effect: end the grants whose source lies in ``source``; ``None`` stands for any client, any service."""

    source: Source
    client: str | None = None
    services: tuple[str, ...] | None = None


Effect = Admit | Revoke


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says about one packet, and why."""

    verdict: Verdict
    reason: Reason
    effect: Effect | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of effects: grants put in place, grants ended, connections cut, what the kernel refused."""

    admitted: tuple[Grant, ...] = ()
    ended: tuple[Grant, ...] = ()
    cut: int = 0
    error: str | None = None


class KnockFormat(Protocol):
    """A way to write a knock. One file in ``knocks/`` each."""

    name: str

    def is_candidate(self, payload: bytes) -> bool:
        """Tell, in about a microsecond, whether a payload is worth dissecting."""

    def open(self, datagram: Datagram, *, now: float) -> Knock | Refusal | None:
        """Read a knock. ``None``: not of this format."""


class Store(Protocol):
    """The truth about grants. Every method is atomic and, once it has returned, on the disk."""

    def commit(self, effects: Sequence[Effect], *, now: float) -> list[Outcome]:
        """Carry out effects in one transaction; one outcome each."""

    def expire(self, *, now: float, limit: int = -1) -> list[Grant]:
        """Remove and return the grants that ended by time; at most ``limit`` of them, if it is not negative."""

    def forget(self, grants: Sequence[Grant]) -> None:
        """Remove grants, whoever gave them."""

    def live(self, *, now: float) -> list[Grant]:
        """All grants that hold at ``now``."""

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
