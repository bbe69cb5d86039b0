"""Reads rules that iptables-nft has put into nf_tables, over netlink, hears who changes them, and puts them back.

Source: linux/netfilter/nf_tables.h. It writes no rules of its own: what it puts back are the very bytes that the kernel
named the rules with, when iptables had loaded them. That takes three milliseconds for both IP versions and cannot lose
a race, where iptables itself takes twice as long, and thirty to ninety when another tool changes something meanwhile.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gatekeeper.errors import FirewallError
from gatekeeper.firewall.looks import Change, Found, Look, Place
from gatekeeper.firewall.netlink import (
    NETFILTER,
    NETFILTER_HEADER_SIZE,
    Netlink,
    News,
    attribute,
    attributes,
    each_attribute,
    nested,
    netfilter_header,
)

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_SUBSYSTEM = 10 << 8
_GROUP = 7  # NFNLGRP_NFTABLES
_GET_RULE, _NEW_GENERATION, _GET_GENERATION = _SUBSYSTEM | 7, _SUBSYSTEM | 15, _SUBSYSTEM | 16
_NEW_TABLE, _NEW_CHAIN, _GET_CHAIN = _SUBSYSTEM | 0, _SUBSYSTEM | 3, _SUBSYSTEM | 4
_GET_TABLE, _DELETE_CHAIN = _SUBSYSTEM | 1, _SUBSYSTEM | 5
_TABLE_FLAGS, _DORMANT = 2, 1
_NEW_RULE, _DELETE_RULE = _SUBSYSTEM | 6, _SUBSYSTEM | 8
_CREATE, _APPEND = 0x400, 0x800
_CHAIN_NAME, _HOOK, _TYPE = 3, 4, 7  # of a chain
_TABLE = 1  # in what is told of tables, chains, rules and sets alike
_CHAIN, _HANDLE, _EXPRESSIONS, _COMPAT = 2, 3, 4, 5  # of a rule
_NAME, _DATA = 1, 2  # of an expression
_IMMEDIATE_DATA, _VERDICT, _CODE, _TARGET = 2, 2, 1, 2
_GENERATION_ID, _PID, _PROGRAM = 1, 2, 3
_JUMP, _GOTO = -3, -4
_VERDICTS = {0: "DROP", 1: "ACCEPT", -5: "RETURN"}
_COUNTER, _IMMEDIATE, _COMPAT_TARGET = b"counter\0", b"immediate\0", b"target\0"
_TRIES = 20
_NOT_THERE = 2  # ENOENT


@dataclass(frozen=True, slots=True)
class Doer:
    """Who changed something: a process, as the kernel names it."""

    pid: int
    name: str


class Nftables:
    """Reads the rules of this network namespace. Not for several threads at once."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETFILTER)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def generation(self) -> int:
        """Return the number that each change of any rule in nf_tables raises.

        Raises:
            FirewallError: the kernel refused.
        """
        answer = self._netlink.get(_GET_GENERATION, netfilter_header(0))
        return int.from_bytes(_content(answer or b"").get(_GENERATION_ID, b""))

    def looks(self, tables: Sequence[str], versions: Iterable[int]) -> dict[int, Look]:
        """Read all rules of these tables, as they stood at one moment. What is not there has none.

        Raises:
            FirewallError: the kernel refused, or others keep changing the rules.
        """
        wanted = tuple(versions)
        for _ in range(_TRIES):
            generation = self.generation()
            found = {version: self._look(tables, version) for version in wanted}
            if self.generation() == generation:
                return found
        raise FirewallError("nf_tables: others change the rules faster than they can be read")

    def bases(self, places: Iterable[Place], version: int) -> dict[Place, bytes]:
        """Read what makes these base chains: their types and hooks; nothing for one that no packet reaches by a hook.

        Raises:
            FirewallError: the kernel refused.
        """
        wanted = set(places)
        found: dict[Place, bytes] = {}
        for answer in self._netlink.dump(_GET_CHAIN, netfilter_header(FAMILY[version])):
            chain = _content(answer)
            place = (_word(chain.get(_TABLE, b"")), _word(chain.get(_CHAIN_NAME, b"")))
            if place in wanted:
                is_base = _HOOK in chain
                found[place] = nested(_HOOK, chain[_HOOK]) + attribute(_TYPE, chain.get(_TYPE, b"")) if is_base else b""
        return found

    def asleep(self, version: int) -> set[str]:
        """Name the tables whose chains are not hooked, for somebody has made them dormant.

        Raises:
            FirewallError: the kernel refused.
        """
        tables = map(_content, self._netlink.dump(_GET_TABLE, netfilter_header(FAMILY[version])))
        return {_word(one.get(_TABLE, b"")) for one in tables if int.from_bytes(one.get(_TABLE_FLAGS, b"")) & _DORMANT}

    def put_back(self, changes: Sequence[tuple[int, Change]], bases: Mapping[int, Mapping[Place, bytes]]) -> None:
        """Make changes, each for an IP version, in one step, or none of them.

        Base chains that are gone are made; those that hang elsewhere, or nowhere, are made anew, without what others
        had in them: it had no effect, or another. Tables that are dormant are woken.

        Raises:
            FirewallError: the kernel refused one of them.
        """
        requests = []
        for version, places in bases.items():
            there = self.bases(places, version)
            for (table, chain), by in places.items():
                if there.get((table, chain), by) != by and any(
                    one.table == table for its, one in changes if its == version
                ):
                    begin = netfilter_header(FAMILY[version]) + _named(_TABLE, table)
                    requests.append((_DELETE_RULE, 0, begin + _named(_CHAIN, chain)))
                    requests.append((_DELETE_CHAIN, 0, begin + _named(_CHAIN_NAME, chain)))
        requests += [one for version, change in changes for one in _requests(version, change, bases[version])]
        self._netlink.batch(_SUBSYSTEM >> 8, requests)

    def _look(self, tables: Sequence[str], version: int) -> Look:
        found: dict[Place, list[Found]] = {}
        for table in tables:
            body = netfilter_header(FAMILY[version]) + _named(_TABLE, table)
            for answer in self._dump(body):
                rule = _content(answer)
                if _word(rule.get(_TABLE, b"")) == table:
                    place = (table, _word(rule.get(_CHAIN, b"")))
                    read = read_rule(rule.get(_EXPRESSIONS, b""))
                    found.setdefault(place, []).append(replace(read, handle=rule.get(_HANDLE, b"")))
        return found

    def _dump(self, body: bytes) -> list[bytes]:
        try:
            return self._netlink.dump(_GET_RULE, body)
        except FirewallError as error:
            if error.errno == _NOT_THERE:
                return []
            raise


