"""Which backend: as the rules say, as this machine can, as the kernel has it."""

from __future__ import annotations

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import apply, tools
from gatekeeper.firewall.kernel import IpsetBackend
from gatekeeper.firewall.rulewise import RulesBackend
from gatekeeper.settings import Mode, Rules

KernelBackend = IpsetBackend | RulesBackend


def load(rules: Rules) -> tuple[KernelBackend, str, list[str]]:
    """Put the ruleset in place; return the backend, the variant of iptables, and what an administrator should know.

    Raises:
        FirewallError: a tool is missing or refused. What was in place is still there.
    """
    really = rules.mode is Mode.GUARD
    reason: list[str] = []
    if rules.firewall.backend != "rules":
        try:
            variant, warnings = apply.load_sets(rules)
            return IpsetBackend(really_cuts=really), variant.variant, warnings
        except FirewallError as error:
            if rules.firewall.backend == "ipset" or not tools.is_for_lack_of_ipset(error):
                raise
            reason = [
                f"no ipset here ({error.message}): each grant is a rule of iptables, and ends only while run is up"
            ]
    variant, warnings = apply.load_rules(rules)
    return RulesBackend(rules, variant, really_cuts=really), variant.variant, reason + warnings


def attach(rules: Rules) -> KernelBackend:
    """Return the backend that is loaded, or that would be, without loading anything.

    Raises:
        FirewallError: a tool is missing, or we may not look.
    """
    return of(apply.loaded(), rules)


def of(there: apply.Loaded | None, rules: Rules) -> KernelBackend:
    """Return the backend of what is loaded; or that would be, if nothing is."""
    if there is not None:
        really = not there.observes
        return (
            RulesBackend(rules, there.variant, really_cuts=really)
            if there.has_rules
            else IpsetBackend(really_cuts=really)
        )
    if rules.firewall.backend == "rules" or (rules.firewall.backend == "auto" and tools.find("ipset") is None):
        return RulesBackend(rules, tools.choose(rules.firewall.variant))
    return IpsetBackend()
