"""What a room must do to take another's place: knock formats, replay memories, stores, firewalls. Pure: no code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from gatekeeper.model import (
    Action,
    Changes,
    Datagram,
    Effect,
    Floor,
    Grant,
    Hit,
    Knock,
    Outcome,
    Reading,
    Reason,
    Refusal,
    Revoke,
    Stamp,
    Tags,
    TrailEntry,
    Wanted,
)
from gatekeeper.networks import Address, Source
from gatekeeper.settings import Rules, Service


class KnockFormat(Protocol):
    """A way to write a knock. One file in ``knocks/`` each."""

    name: str

    def glance(self, payload: bytes, *, now: float) -> bool | Refusal | Knock:
        """Tell, in about a microsecond, whether a payload is of this format and worth dissecting.

        Or, where the very same was read before, what it says: then it is dissected only if it may count.
        """

    def open(self, datagram: Datagram, *, now: float) -> Knock | Refusal:
        """Read a knock whose payload a glance found worth it."""

    def tags(self, *, now: float) -> Tags | None:
        """Say by which tags the kernel can tell its knocks; ``None``: by none, a process must look at them."""

    def renew(self, *, now: float, at_once: bool = False) -> None:
        """Make what the time to come needs: a piece of it (every two seconds, between packets), or all at once."""


@runtime_checkable
class ListensToPorts(Protocol):
    """What a knock format has besides, if its knocks are packets to ports that are no knock ports.

    Such packets go on, whatever they were, so that a port looks as it did before anybody listened to it. That those of
    one source come to one worker is the ruleset's business (``firewall/steps.py``).
    """

    @property
    def listens(self) -> frozenset[tuple[int, int]]:
        """The ports: number of the protocol, and of the port."""

    def hear(self, hit: Hit, *, now: float) -> Knock | Refusal | None:
        """Take note of a packet; return the knock that it completes, if it does."""


class Replays(Protocol):
    """What stamps have been spent, as far as the gate knows."""

    def refusal(self, stamp: Stamp, action: Action, *, now: float) -> Reason | None:
        """Say why a stamp cannot be spent; ``None`` if it can."""

    def spend(self, stamp: Stamp, action: Action) -> None:
        """Note that it is."""


class Store(Protocol):
    """The truth about grants and spent stamps. Every method is atomic and, once it has returned, on the disk."""

    def commit(self, effects: Sequence[Effect], *, now: float) -> list[Outcome]:
        """Carry out effects in one transaction; one outcome each."""

    def expire(self, *, now: float, limit: int = -1) -> list[Grant]:
        """Remove and return the grants that ended by time; at most ``limit`` of them, if it is not negative."""

    def shorten(self, shorter: Sequence[Grant], *, now: float) -> None:
        """Let grants end earlier: the rules say so, and nobody has opened or closed anything."""

    def forget(self, gone: Sequence[Grant], *, now: float) -> None:
        """Remove grants, whoever gave them."""

    def rebase(self, reading: Reading) -> None:
        """Move the deadlines that were reckoned in this boot by as much as the wall clock was set since."""

    def live(self, *, now: float) -> list[Grant]:
        """All grants that hold at ``now``."""

    @property
    def born(self) -> int:
        """When the store was made (Unix time in nanoseconds): the floor of a key that has none."""

    def floors(self) -> dict[bytes, Floor]:
        """Return the floors of the keys that have one."""

    def matching(self, service: str, source: Source, *, now: float) -> list[Grant]:
        """The live grants, of any client, for exactly this service and source."""

    def touching(self, source: Source, *, now: float) -> list[Grant]:
        """The live grants that share an address with ``source``."""

    def lower_floors(self, keys: Sequence[bytes], *, now: float) -> tuple[int, int]:
        """Set back to ``now`` the floors that are above it; return how many were, and how many could not be."""

    def owed_cuts(self) -> list[Revoke]:
        """The revokes, of any process, whose cuts have not been settled."""

    def settle_cuts(self, cuts: Sequence[Revoke]) -> None:
        """Note that these have been carried out."""

    def add_counts(self, counts: Mapping[str, int], noted: Sequence[TrailEntry] = (), *, now: float = 0.0) -> None:
        """Add to the counters that outlive a restart, and to the audit trail."""

    def trail(self, wanted: Wanted, *, after: int = 0, limit: int = -1) -> list[TrailEntry]:
        """What the audit trail has, the newest first; of the rows behind the number ``after``; at most ``limit``."""

    def counts(self) -> dict[str, int]:
        """Return these counters."""

    def changed_by_others(self) -> bool:
        """Whether another process has written since this was last asked."""

    def changes(self) -> Changes | None:
        """What has become of the grants that others changed since this was last asked; ``None``: of too many.

        Some of our own may be among them.
        """

    def close(self) -> None:
        """Let go of the store."""


Member = tuple[str, Source]
"""A service, and whom it lets in."""


class Backend(Protocol):
    """A firewall that grants are projected into."""

    @property
    def keeps_time(self) -> bool:
        """Whether a member goes by itself when its time is up."""

    @property
    def really_cuts(self) -> bool:
        """Whether connections are cut, or only counted."""

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Make these, and no others, the members of each service; the values are seconds left."""

    def change(self, put: Mapping[Member, int | None], remove: Iterable[Member]) -> dict[Member, str]:
        """Let members in for so many seconds, whatever was there before; let others in no longer.

        Returns what was refused, and why; the rest is done. It is no error to remove what is not there, be it the
        member or its service.
        """

    def members(self, service: str) -> list[Source]:
        """List whom the kernel lets in."""

    def sizes(self, services: Iterable[str]) -> Mapping[tuple[str, int], int]:
        """Count, by service and IP version, whom the kernel lets in; cheaply. -1 where that cannot be right."""

    def timeouts(self, service: str) -> Mapping[Source, int | None]:
        """List whom the kernel lets in, and for how many seconds (``None``: no limit; negative: only half-way in)."""

    def mend_networks(self, rules: Rules) -> Sequence[str]:
        """Put right what the kernel has of ``always`` and ``never``, if its size is wrong; say what that was."""

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        """End the open connections of ``sources``, but for addresses to ``spare``; return how many."""
