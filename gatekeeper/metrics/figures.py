"""What is told of one ``run``, as values. Pure. ``None``: it could not be read now, and is left out of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatekeeper.tallies import Took, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store has."""

    counters: Mapping[str, int]
    grants: Mapping[str, int]
    """Live grants, by service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What the kernel has."""

    has_ruleset: bool
    members: Mapping[str, int]
    """Whom it lets in, by service."""
    dropped: Mapping[str, int]
    """Packets that it has dropped without asking, by reason."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, as the kernel shows it to root."""

    waiting: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that is told."""

    version: str
    started: float
    """Unix time."""
    rules_since: float
    """When the rules in force were loaded; Unix time."""
    reload_succeeded: bool | None
    """Whether the last reload (or the start) went well."""
    observes: bool
    clients: int
    workers: int
    replaced: Mapping[str, int]
    took: Took
    sockets: Mapping[tuple[str, int], Waiting]
    """What lies in the sockets of the queues, by lane and worker (from 1)."""
    queues: Mapping[tuple[str, int], Queue] | None
    stored: Stored | None
    kernel: Kernel | None
    tracked: tuple[int, int] | None
    """Tracked connections: how many there are, and how many there can be."""
