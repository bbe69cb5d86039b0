"""Puts the ruleset into the kernel, and takes it out."""

from __future__ import annotations

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import ruleset, tools
from gatekeeper.model import Rules


def load(rules: Rules) -> str:
    """Put chains and sets in place, closed; members that sets have already stay. Returns the variant.

    Chains of ours in the other variant are taken out, and so are the sets of services that are gone.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    chosen = tools.choose(rules.firewall.variant)
    tools.run(["ipset", "restore"], ruleset.create_sets_text(rules.services))
    for version in tools.ip_versions():
        stale = {table: ruleset.foreign_jumps(text) for table, text in chosen.save(version).items()}
        chosen.restore(version, ruleset.iptables_text(rules, version, stale))
    for other in tools.installed_variants():
        if other != chosen:
            _remove_chains(other)
    _remove_sets(keep={name.split()[1] for name in ruleset.create_sets_text(rules.services).splitlines()})
    return chosen.variant


def is_loaded() -> bool:
    """Whether any chain of ours is in the kernel."""
    return any(
        ruleset.our_chains(text)
        for variant in tools.installed_variants()
        for version in tools.ip_versions()
        for text in variant.save(version).values()
    )


def flush() -> list[str]:
    """Take every rule, chain and set of ours out, and nothing else; say what went.

    Raises:
        FirewallError: a tool is missing or refused.
    """
    gone: list[str] = []
    for variant in tools.installed_variants():
        gone += _remove_chains(variant)
    return gone + _remove_sets(keep=set())


def _remove_chains(variant: tools.Iptables) -> list[str]:
    gone: list[str] = []
    for version in tools.ip_versions():
        saved = variant.save(version)
        text = ruleset.removal_text(saved)
        if not text:
            continue
        variant.restore(version, text)
        name = f"{'iptables' if version == 4 else 'ip6tables'} ({variant.variant})"
        for table, before in saved.items():
            gone += [f"{name}: rule -t {table} {rule}" for rule in ruleset.foreign_jumps(before)]
            gone += [f"{name}: chain -t {table} {chain}" for chain in ruleset.our_chains(before)]
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
