"""Reads what ``nft -j list ruleset`` prints: tables of nftables that iptables does not show. Pure.

Source: libnftables-json(5). What is not understood may match.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatekeeper.doctor.walk import Chain, Condition, Kind, Rule

_IPTABLES_TABLES = frozenset({"raw", "mangle", "nat", "filter", "security"})
_BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""The families of tables (linux/netfilter.h)."""
_VERDICTS = {
    "accept": "ACCEPT",
    "drop": "DROP",
    "reject": "REJECT",
    "dnat": "DNAT",
    "redirect": "REDIRECT",
    "tproxy": "TPROXY",
    "queue": "NFQUEUE",
    "notrack": "NOTRACK",
    "return": "RETURN",
}
_CONDITIONS = frozenset({"limit", "quota", "xt", "ct count"})
_VERSIONS = {"ip": "4", "ip6": "6", "ipv4": "4", "ipv6": "6"}
_ALL = 0xFFFF_FFFF
_LONGEST = 200

Json = Any  # what json.loads gives: it is looked at key by key


@dataclass(frozen=True, slots=True)
class Base:
    """A chain that the kernel calls: at which hook, and when (lower priorities go first)."""

    chain: str
    hook: str
    priority: int


@dataclass(slots=True)
class Table:
    """One table of nftables."""

    family: str
    name: str
    bases: list[Base] = field(default_factory=list)
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Json] = field(default_factory=dict)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it sees."""
        return {"ip": (4,), "ip6": (6,), "inet": (4, 6)}.get(self.family, ())


def parse(text: str) -> list[Table]:
    """Read the tables that are not iptables' own.

    Raises:
        ValueError: it is not what nft prints.
    """
    content = json.loads(text)
    tables: dict[tuple[str, str], Table] = {}
    things = [(kind, one) for thing in content["nftables"] for kind, one in thing.items() if isinstance(one, dict)]
    for kind, one in things:
        if kind in {"table", "chain", "set"}:
            key = one["family"], one["name"] if kind == "table" else one["table"]
            table = tables.setdefault(key, Table(*key))
            if kind == "set":
                table.sets[one["name"]] = one.get("elem", [])
            if kind == "chain":
                table.chains[one["name"]] = Chain(policy=one.get("policy", "").upper())
                if "hook" in one:
                    table.bases.append(Base(one["name"], one["hook"], int(one.get("prio", 0))))
    for kind, one in things:
        if kind == "rule":
            table = tables[one["family"], one["table"]]
            before = table.chains[one["chain"]]
            text = f"{table.family} {table.name} {one['chain']} handle {one['handle']}"
            rules = tuple(_rules(one["expr"], table, f"{text}: {_shown(one['expr'])}"))
            table.chains[one["chain"]] = Chain((*before.rules, *rules), before.policy)
    return [table for table in tables.values() if not _is_of_iptables(table)]


def is_of_iptables(family: str, name: str) -> bool:
    """Whether a table has the name of one of iptables-nft."""
    return family in {"ip", "ip6"} and name in _IPTABLES_TABLES


def _is_of_iptables(table: Table) -> bool:
    return is_of_iptables(table.family, table.name) and all(base.chain in _BUILT_IN for base in table.bases)


def _rules(expression: Sequence[Json], table: Table, text: str) -> Iterator[Rule]:
    """Turn a rule into one for each thing that it does; and for each entry of a verdict map."""
    conditions: list[Condition] = []
    for statement in expression:
        ((kind, what),) = statement.items()
        if kind == "match":
            conditions += _match(what["left"], what["right"], table, is_negated=what["op"] == "!=")
        elif kind == "vmap":
            entries = what["data"]["set"] if isinstance(what["data"], dict) else []
            for key, verdict in entries:
                ((name, more),) = verdict.items()
                yield _rule(text, [*conditions, *_match(what["key"], key, table)], name, more)
        elif kind in _CONDITIONS:
            conditions.append(Condition(Kind.OTHER))
        else:
            yield _rule(text, conditions, kind, what)


def _rule(text: str, conditions: Sequence[Condition], kind: str, what: Json) -> Rule:
    given = tuple(conditions)
    if kind in {"jump", "goto"}:
        return Rule(text, given, what["target"], kind == "goto")
    if kind == "mangle" and what["key"] in ({"ct": {"key": "mark"}}, {"meta": {"key": "mark"}}):
        target = "CONNMARK" if "ct" in what["key"] else "MARK"
        return Rule(text, given, target, options=_mark_options(what["value"], what["key"]))
    if kind == "queue":
        number = str((what or {}).get("num", 0)) if isinstance(what, dict | None) else ""
        return Rule(text, given, "NFQUEUE", options=("--queue-num", number))
    return Rule(text, given, _VERDICTS.get(kind, kind))


def _match(left: Json, right: Json, table: Table, *, is_negated: bool = False) -> Iterator[Condition]:
    if isinstance(left, dict) and "payload" in left:
        protocol, name = left["payload"].get("protocol", ""), left["payload"].get("field", "")
        if protocol in {"tcp", "udp"}:
            yield Condition(Kind.PROTOCOL, frozenset({protocol}))
        if protocol in {"ip", "ip6"}:
            yield Condition(Kind.FAMILY, frozenset({_VERSIONS[protocol]}))
        if name in {"dport", "sport"} and (ports := _ports(right, table)) is not None:
            kind = Kind.TO_PORT if name == "dport" else Kind.FROM_PORT
            yield Condition(kind, ports=ports, is_negated=is_negated)
            return
        left = {"meta": {"key": "l4proto"}} if name in {"protocol", "nexthdr"} else left
    yield _plain_match(left, right, is_negated=is_negated)


def _plain_match(left: Json, right: Json, *, is_negated: bool) -> Condition:
    values = frozenset(str(one).lower() for one in _elements(right))
    known = {
        "{'meta': {'key': 'l4proto'}}": Kind.PROTOCOL,
        "{'meta': {'key': 'nfproto'}}": Kind.FAMILY,
        "{'ct': {'key': 'state'}}": Kind.STATE,
        "{'meta': {'key': 'iifname'}}": Kind.INTERFACE,
        "{'meta': {'key': 'oifname'}}": Kind.INTERFACE,
        "{'meta': {'key': 'iif'}}": Kind.INTERFACE,
        "{'meta': {'key': 'oif'}}": Kind.INTERFACE,
    }.get(str(left), Kind.OTHER)
    if any(value.startswith("@") for value in values):
        known = Kind.OTHER
    if known is Kind.FAMILY:
        values = frozenset(_VERSIONS.get(value, value) for value in values)
    if isinstance(left, dict) and left.get("fib", {}).get("result") == "type":
        known = Kind.TO_LOCAL if "local" in values else Kind.NEVER
    if isinstance(left, dict) and "&" in left and left["&"][0] == {"payload": {"protocol": "tcp", "field": "flags"}}:
        looked_at = set(_elements(left["&"][1]))
        has = frozenset(flag for flag in ("syn", "ack") if {flag} & looked_at == values)
        return Condition(Kind.FLAGS, has, is_negated=is_negated)
    return Condition(known, values, is_negated=is_negated)


def _elements(right: Json) -> list[Json]:
    if isinstance(right, dict) and "set" in right:
        return list(right["set"])
    return list(right) if isinstance(right, list) else [right]


def _ports(right: Json, table: Table) -> tuple[tuple[int, int], ...] | None:
    """Read ports; ``None`` if they cannot be told."""
    if isinstance(right, str) and right.startswith("@"):
        right = table.sets.get(right[1:])
    found: list[tuple[int, int]] = []
    for one in _elements(right):
        element = one["elem"]["val"] if isinstance(one, dict) and "elem" in one else one
        if isinstance(element, int):
            found.append((element, element))
        elif isinstance(element, dict) and "range" in element:
            first, last = element["range"]
            found.append((first, last))
        else:
            return None
    return tuple(found)


def _mark_options(value: Json, key: Mapping[str, Json]) -> tuple[str, ...]:
    """Say what becomes of a mark in iptables' words."""
    kept, given, is_copy = _mark_value(value, key)
    if is_copy:
        return ("--save-mark", "--nfmask", hex(_ALL & ~kept), "--ctmask", hex(_ALL & ~kept))
    return ("--set-xmark", f"{given:#x}/{_ALL & ~kept:#x}")


def _mark_value(value: Json, key: Mapping[str, Json]) -> tuple[int, int, bool]:
    """Return which bits stay, which are set, and whether others are copied from elsewhere."""
    if isinstance(value, int):
        return 0, value, False
    if value == key:
        return _ALL, 0, False
    if isinstance(value, dict) and len(value) == 1:
        ((operator, parts),) = value.items()
        if operator in {"&", "|", "^"} and len(parts) == 2 and isinstance(parts[1], int):
            kept, given, is_copy = _mark_value(parts[0], key)
            if operator == "&":
                return kept & parts[1], given & parts[1], is_copy
            return kept & ~parts[1], given | parts[1], is_copy
    return 0, 0, True


def _shown(expression: Sequence[Json]) -> str:
    """Write a rule shortly, as JSON; `nft -a list ruleset` shows the handles, and its own language."""
    text = json.dumps([one for one in expression if "counter" not in one]).replace('"', "")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
