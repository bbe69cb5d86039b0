"""The rules backend: one persistent iptables rule for each grant and direction, where there is no ipset.

For containers and small routers. The cost of a packet grows with the number of grants, a change takes a process or
two, and the kernel keeps no time: a grant ends when the daemon says so, or at its next start.

Opening must be fast, so it does not look first: a rule that another process has put there too is there twice then,
and removing removes them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import apply, ruleset, saved, tools
from gatekeeper.firewall.cut import cut
from gatekeeper.firewall.members import RuleMembers, arriving_rule, leaving_rule
from gatekeeper.firewall.names import from_chain, to_chain
from gatekeeper.networks import Address, Source
from gatekeeper.settings import Rules, Service


class RulesBackend:
    """The real kernel of this network namespace."""

    name = "rules"

    def __init__(self, rules: Rules, variant: tools.Iptables, *, cuts: bool = True) -> None:
        """``variant``: where the chains are. ``cuts``: whether connections are cut, or only counted."""
        self._rules = rules
        self._variant = variant
        self._cuts = cuts
        self._put: set[tuple[str, Source]] = set()
        """What we have put there and not removed. (Another process may have.)"""

    def close(self) -> None:
        """Let go of nothing."""

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Make these, and no others, the sources of each service."""
        granted = RuleMembers({name: list(sources) for name, sources in members.items()})
        for version in tools.ip_versions():
            self._variant.restore(version, ruleset.members_text(self._rules, version, granted))
        self._put = {(name, source) for name, sources in members.items() for source in sources}

    def put(self, service: str, source: Source, *, timeout: int | None) -> None:  # noqa: ARG002 (nobody here keeps time)
        """Let ``source`` in until it is removed."""
        if (service, source) in self._put and self._is_there(service, source):
            return
        self._change(source, [f"-I {rule}" for rule in _rules(service, source)])
        self._put.add((service, source))

    def remove(self, service: str, source: Source) -> None:
        """Let ``source`` in no longer. Without its chain, nobody is let in."""
        self._put.discard((service, source))
        there = self._there(service, source)
        self._change(source, [f"-D {rule}" for rule, number in there.items() for _ in range(number)])

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        """End the open connections of ``sources``, but for addresses to ``spare``; return how many."""
        return cut(service, sources, spare=spare, only_count=not self._cuts)

    def count(self, service: str) -> int:
        """Count the sources of a service."""
        return sum(
            len(set(saved.granted(self._saved(version), from_chain(service)))) for version in tools.ip_versions()
        )

    def _is_there(self, service: str, source: Source) -> bool:
        return all(self._there(service, source).values())

    def _there(self, service: str, source: Source) -> dict[str, int]:
        """Tell how often each rule of a grant is there."""
        text = self._saved(source.version)
        return {
            arriving_rule(service, source): saved.granted(text, from_chain(service)).count(source),
            leaving_rule(service, source): saved.granted(text, to_chain(service)).count(source),
        }

    def _saved(self, version: int) -> str:
        return self._variant.save(version).get(apply.TABLE, "")

    def _change(self, source: Source, lines: list[str]) -> None:
        if not lines:
            return
        text = "".join(f"{line}\n" for line in (f"*{apply.TABLE}", *lines, "COMMIT"))
        try:
            self._variant.restore(source.version, text)
        except FirewallError as error:
            raise FirewallError(f"the rules of {source} could not be changed: {error.message}", error.hint) from error


def _rules(service: str, source: Source) -> list[str]:
    return [arriving_rule(service, source), leaving_rule(service, source)]
