"""What should stand in the kernel, made from the very text that was loaded; and what is amiss with what does. Pure.

Foreign rules may come and go in the base chains, as long as ours keep their places: first, or last. Chains of ours
must be exactly what they were after they were loaded. Of a chain that has a rule for each grant (backend ``rules``)
only its end is compared, and where its rules lead.

The base chains, and at which end of them we stand, are read from the text: ``-I CHAIN 1`` or ``-A CHAIN``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from gatekeeper.firewall.looks import Change, Found, Look, Place
from gatekeeper.firewall.members import RETURN
from gatekeeper.firewall.names import CHAIN_PREFIX, PASS, TAGGED

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58}
_NOTHING = Found(b"")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is missing, or not what it should be."""

    place: Place
    words: str
    is_jump: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What one IP version's text says."""

    rules: Mapping[Place, Sequence[str]]
    """The rules of each chain of ours, as lines."""
    first: Mapping[Place, Sequence[str]]
    """The chains that a base chain leads to before anything else."""
    last: Mapping[Place, Sequence[str]]
    """And those behind everything else."""
    members: frozenset[Place] = frozenset()
    """Chains that have a rule for each grant, and what the text says at their end."""
    seen: Mapping[Place, Sequence[Found]] = field(default_factory=dict)
    """What the kernel makes of our chains, and of the jumps to them; empty until that was learned."""

    @property
    def tables(self) -> list[str]:
        """The tables, those that close first."""
        return sorted({table for table, _ in self.rules}, key=lambda table: (table != "mangle", table))

    @property
    def bases(self) -> list[Place]:
        """The base chains in which we stand."""
        return list(dict.fromkeys([*self.first, *self.last]))

    def differs(self, look: Look) -> str | None:
        """Say in what a look differs from the text: by numbers of rules, and places; not by what they say."""
        for place, lines in self.rules.items():
            there = len(self._compared(place, look.get(place, ())))
            if there != len(lines):
                return f"{place[0]} {place[1]} has {there} rules in place of {len(lines)}"
        return next((fault.words for fault in self.faults(look) if fault.is_jump), None)

    def faults(self, look: Look) -> list[Fault]:
        """List what is amiss, the base chains first."""
        found = [self._jump_fault(base, look) for base in self.bases if not self._stands(base, look)]
        return found + [
            Fault(place, f"chain {place[1]}", is_jump=False)
            for place in self.rules
            if not self._is_right(place, look.get(place, ()))
        ]

    def repair_text(self, faults: Sequence[Fault], look: Look, table: str) -> str | None:
        """Write what mends these faults in one table and touches nothing else; ``None`` if that takes a closer look."""
        mine = [fault for fault in faults if fault.place[0] == table]
        chains = [fault.place for fault in mine if not fault.is_jump]
        lines = [f"*{table}", *(f":{chain} - [0:0]" for _, chain in (*chains, *self._empty(table)))]
        for base in (fault.place for fault in mine if fault.is_jump):
            ours = [one for one in look.get(base, ()) if one.is_ours]
            if not all(one.is_plain_jump for one in ours):
                return None
            lines += [f"-D {base[1]} -j {one.leads_to}" for one in ours]
            lines += [f"-I {base[1]} 1 -j {chain}" for chain in reversed(self.first.get(base, ()))]
            lines += [f"-A {base[1]} -j {chain}" for chain in self.last.get(base, ())]
        lines += [line for place in chains for line in self.rules[place]]
        return "\n".join([*lines, "COMMIT"]) + "\n"

    def learned(self, look: Look) -> Self:
        """Take a look as what later ones are compared with."""
        seen = {place: self._compared(place, look.get(place, ())) for place in self.rules}
        for base in self.bases:
            there = look.get(base, ())
            seen[base] = (*there[: len(self.first.get(base, ()))], *there[len(there) - len(self.last.get(base, ())) :])
        return replace(self, seen=seen)

    def renewed(self, place: Place, lines: Sequence[str], look: Look) -> Self:
        """Take a chain that we have just swapped as what should be, and nothing else of a look."""
        rules, seen = {**self.rules, place: list(lines)}, {**self.seen, place: tuple(look.get(place, ()))}
        return replace(self, rules=rules, seen=seen, members=self.members - {place})

    def change(self, faults: Sequence[Fault], look: Look, table: str) -> Change:
        """Say what mends these faults in one table, in the kernel's own bytes (``seen`` has them)."""
        mine = [fault for fault in faults if fault.place[0] == table]
        bases = [fault.place for fault in mine if fault.is_jump]
        chains = dict.fromkeys([fault.place for fault in mine if not fault.is_jump] + self._empty(table))
        first: list[tuple[str, bytes]] = []
        last: list[tuple[str, bytes]] = []
        for base in bases:
            number = len(self.first.get(base, ()))
            first += [(base[1], one.whole) for one in reversed(self.seen[base][:number])]
            last += [(base[1], one.whole) for one in self.seen[base][number:]]
        gone = [(base[1], one.handle) for base in bases for one in look.get(base, ()) if one.is_ours]
        return Change(table, {place[1]: self._bytes(place) for place in chains}, gone, first, last)

    def _bytes(self, place: Place) -> list[tuple[bytes, int]]:
        return [(one.whole, protocol(line)) for one, line in zip(self.seen[place], self.rules[place], strict=True)]

    def _empty(self, table: str) -> list[Place]:
        """Name the chains without rules: one may be gone without our seeing it."""
        return [place for place, rules in self.rules.items() if not rules and place[0] == table]

    def _compared(self, place: Place, there: Sequence[Found]) -> Sequence[Found]:
        """Leave the rules of grants out."""
        if place not in self.members:
            return there
        return there[max(0, len(there) - len(self.rules[place])) :]

    def _is_right(self, place: Place, there: Sequence[Found]) -> bool:
        compared = self._compared(place, there)
        if list(compared) != list(self.seen.get(place, (_NOTHING,))):
            return False
        return all(_is_of_a_grant(one) for one in there[: len(there) - len(compared)])

    def _stands(self, base: Place, look: Look) -> bool:
        there, first, last = look.get(base, ()), self.first.get(base, ()), self.last.get(base, ())
        behind = len(there) - len(last)
        if behind < len(first):
            return False
        ours = zip((*there[: len(first)], *there[behind:]), (*first, *last), strict=True)
        return all(one.is_plain_jump and one.leads_to == chain for one, chain in ours) and not any(
            one.is_ours for one in there[len(first) : behind]
        )

    def _jump_fault(self, base: Place, look: Look) -> Fault:
        there = {one.leads_to for one in look.get(base, ()) if one.is_plain_jump}
        is_there = there.issuperset((*self.first.get(base, ()), *self.last.get(base, ())))
        name = f"{base[0]} {base[1]} jump"
        return Fault(base, f"the place of the {name}" if is_there else name, is_jump=True)


