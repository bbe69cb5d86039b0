"""Reads what iptables-save prints: which chains are ours, who jumps to them, what is in them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from ipaddress import ip_network

from gatekeeper.firewall.names import CHAIN_PREFIX, IN, from_chain, in_chain
from gatekeeper.networks import Source

BYPASS = "--queue-bypass"
"""What a ruleset that only observes has in its services' chains, and one that guards never has."""


def our_chains(saved: str) -> list[str]:
    """Name the chains of ours in the text of iptables-save."""
    return [line[1:].split()[0] for line in saved.splitlines() if line.startswith(f":{CHAIN_PREFIX}")]


def foreign_jumps(saved: str) -> list[str]:
    """List the rules in the text of iptables-save, in chains that are not ours, that lead to ours."""
    return [
        line.removeprefix("-A ")
        for line in saved.splitlines()
        if line.startswith("-A ")
        and not line.startswith(f"-A {CHAIN_PREFIX}")
        and _target(line).startswith(CHAIN_PREFIX)
    ]


def _target(line: str) -> str:
    """Return where a rule leads: the word behind its last ``-j`` or ``-g``. What stands in a comment is one word."""
    try:
        words = shlex.split(line)
    except ValueError:
        return ""
    places = [number for number, word in enumerate(words[:-1]) if word in {"-j", "-g"}]
    return words[places[-1] + 1] if places else ""


def removal_text(saved: Mapping[str, str]) -> str:
    """Write what takes every chain of ours out of these tables (table -> its iptables-save text)."""
    lines: list[str] = []
    for table, text in saved.items():
        chains = our_chains(text)
        if chains:
            lines.append(f"*{table}")
            lines.extend(f"-D {rule}" for rule in foreign_jumps(text))
            lines.extend(f"-F {chain}" for chain in chains)
            lines.extend(f"-X {chain}" for chain in chains)
            lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def return_text(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Write what makes our chains, and the jumps to them, what they were before; and touches nothing else.

    Tables in which nothing of ours was are left as they are now: closed.
    """
    lines: list[str] = []
    for table, text in before.items():
        chains = our_chains(text)
        if not chains:
            continue
        gone = [chain for chain in our_chains(now.get(table, "")) if chain not in chains]
        lines.append(f"*{table}")
        lines.extend(f":{chain} - [0:0]" for chain in chains)
        lines.extend(f"-D {rule}" for rule in foreign_jumps(now.get(table, "")))
        lines.extend(f"-F {chain}" for chain in gone)
        lines.extend(f"-X {chain}" for chain in gone)
        lines.extend(_jump_back(text, rule) for rule in foreign_jumps(text))
        lines.extend(line for line in text.splitlines() if line.startswith(f"-A {CHAIN_PREFIX}"))
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _jump_back(text: str, rule: str) -> str:
    """Put a jump where it was: in front of everybody's rules, or behind them."""
    chain, _, rest = rule.partition(" ")
    first = next(line for line in text.splitlines() if line.startswith(f"-A {chain} "))
    return f"-I {chain} 1 {rest}" if first == f"-A {rule}" else f"-A {rule}"


def granted(saved: str, chain: str) -> list[Source]:
    """List the networks that a chain has a rule for, in their order, doubled ones twice (backend ``rules``)."""
    found = []
    for line in saved.splitlines():
        words = line.split()
        if words[:2] == ["-A", chain] and words[2] in {"-s", "-d"}:
            found.append(ip_network(words[3]))
    return found


def has_member_chains(saved: str) -> bool:
    """Whether grants are rules here, and not members of sets."""
    return any(chain.startswith(from_chain("")) for chain in our_chains(saved))


def services(saved: str) -> list[str]:
    """Name the services whose chains are here."""
    prefix = in_chain("")
    return [chain.removeprefix(prefix) for chain in our_chains(saved) if chain.startswith(prefix)]


def observes(saved: str) -> bool:
    """Whether these chains drop nothing."""
    chains = (f"-A {IN}-", f"-A {from_chain('')}")
    return any(line.startswith(chains) and BYPASS in line for line in saved.splitlines())
