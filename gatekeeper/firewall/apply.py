"""Puts the ruleset into the kernel, says what is there, and takes it out."""

from __future__ import annotations

from dataclasses import dataclass

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import ruleset, saved, sets, tools
from gatekeeper.firewall.members import RuleMembers, SetMembers
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


def load_sets(rules: Rules) -> tools.Iptables:
    """Put chains and sets in place, closed; members that sets have already stay. Returns the variant.

    Chains of ours in the other variant are taken out, and so are the sets of services that are gone.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    chosen = tools.choose(rules.firewall.variant)
    tools.run(["ipset", "restore"], sets.create_text(rules))
    for version in tools.ip_versions():
        chosen.restore(version, ruleset.iptables_text(rules, version, SetMembers(), chosen.save(version)))
    _remove_others(chosen)
    _remove_sets(keep=sets.names_of(rules))
    return chosen


def load_rules(rules: Rules) -> tools.Iptables:
    """Put chains in place, closed but for the grants that have a rule there already. Returns the variant.

    Chains of ours in the other variant are taken out, and so are all our sets.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    chosen = tools.choose(rules.firewall.variant)
    for version in tools.ip_versions():
        before = chosen.save(version)
        text = before.get(TABLE, "")
        granted = {name: list(dict.fromkeys(saved.granted(text, from_chain(name)))) for name in rules.services}
        chosen.restore(version, ruleset.iptables_text(rules, version, RuleMembers(granted), before))
    _remove_others(chosen)
    if tools.find("ipset") is not None:
        _remove_sets(keep=set())
    return chosen


def loaded() -> Loaded | None:
    """Say what is in the kernel; ``None`` if nothing of ours is.

    Raises:
        FirewallError: a tool is missing, or we may not look.
    """
    for variant in tools.installed_variants():
        texts = [text for version in tools.ip_versions() for text in variant.save(version).values()]
        if any(map(saved.our_chains, texts)):
            has_rules = any(map(saved.has_member_chains, texts))
            return Loaded(variant, has_rules, any(map(saved.observes, texts)))
    return None


def flush() -> list[str]:
    """Take every rule, chain and set of ours out, and nothing else; say what went.

    Raises:
        FirewallError: a tool is missing or refused.
    """
    gone: list[str] = []
    for variant in tools.installed_variants():
        gone += _remove_chains(variant)
    return gone + (_remove_sets(keep=set()) if tools.find("ipset") is not None else [])


def _remove_others(chosen: tools.Iptables) -> None:
    for other in tools.installed_variants():
        if other != chosen:
            _remove_chains(other)


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
                tools.run(["ipset", "destroy", name])
            except FirewallError as error:
                hint = "a rule that is not ours still uses it: iptables-save | grep " + name
                raise FirewallError(error.message, hint) from error
            gone.append(f"ipset: set {name}")
    return gone