def protocol(line: str) -> int:
    """Return the number of the protocol that a rule is for; 0: any."""
    words = line.split()
    return _PROTOCOLS[words[words.index("-p") + 1]] if "-p" in words else 0


def _is_of_a_grant(rule: Found) -> bool:
    """Whether a rule may be one of a grant's (members.py), or a tag's: it says for whom, and leads where those lead."""
    return rule.has_match and rule.leads_to in {PASS, RETURN, TAGGED}


def read(text: str, *, member_chains: Iterable[str] = ()) -> Expected:
    """Read the text for iptables-restore (ruleset.iptables_text, without what was there before)."""
    rules: dict[Place, list[str]] = {}
    first: dict[Place, list[str]] = {}
    last: dict[Place, list[str]] = {}
    for table, line in _lines(text):
        words = line.split()
        chain = words[1] if len(words) > 1 else ""
        if line.startswith(":"):
            rules[table, words[0][1:]] = []
        elif line.startswith("-A ") and chain.startswith(CHAIN_PREFIX):
            rules[table, chain].append(line)
        elif line.startswith("-A "):
            last.setdefault((table, chain), []).append(words[-1])
        elif line.startswith("-I "):
            first.setdefault((table, chain), []).insert(0, words[-1])
    chains = set(member_chains)
    return Expected(rules, first, last, frozenset(place for place in rules if place[1] in chains))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line != "COMMIT":
            yield table, line


def by_table(text: str, tables: Iterable[str]) -> list[str]:
    """Take a text apart, for a process each: with two tables in one, the kernel takes the second back at first."""
    return [
        "\n".join([f"*{table}", *(line for its, line in _lines(text) if its == table), "COMMIT"]) + "\n"
        for table in tables
    ]


def summed_up(faults: Sequence[Fault], expected: Expected, version: int) -> list[str]:
    """Say what is amiss, in few words."""
    amiss = Counter(fault.place[0] for fault in faults)
    filled = [place for place, rules in expected.rules.items() if rules]
    whole = Counter(table for table, _ in (*filled, *expected.bases))
    wiped = [table for table in expected.tables if amiss[table] >= whole[table]]
    return [f"all that is ours in {table} (IPv{version})" for table in wiped] + [
        f"{fault.words} (IPv{version})" for fault in faults if fault.place[0] not in wiped
    ]
