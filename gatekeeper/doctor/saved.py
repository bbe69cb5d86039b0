"""Reads what iptables-save prints, whole: every table, chain and rule. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network

from gatekeeper.doctor.walk import Chain, Chains, Condition, Kind, Rule

_NEUTRAL = frozenset({"tcp", "udp", "comment", "conntrack", "state", "multiport", "addrtype", "icmp", "icmp6"})
"""Modules that ask for nothing by themselves, but by their options, which are known here."""
_LISTS = {"-p": Kind.PROTOCOL, "--ctstate": Kind.STATE, "--state": Kind.STATE}
_PORTS = {
    "--dport": Kind.TO_PORT,
    "--dports": Kind.TO_PORT,
    "--sport": Kind.FROM_PORT,
    "--sports": Kind.FROM_PORT,
}
_SKIP = frozenset({"--comment", "--limit-iface-in", "--limit-iface-out"})
_SIGNIFICANT = frozenset(
    {"-p", "-i", "-o", "--dport", "--sport", "--match-set", "-j", "-g"}
    | {"--queue-num", "--queue-balance", "--queue-bypass"}
)


def parse(text: str) -> dict[str, Chains]:
    """Read the text of iptables-save, or what iptables-restore reads; by table."""
    tables: dict[str, dict[str, Chain]] = {}
    chains: dict[str, Chain] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[name] = Chain(policy="" if policy == "-" else policy)
        elif line.startswith(("-A ", "-I ")):
            name, rule = _rule(line)
            before = chains.get(name, Chain())
            here = (rule, *before.rules) if line.startswith("-I ") else (*before.rules, rule)
            chains[name] = Chain(here, before.policy)
    return dict(tables)


def signature(rule: Rule) -> tuple[tuple[str, ...], ...]:
    """Say what a rule is about in a way that is the same before and after the kernel had it."""
    return tuple(sorted(part for part in _options(_split(rule.text)) if part[0].removeprefix("! ") in _SIGNIFICANT))


def _rule(line: str) -> tuple[str, Rule]:
    """Read ``-A CHAIN ...`` or ``-I CHAIN 1 ...``."""
    words = _split(line)
    name = words[1] if len(words) > 1 else ""
    rest = words[3:] if words[0] == "-I" else words[2:]
    place = next((n for n, word in enumerate(rest) if word in {"-j", "-g"} and n + 1 < len(rest)), None)
    if place is None:
        return name, Rule(line, tuple(_conditions(rest)))
    target, options = rest[place + 1], tuple(rest[place + 2 :])
    return name, Rule(line, tuple(_conditions(rest[:place])), target, rest[place] == "-g", options)


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _options(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Part words into options with their values; one that is negated begins with ``! ``."""
    part: list[str] = []
    is_negated = False
    for word in words:
        takes_anything = part and part[0].removeprefix("! ") == "--comment" and len(part) == 1
        if word == "!" and not takes_anything:
            if part:
                yield tuple(part)
            part, is_negated = [], True
        elif word.startswith("-") and len(word) > 1 and not takes_anything:
            if part:
                yield tuple(part)
            part, is_negated = [("! " if is_negated else "") + word], False
        elif part:
            part.append(word)
    if part:
        yield tuple(part)


def _conditions(words: Sequence[str]) -> Iterator[Condition]:
    for option, *values in _options(words):
        name = option.removeprefix("! ")
        if name in _SKIP or (name == "-m" and values[:1] and values[0] in _NEUTRAL):
            continue
        yield replace(_condition(name, values), is_negated=option != name)


def _condition(name: str, values: Sequence[str]) -> Condition:
    value = values[0] if values else ""
    many = frozenset(value.lower().split(","))
    if name in _LISTS:
        return Condition(_LISTS[name], many)
    if name in _PORTS:
        return Condition(_PORTS[name], ports=tuple(_ranges(value)))
    if name in {"-i", "-o"}:
        return Condition(Kind.INTERFACE, frozenset({value}))
    if name == "--tcp-flags" and len(values) == 2:
        return _flags(values[0], values[1])
    if name == "--dst-type" and "local" in many:
        return Condition(Kind.TO_LOCAL)
    is_nobodys = (
        name in {"-f", "--dst-type"} or name.startswith("--icmp") or (name in {"-s", "-d"} and _is_nobody(value))
    )
    return Condition(Kind.NEVER if is_nobodys else Kind.OTHER, frozenset({name}))


def _flags(mask: str, wanted: str) -> Condition:
    """Turn flags into which of our packets has them: one with SYN alone, or one with ACK alone."""
    every = {"fin", "syn", "rst", "psh", "ack", "urg"}
    looked_at, set_ = (
        every if words == "all" else set() if words == "none" else set(words.split(","))
        for words in (mask.lower(), wanted.lower())
    )
    has = frozenset(flag for flag in ("syn", "ack") if {flag} & looked_at == set_)
    return Condition(Kind.FLAGS, has)


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split(","):
        first, _, last = part.partition(":")
        if first.isdigit() and (not last or last.isdigit()):
            yield int(first), int(last or first)


def _is_nobody(text: str) -> bool:
    """Whether a network is none that a stranger sends from, or sends to."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return False
    return network.is_loopback or network.is_multicast or str(network.broadcast_address) == "255.255.255.255"
