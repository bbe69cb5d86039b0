"""Puts the ruleset into the kernel, says what is there, and takes it out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import drops, ruleset, saved, sets, tools
from gatekeeper.firewall.members import Members, RuleMembers, SetMembers
from gatekeeper.firewall.names import from_chain
from gatekeeper.settings import Rules

TABLE = "mangle"
"""The table that has the services' chains."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is in the kernel: in which variant of iptables, whether grants are rules there, whether it only observes."""

    variant: tools.Iptables
    has_rules: bool
    observes: bool
    services: frozenset[str] = frozenset()
    """Whose chains are there."""


def load_sets(rules: Rules) -> tuple[tools.Iptables, list[str]]:
    """Put chains and sets in place, closed; members that sets have already stay. Returns the variant, and warnings.

    Chains of ours in the other variant are taken out, and so are the sets of services that are gone.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    chosen = tools.choose(rules.firewall.variant)
    tools.restore_sets(sets.create_text(rules))
    _load(chosen, lambda version, before: ruleset.iptables_text(rules, version, SetMembers(), before))
    return chosen, remove_others(chosen) + _remove_stale_sets(keep=sets.names_of(rules))


def load_rules(rules: Rules) -> tuple[tools.Iptables, list[str]]:
    """Put chains in place, closed but for the grants that have a rule there already. Returns the variant, and warnings.

    Chains of ours in the other variant are taken out, and so are all our sets.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    chosen = tools.choose(rules.firewall.variant)
    _load(chosen, lambda version, before: whole_text(rules, version, RuleMembers(), before))
    return chosen, remove_others(chosen) + _remove_stale_sets(keep=set())


def whole_text(
    rules: Rules, version: int, members: Members, before: Mapping[str, str], *, known_tags: Sequence[bytes] = ()
) -> str:
    """Write what loads the whole ruleset over what was there ``before``; grants that are rules stay."""
    if isinstance(members, RuleMembers):
        mangle = before.get(TABLE, "")
        granted = {name: list(dict.fromkeys(saved.granted(mangle, from_chain(name)))) for name in rules.services}
        members = RuleMembers(granted)
    return ruleset.iptables_text(rules, version, members, before, known_tags=known_tags)


def _load(variant: tools.Iptables, text: Callable[[int, Mapping[str, str]], str]) -> None:
    """Load both IP versions, or leave both as they were (but where nothing of ours was, it stays closed)."""
    before: dict[int, dict[str, str]] = {}
    try:
        for version in tools.ip_versions():
            before[version] = variant.save(version)
            variant.restore(version, text(version, before[version]))
    except FirewallError:
        for version, tables in before.items():
            with contextlib.suppress(FirewallError):  # the first error is what must be said
                variant.restore(version, saved.return_text(tables, variant.save(version)))
        raise


def loaded() -> Loaded | None:
    """Say what is in the kernel; ``None`` if nothing of ours is.

    Raises:
        FirewallError: a tool is missing, or we may not look.
    """
    for variant in tools.installed_variants():
        tables = [variant.save(version) for version in tools.ip_versions()]
        if any(saved.our_chains(text) for one in tables for text in one.values()):
            texts = [text for one in tables if saved.our_chains(text := one.get(TABLE, ""))]
            has_rules = any(map(saved.has_member_chains, texts))
            services = frozenset(name for text in texts for name in saved.services(text))
            return Loaded(variant, has_rules, bool(texts) and all(map(saved.observes, texts)), services)
    return None


def dropped(variant: tools.Iptables) -> dict[str, int]:
    """Say how many packets the kernel has dropped by itself since the ruleset was loaded, by reason.

    Raises:
        FirewallError: a tool is missing, or we may not look.
    """
    texts = [text for one in tools.ip_versions() for text in variant.save(one, counters=True).values()]
    return dict(drops.read("\n".join(texts)))


def flush() -> list[str]:
    """Take every rule, chain and set of ours out, and nothing else; say what went.

    Raises:
        FirewallError: a tool is missing or refused.
    """
    gone: list[str] = []
    for variant in tools.installed_variants():
        gone += _remove_chains(variant)
    return gone + _remove_sets(keep=set())


def remove_others(chosen: tools.Iptables) -> list[str]:
    """Take our chains out of the other variant; return what could not be done, for the ruleset is in place already.

    Whoever is not root sees nothing in the legacy variant, and takes nothing out.
    """
    for other in tools.installed_variants():
        try:
            if other != chosen:
                _remove_chains(other)
        except FirewallError as error:
            return [f"what is left in iptables {other.variant} could not be taken out: {error.message}"]
    return []


def _remove_stale_sets(keep: set[str]) -> list[str]:
    """Remove the sets that these rules do not need; one that a foreign rule uses is emptied, and told of."""
    warnings = []
    for name in tools.our_sets():
        if name not in keep:
            try:
                tools.destroy_set(name)
            except FirewallError:
                with contextlib.suppress(FirewallError):  # the ruleset is in place already, and does not use it
                    tools.run(["ipset", "flush", name])
                warnings.append(f"the set {name} is emptied, and not removed: a rule that is not ours uses it")
    return warnings


def _remove_chains(variant: tools.Iptables) -> list[str]:
    gone: list[str] = []
    for version in tools.ip_versions():
        before = variant.save(version)
        text = saved.removal_text(before)
        if not text:
            continue
        variant.restore(version, text)
        name = f"{'iptables' if version == 4 else 'ip6tables'} ({variant.variant})"
        for table, its in before.items():
            gone += [f"{name}: rule -t {table} {rule}" for rule in saved.foreign_jumps(its)]
            gone += [f"{name}: chain -t {table} {chain}" for chain in saved.our_chains(its)]
    return gone


def _remove_sets(keep: set[str]) -> list[str]:
    gone: list[str] = []
    for name in tools.our_sets():
        if name not in keep:
            try:
                tools.destroy_set(name)
            except FirewallError as error:
                hint = "a rule that is not ours still uses it: iptables-save | grep " + name
                raise FirewallError(error.message, hint) from error
            gone.append(f"ipset: set {name}")
    return gone
