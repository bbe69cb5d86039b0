"""What is ours in the kernel at one moment, in both variants of iptables; and how it is put back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import putback, tools
from gatekeeper.firewall.names import SET_PREFIX
from gatekeeper.firewall.putback import Member
from gatekeeper.firewall.saved import our_chains

_SOON = 2.0
"""Seconds by which a timeout may differ from our reckoning."""
Tables = Mapping[str, str]
"""Table -> its iptables-save text."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the kernel has; of plain values, so that it can be kept in a file."""

    taken: float
    """Seconds since the machine started, suspended or not (CLOCK_BOOTTIME): a clock that nobody sets."""
    tables: Mapping[str, Mapping[str, Tables]]
    """Variant -> IP version, as text -> tables."""
    sets: str
    """The lines of ``ipset save`` that are about sets of ours."""

    def of(self, variant: str, version: int) -> Tables:
        """Return the tables of one variant and IP version."""
        return self.tables.get(variant, {}).get(str(version), {})

    def texts(self) -> Iterator[str]:
        """Return the text of every table."""
        return (text for versions in self.tables.values() for tables in versions.values() for text in tables.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing of ours was there."""
        return not self.sets and not any(map(our_chains, self.texts()))


def boottime() -> float:
    """Return the seconds since the machine started, with those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def take() -> Snapshot:
    """Look at what is ours in the kernel.

    Raises:
        FirewallError: a tool is missing, or we may not look.
    """
    tables = {
        one.variant: {str(version): one.save(version) for version in tools.ip_versions()}
        for one in tools.installed_variants()
    }
    return Snapshot(boottime(), tables, _saved_sets())


def _saved_sets() -> str:
    try:
        lines = tools.run(["ipset", "save"]).splitlines(keepends=True)
    except FirewallError as error:
        if tools.is_for_lack_of_ipset(error):
            return ""
        raise
    return "".join(line for line in lines if line.split()[1].startswith(SET_PREFIX))


def closed_since(seen: Snapshot) -> frozenset[Member]:
    """List the grants that were ``seen`` and have been closed since: they are gone, and had time left.

    Raises:
        FirewallError: as ``take``.
    """
    now = take()
    margin = now.taken - seen.taken + _SOON
    there = putback.granted(putback.read_sets(now.sets), now.texts())
    return putback.closed(putback.granted(putback.read_sets(seen.sets), seen.texts(), longer_than=margin), there)


def put_back(before: Snapshot, *, closed: Collection[Member] = ()) -> list[str]:
    """Make everything of ours what it was, but for grants that were ``closed`` since; return warnings.

    Sets keep what is left of their timeouts. First what was there comes back, and then what was not goes, so that
    nothing is open in between that was closed before and is closed now.

    Raises:
        FirewallError: a tool is missing or refused, or the kernel's ruleset is not what was put there.
    """
    now = take()
    left = putback.left_after(putback.read_sets(before.sets), now.taken - before.taken)
    sets = putback.sets_without(left, closed)
    if sets:
        tools.run(["ipset", "restore"], putback.sets_text(sets, set(tools.our_sets())))
    wanted = {
        (one, version): {
            table: putback.table_without(text, closed) for table, text in before.of(one.variant, version).items()
        }
        for one in sorted(tools.installed_variants(), key=lambda one: not _has_chains(before, one.variant))
        for version in tools.ip_versions()
    }
    for (one, version), tables in wanted.items():
        text = putback.tables_text(tables, now.of(one.variant, version))
        if text:
            one.restore(version, text)
    warnings = _remove_sets(keep=set(sets))
    after = take()
    for (one, version), tables in wanted.items():
        _compare(tables, after.of(one.variant, version), one.variant)
    return warnings


def _has_chains(snapshot: Snapshot, variant: str) -> bool:
    versions = snapshot.tables.get(variant, {})
    return any(our_chains(text) for tables in versions.values() for text in tables.values())


def _remove_sets(keep: set[str]) -> list[str]:
    """Remove sets that were not there; one that a foreign rule uses is emptied, and told of."""
    warnings: list[str] = []
    for name in tools.our_sets():
        if name not in keep:
            try:
                tools.destroy_set(name)
            except FirewallError:
                with contextlib.suppress(FirewallError):
                    tools.run(["ipset", "flush", name])
                warnings.append(f"the set {name} is emptied, and not removed: a rule that is not ours uses it")
    return warnings


def _compare(expected: Tables, there: Tables, variant: str) -> None:
    for table in dict.fromkeys((*expected, *there)):
        if putback.ours_in(expected.get(table, "")) != putback.ours_in(there.get(table, "")):
            hint = "is another program changing it, or a second gatekeeper?"
            raise FirewallError(f"the table {table} (iptables {variant}) is not what was put back", hint)