class RuleNews:
    """Hears of changes in some tables of ours, and who made them."""

    def __init__(self, tables: Sequence[str]) -> None:
        self._news = News(NETFILTER, _GROUP)
        self._tables = set(tables)
        self._is_touched = False

    def fileno(self) -> int:
        """Return what can be waited on."""
        return self._news.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._news.close()

    def read(self) -> list[Doer] | None:
        """Return who has changed these tables since; ``None`` if that was lost, for too much came at once.

        Raises:
            FirewallError: the socket failed.
        """
        messages = self._news.read()
        if messages is None:
            self._is_touched = False
            return None
        doers: list[Doer] = []
        for kind, body in messages:
            content = _content(body)
            if kind == _NEW_GENERATION:
                if self._is_touched:
                    pid = int.from_bytes(content.get(_PID, b""))
                    doers.append(Doer(pid, _word(content.get(_PROGRAM, b""))))
                self._is_touched = False
            elif body[:1] in _FAMILIES and _word(content.get(_TABLE, b"")) in self._tables:
                self._is_touched = True
        return doers

    def wait(self, seconds: float, other: socket.socket) -> bool:
        """Wait for news, or until ``other`` can be read; say whether there are any."""
        ready, _, _ = select.select([self.fileno(), other.fileno()], [], [], seconds)
        return self.fileno() in ready


def _requests(version: int, change: Change, bases: Mapping[Place, bytes]) -> list[tuple[int, int, bytes]]:
    begin = netfilter_header(FAMILY[version]) + _named(_TABLE, change.table)
    made = [(chain, by) for (table, chain), by in bases.items() if table == change.table]
    return [
        (_NEW_TABLE, _CREATE, begin + attribute(_TABLE_FLAGS, bytes(4))),
        *((_NEW_CHAIN, _CREATE, begin + _named(_CHAIN_NAME, chain) + by) for chain, by in made),
        *((_NEW_CHAIN, _CREATE, begin + _named(_CHAIN_NAME, chain)) for chain in change.chains),
        *((_DELETE_RULE, 0, begin + _named(_CHAIN, chain)) for chain in change.chains),
        *((_DELETE_RULE, 0, begin + _named(_CHAIN, chain) + attribute(_HANDLE, one)) for chain, one in change.gone),
        *((_NEW_RULE, _CREATE, begin + _rule(chain, what)) for chain, what in change.first),
        *((_NEW_RULE, _CREATE | _APPEND, begin + _rule(chain, what)) for chain, what in change.last),
        *(
            (_NEW_RULE, _CREATE | _APPEND, begin + _rule(chain, what, protocol))
            for chain, rules in change.chains.items()
            for what, protocol in rules
        ),
    ]


def _rule(chain: str, expressions: bytes, protocol: int = 0) -> bytes:
    """Write a rule. Matches of iptables' own want to hear what protocol it is for (NFTA_RULE_COMPAT)."""
    compat = nested(_COMPAT, attribute(1, protocol.to_bytes(4)), attribute(2, bytes(4))) if protocol else b""
    return _named(_CHAIN, chain) + nested(_EXPRESSIONS, expressions) + compat


def _named(kind: int, name: str) -> bytes:
    return attribute(kind, name.encode() + b"\0")


_FAMILIES = {bytes([family]) for family in FAMILY.values()}


def read_rule(expressions: bytes) -> Found:
    """Read the expressions of a rule: what it matches, where it leads. Counters are passed over."""
    parts: list[bytes] = []
    leads_to, is_goto, has_match = "", False, False
    for _, one in each_attribute(expressions):
        expression = attributes(one)
        name, data = expression.get(_NAME, b""), expression.get(_DATA, b"")
        if name == _COUNTER:
            continue
        parts.append(one)
        if name == _IMMEDIATE:
            verdict = attributes(attributes(attributes(data).get(_IMMEDIATE_DATA, b"")).get(_VERDICT, b""))
            code = int.from_bytes(verdict.get(_CODE, b""), signed=True)
            leads_to = _word(verdict.get(_TARGET, b"")) if code in {_JUMP, _GOTO} else _VERDICTS.get(code, "")
            is_goto = code == _GOTO
        elif name != _COMPAT_TARGET:
            has_match = True
    return Found(b"".join(parts), leads_to, is_goto=is_goto, has_match=has_match, whole=expressions)


def _content(body: bytes) -> dict[int, bytes]:
    return attributes(body[NETFILTER_HEADER_SIZE:])


def _word(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="backslashreplace")
