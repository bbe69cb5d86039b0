"""The rules backend: one persistent iptables rule for each grant and direction, where there is no ipset.

For containers and small routers. The cost of a packet grows with the number of grants, a change takes a process or
two, and the kernel keeps no time: a grant ends when the daemon says so, or at its next start.

Opening must be fast, so it does not look first: a rule that another process has put there too is there twice then,
and removing removes them all.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import apply, expected, ruleset, saved, tools
from gatekeeper.firewall.cut import cut
from gatekeeper.firewall.ipset import Ipset
from gatekeeper.firewall.looks import Look
from gatekeeper.firewall.members import RETURN, RuleMembers, arriving_rule, leaving_rule
from gatekeeper.firewall.names import PASS, from_chain, set_name, to_chain
from gatekeeper.firewall.watches import Watch, watch
from gatekeeper.networks import Address, Source
from gatekeeper.protocols import Member
from gatekeeper.settings import Rules, Service

_HALF = -1_000


class RulesBackend:
    """The real kernel of this network namespace."""

    name = "rules"
    keeps_time = False

    def __init__(self, rules: Rules, variant: tools.Iptables, *, really_cuts: bool = True) -> None:
        """``variant``: where the chains are. ``really_cuts``: whether connections are cut, or only counted."""
        self._rules = rules
        self._variant = variant
        self._sets = Ipset()
        self.really_cuts = really_cuts
        self._known: set[Member] = set()
        """What we have put there and not removed. (Another process may have.)"""
        self._watch: Watch | None = None
        self._returns: dict[tuple[int, str], int] = {}

    def again(self) -> RulesBackend:
        """Make one like it, with a netlink socket of its own: for another process."""
        return RulesBackend(self._rules, self._variant, really_cuts=self.really_cuts)

    def close(self) -> None:
        """Let go of the netlink socket."""
        self._sets.close()
        if self._watch is not None:
            self._watch.close()

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Make these, and no others, the sources of each service."""
        granted = RuleMembers({name: list(sources) for name, sources in members.items()})
        for version in tools.ip_versions():
            self._variant.restore(version, ruleset.members_text(self._rules, version, granted))
        self._known = {(name, source) for name, sources in members.items() for source in sources}

    def change(self, put: Mapping[Member, int | None], remove: Iterable[Member]) -> dict[Member, str]:
        """Let members in until they are removed; let others in no longer. Returns what was refused, and why."""
        refused: dict[Member, str] = {}
        gone = list(remove)
        for version in tools.ip_versions():  # without IPv6, nobody comes by it
            for members, change in ((gone, self._remove), (list(put), self._put)):
                ours = [one for one in members if one[1].version == version]
                try:
                    if ours:
                        change(version, ours)
                except FirewallError as error:
                    refused |= dict.fromkeys(ours, error.message)
        return refused

    def _put(self, version: int, members: Sequence[Member]) -> None:
        there = self._there(version, members) if self._known.intersection(members) else Counter()
        missing = [rule for one in members for rule in _rules(*one) if not there[rule]]
        self._restore(version, [f"-I {rule}" for rule in missing])
        self._known.update(members)

    def _remove(self, version: int, members: Sequence[Member]) -> None:
        self._known.difference_update(members)
        there = self._there(version, members)
        self._restore(version, [f"-D {rule}" for one in members for rule in _rules(*one) for _ in range(there[rule])])
        for service, source in members:  # a start that was killed may have left its sets in use
            with contextlib.suppress(FirewallError):  # there is no ipset in this kernel
                self._sets.delete(set_name(service, source.version), source)

    def members(self, service: str) -> list[Source]:
        """List the sources of a service."""
        chain = from_chain(service)
        found = [source for version in tools.ip_versions() for source in saved.granted(self._saved(version), chain)]
        return list(dict.fromkeys(found))

    def sizes(self, services: Iterable[str]) -> dict[tuple[str, int], int]:
        """Count each service's sources, without a process; -1 where the two rules of one do not both stand there."""
        looks = self._looks()
        found: dict[tuple[str, int], int] = {}
        for version, look in looks.items():
            for name in services:
                arriving = sum(one.leads_to == PASS for one in look.get((apply.TABLE, from_chain(name)), ()))
                leaving = sum(one.leads_to == RETURN for one in look.get((apply.TABLE, to_chain(name)), ()))
                ends = self._returns.get((version, to_chain(name)), 0)
                found[name, version] = arriving if arriving == leaving - ends else -1
        return found

    def _looks(self) -> Mapping[int, Look]:
        if self._watch is None:
            self._watch = watch(self._variant.variant, [apply.TABLE], tools.ip_versions())
            for version in tools.ip_versions():
                text = ruleset.members_text(self._rules, version, RuleMembers())
                for (_, chain), lines in expected.read(text).rules.items():
                    self._returns[version, chain] = sum(line.endswith(f"-j {RETURN}") for line in lines)
        return self._watch.looks()

    def timeouts(self, service: str) -> dict[Source, int | None]:
        """List the sources of a service: no limit, or -1 if only one of the two rules of one is there."""
        found: dict[Source, int | None] = {}
        for version in tools.ip_versions():
            text = self._saved(version)
            arriving, leaving = (set(saved.granted(text, chain(service))) for chain in (from_chain, to_chain))
            found |= dict.fromkeys(arriving & leaving, None) | dict.fromkeys(arriving ^ leaving, _HALF)
        return found

    def mend_networks(self, rules: Rules) -> list[str]:  # noqa: ARG002
        """Do nothing: these are rules here, which the guardian keeps."""
        return []

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        """End the open connections of ``sources``, but for addresses to ``spare``; return how many."""
        return cut(service, sources, spare=spare, only_count=not self.really_cuts)

    def count(self, service: str) -> int:
        """Count the sources of a service."""
        return len(self.members(service))

    def _there(self, version: int, members: Sequence[Member]) -> Counter[str]:
        """Tell how often each rule of these services is there."""
        text = self._saved(version)
        there: Counter[str] = Counter()
        for service in {service for service, _ in members}:
            there.update(arriving_rule(service, one) for one in saved.granted(text, from_chain(service)))
            there.update(leaving_rule(service, one) for one in saved.granted(text, to_chain(service)))
        return there

    def _saved(self, version: int) -> str:
        return self._variant.save(version).get(apply.TABLE, "")

    def _restore(self, version: int, lines: list[str]) -> None:
        if lines:
            text = "".join(f"{line}\n" for line in (f"*{apply.TABLE}", *lines, "COMMIT"))
            self._variant.restore(version, text)


def _rules(service: str, source: Source) -> list[str]:
    return [arriving_rule(service, source), leaving_rule(service, source)]
