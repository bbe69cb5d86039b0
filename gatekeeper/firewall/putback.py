"""Writes what makes our part of the kernel what it was: from what the tools saved then, and say now. Pure.

What was closed meanwhile stays closed: a grant that was there before, was still there when the new ruleset was up, and
then went before its time was closed by somebody, who must not find it open again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from gatekeeper.firewall import saved
from gatekeeper.firewall.names import CHAIN_PREFIX, SET_PREFIX, fresh_set, from_chain, to_chain
from gatekeeper.firewall.saved import foreign_jumps, our_chains
from gatekeeper.networks import Source

_GRANTED = re.compile(rf"^{SET_PREFIX}[46]-")
"""The sets of grants; those of ``always`` and ``never`` are the rules' business."""
_FRESH = re.compile(rf"^{SET_PREFIX}t[46an]")
_FROM, _TO = from_chain(""), to_chain("")
Member = tuple[str, Source]
"""A service, and who may reach it."""


@dataclass(frozen=True, slots=True)
class Set:
    """An ipset: its options as ``ipset save`` prints them, and for each member its seconds left (0: no end)."""

    options: str
    members: Mapping[str, int] = field(default_factory=dict)


def read_sets(text: str) -> dict[str, Set]:
    """Read our sets in the text of ``ipset save``; without those that somebody was just filling."""
    options: dict[str, str] = {}
    members: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        verb, _, rest = line.partition(" ")
        name, _, words = rest.partition(" ")
        if not name.startswith(SET_PREFIX) or _FRESH.match(name):
            continue
        if verb == "create":
            options[name], members[name] = words, {}
        elif verb == "add":
            entry, _, behind = words.partition(" timeout ")
            members[name][entry] = int(behind.split()[0]) if behind else 0  # behind it stand counters, in some sets
    return {name: Set(words, members[name]) for name, words in options.items()}


def left_after(sets: Mapping[str, Set], seconds: float) -> dict[str, Set]:
    """Let time pass: members get what is left of their timeouts, and those whose time is up are gone."""
    return {
        name: Set(
            one.options,
            {
                entry: max(1, int(timeout - seconds)) if timeout else 0
                for entry, timeout in one.members.items()
                if not timeout or timeout > seconds
            },
        )
        for name, one in sets.items()
    }


def granted(sets: Mapping[str, Set], texts: Iterable[str], *, longer_than: float = 0.0) -> dict[str, set[Source]]:
    """List who is granted what: service -> sources; members of sets only if they have more seconds left than that.

    ``texts`` are those of iptables-save, for with the backend ``rules`` grants are rules.
    """
    found: dict[str, set[Source]] = {}
    for name, one in sets.items():
        if (match := _GRANTED.match(name)) is not None:
            sources = found.setdefault(name[match.end() :], set())
            sources |= {ip_network(entry) for entry, left in one.members.items() if not left or left > longer_than}
    for text in texts:
        for chain in our_chains(text):
            if chain.startswith(_FROM):
                found.setdefault(chain.removeprefix(_FROM), set()).update(saved.granted(text, chain))
    return found


def closed(seen: Mapping[str, set[Source]], now: Mapping[str, set[Source]]) -> frozenset[Member]:
    """List the grants that were ``seen`` and are gone, of services that are still there."""
    return frozenset(
        (service, source) for service, sources in seen.items() if service in now for source in sources - now[service]
    )


def sets_without(sets: Mapping[str, Set], members: Collection[Member]) -> dict[str, Set]:
    """Leave out some grants."""
    kept: dict[str, Set] = {}
    for name, one in sets.items():
        match = _GRANTED.match(name)
        service = "" if match is None else name[match.end() :]
        there = {entry: left for entry, left in one.members.items() if (service, ip_network(entry)) not in members}
        kept[name] = Set(one.options, there)
    return kept


def table_without(text: str, members: Collection[Member]) -> str:
    """Leave out some grants (backend ``rules``) of the text of iptables-save."""
    return "".join(f"{line}\n" for line in text.splitlines() if _member(line) not in members)


def _member(line: str) -> Member | None:
    """Read the grant in a rule; ``None`` if it is no rule of a grant."""
    for chain, flag in ((_FROM, "-s"), (_TO, "-d")):
        if line.startswith(f"-A {chain}"):
            words = line.split()
            return (words[1].removeprefix(chain), ip_network(words[3])) if words[2] == flag else None
    return None


def sets_text(wanted: Mapping[str, Set], there: set[str]) -> str:
    """Write what ``ipset restore`` makes these sets of, each in one step; ``there`` has the names that exist."""
    lines: list[str] = []
    for name, one in wanted.items():
        fresh = fresh_set(name)
        if fresh in there:
            lines.append(f"destroy {fresh}")
        lines.append(f"create {fresh} {one.options}")
        lines += [f"add {fresh} {entry} timeout {left}" for entry, left in one.members.items()]
        lines += [f"swap {fresh} {name}", f"destroy {fresh}"] if name in there else [f"rename {fresh} {name}"]
    return "".join(f"{line}\n" for line in lines)


def tables_text(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Write what makes our chains, and the jumps to them, what they were; where nothing was, nothing is left.

    Each table is swapped in one step, and jumps come back to the very place among foreign rules that they had.
    """
    lines: list[str] = []
    for table in dict.fromkeys((*before, *now)):
        was, there = before.get(table, ""), now.get(table, "")
        chains = our_chains(was)
        gone = [chain for chain in our_chains(there) if chain not in chains]
        if not chains and not gone:
            continue
        lines.append(f"*{table}")
        lines.extend(f":{chain} - [0:0]" for chain in chains)
        lines.extend(f"-D {rule}" for rule in foreign_jumps(there))
        lines.extend(f"-F {chain}" for chain in gone)
        lines.extend(f"-X {chain}" for chain in gone)
        lines.extend(rule for rule in was.splitlines() if rule.startswith(f"-A {CHAIN_PREFIX}"))
        lines.extend(_jumps(was, there))
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _jumps(was: str, there: str) -> Iterator[str]:
    """Put each jump where it stood; at the end, where there are fewer rules now."""
    ours = set(foreign_jumps(was))
    others = set(foreign_jumps(there))
    for chain in dict.fromkeys(rule.split()[0] for rule in foreign_jumps(was)):
        length = sum(rule not in others for rule in _rules_of(there, chain))
        for place, rule in enumerate(_rules_of(was, chain), start=1):
            if rule in ours:
                yield f"-I {chain} {min(place, length + 1)} {rule.removeprefix(f'{chain} ')}"
                length += 1


def _rules_of(text: str, chain: str) -> list[str]:
    return [line.removeprefix("-A ") for line in text.splitlines() if line.startswith(f"-A {chain} ")]


def ours_in(text: str) -> list[str]:
    """List what is ours in a table, in the order in which the kernel has it within each chain."""
    rules = [line for line in text.splitlines() if line.startswith(f"-A {CHAIN_PREFIX}")]
    return sorted(our_chains(text)) + foreign_jumps(text) + sorted(rules, key=lambda rule: rule.split()[1])
