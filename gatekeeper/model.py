"""Every value that crosses from one room to another, but for what the rules say (``settings.py``).

Pure: values only. Times are Unix seconds (float), durations are whole seconds (int). ``None`` as a
duration or a deadline means "until it is closed".
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import NamedTuple

from gatekeeper.networks import Address, Source, lies_in
from gatekeeper.settings import Via

GRACE = 10 * 10**9
"""How far the floor of a key follows behind its newest stamp, in nanoseconds: knocks overtake each other on the way."""
BY_HAND = "(admin)"
"""The client of a grant that an administrator gave; rules.yaml cannot name a client so."""


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
    """Goes on: an echo request or a step of a sequence, which nothing here guards."""


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
    USER_NOT_ALLOWED = "user-not-allowed"
    UNSUPPORTED = "unsupported"
    OUTSIDE_HOURS = "outside-hours"
    NEVER = "never"
    LINK_LOCAL = "link-local"
    BAD_CHECKSUM = "bad-checksum"
    MALFORMED = "malformed"
    FRAGMENT = "fragment"
    NOT_GUARDED = "not-guarded"
    ECHO = "echo"
    STEP = "step"
    OVERLOADED = "overloaded"
    NOT_APPLIED = "not-applied"
    INTERNAL_ERROR = "internal-error"


Sender = tuple[bytes, str]
"""Who was refused (an IPv4 address, or the first half of an IPv6 address), and why, as counters name it."""


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


class Hit(NamedTuple):
    """A packet to a port that some format listens to: from whom, to which port of which protocol, with which TCP flags.

    ``protocol`` is a number (IANA); ``source`` is packed (4 or 16 bytes).
    """

    source: bytes
    protocol: int
    port: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Tags:
    """The first four bytes of the knocks that may count between two moments (Unix seconds), and some time around."""

    known: tuple[bytes, ...]
    since: float
    until: float

    def hold(self, now: float) -> bool:
        """Whether they are the right ones at ``now``."""
        return self.since <= now < self.until


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes a knock one of a kind: who sent it (a public key, or a hash of what else is the client's), and when.

    Times are in nanoseconds, Unix time.
    """

    key: bytes
    sent_at: int
    grace: int = GRACE
    """How far behind it the key's floor follows: further, where several devices share a key, each with its clock."""
    once: bool = False
    """Whether the key itself is good for one knock; then it does not matter when."""


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


class TrailEntry(NamedTuple):
    """A row of the audit trail: what happened when (Unix seconds), to whom, and why. ``None``: not known."""

    at: float
    reason: str
    client: str | None = None
    source: str | None = None
    service: str | None = None
    ends_at: float | None = None
    """Of what was opened; ``None``: until closed."""
    note: str | None = None
    number: int = 0
    """Counts up; 0 before it is stored."""

    def lies_in(self, source: Source) -> bool:
        """Whether its source is one address, or a network, of ``source``."""
        return self.source is not None and lies_in(ip_network(self.source), source)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for in the trail; ``None`` stands for any."""

    since: float | None = None
    until: float | None = None
    client: str | None = None
    source: Source | None = None
    service: str | None = None
    reason: str | None = None


class Changes(NamedTuple):
    """What has become of grants that were changed: those that are there; of the others the service, source and client.

    One whose time is up is there until somebody has ended it: its connections are to be cut, and it has an entry in
    the trail.
    """

    there: tuple[Grant, ...]
    gone: tuple[tuple[str, Source, str], ...]
    floors: bool
    """Whether floors were set back."""


class Reading(NamedTuple):
    """Which boot this is, and by how many seconds the wall clock was ahead of the time since it."""

    boot: str
    ahead: float


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
    limit: int | None = None
    """End so many at the most, for it is done in parts; ``None``: all."""


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


@dataclass(frozen=True, slots=True)
class Repair:
    """What was amiss in the kernel's ruleset, and what became of it. Durations here are seconds (float)."""

    missing: tuple[str, ...]
    took: float
    """From when it was noticed until all was in order."""
    exposed: float
    """For how long it was so at most: since the kernel told, or since all was last seen in order."""
    by: tuple[str, ...] = ()
    """Who did it, where the kernel tells; else which programs that change firewalls run here."""
    refill: bool = False
    """Whether members may have been lost."""
    error: str | None = None
    """Why it could not be repaired; it is tried again."""
    fight: bool = False
    """Whether repairs wait a little from now on, for somebody undoes each."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What the kernel let in, and should not have; and the other way round."""

    put: tuple[tuple[str, Source], ...] = ()
    """Services and granted sources that were shut out, or would have been in for another time."""
    removed: tuple[tuple[str, Source], ...] = ()
    """Those that were let in, and nobody was granted."""
    networks: tuple[str, ...] = ()
    """Sets of ``always`` and ``never`` networks that were not what the rules say."""
    error: str | None = None
