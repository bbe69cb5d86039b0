"""Which backend: as the rules say, as this machine can, as the kernel has it."""

from __future__ import annotations

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import apply
from gatekeeper.firewall.kernel import IpsetBackend
from gatekeeper.firewall.rulewise import RulesBackend
from gatekeeper.settings import Mode, Rules

KernelBackend = IpsetBackend | RulesBackend


def load(rules: Rules) -> tuple[KernelBackend, str, str | None]:
    """Put the ruleset in place; return the backend, the variant of iptables, and why it is not ipset, if it may be.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    cuts = rules.mode is Mode.GUARD
    reason = None
    if rules.firewall.backend != "rules":
        try:
            variant = apply.load_sets(rules)
            return IpsetBackend(cuts=cuts), variant.variant, None
        except FirewallError as error:
            if rules.firewall.backend == "ipset":
                raise
            reason = error.message
    variant = apply.load_rules(rules)
    return RulesBackend(rules, variant, cuts=cuts), variant.variant, reason


def attach(rules: Rules) -> KernelBackend:
    """Return the backend that is loaded, or that would be, without loading anything.

    Raises:
        FirewallError: a tool is missing, or we may not look.
    """
    there = apply.loaded()
    if there is not None and there.has_rules:
        return RulesBackend(rules, there.variant, cuts=not there.observes)
    return IpsetBackend(cuts=there is None or not there.observes)
