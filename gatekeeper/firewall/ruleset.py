"""Rules and grants as the text that iptables-restore and ipset read. Pure.

Where the gate hangs: in the mangle table. It only takes access away; a packet that it lets through
goes on to the host's own firewall in the filter table, which decides the rest.

A packet for a protected port, in the order of its rules:

1. of a flow that was marked while its source was granted (``established: keep``), but no SYN: it goes
   on. That connection tracking calls it ESTABLISHED would prove nothing: the server's own next packet
   makes a new entry for a flow that was cut, of which the client's packets are the reply; and a SYN on
   an entry that is still there can be a new connection;
2. from a granted source: its flow is marked, and it goes on;
3. anything else: to the queue, never with ``--queue-bypass``, so without a worker nobody gets in.

What a protected port sends goes out to granted sources and on marked flows only. A reset goes out on
a marked flow even if it is not kept, so that a client whose connection is cut learns of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gatekeeper.firewall.names import (
    CHAIN_PREFIX,
    CHAINS,
    IN,
    IPSET_FAMILY,
    JUMPS,
    OUT,
    PASS,
    RAW,
    VERSIONS,
    fresh_set_name,
    set_name,
)
from gatekeeper.model import Rules, Service, Transport
from gatekeeper.networks import Source

MAX_TIMEOUT = 2_147_483
"""The longest timeout that an ipset takes, in seconds (ip_set_timeout.h: UINT_MAX / MSEC_PER_SEC / 2)."""
_SET_OPTIONS = "hashsize 1024 maxelem 1048576 timeout 0"


def iptables_text(rules: Rules, version: int, stale: Mapping[str, Sequence[str]] | None = None) -> str:
    """Write what (ip6)tables-restore --noflush loads for one IP version.

    ``stale`` has, by table, the rules of others' chains that jump to ours already (``INPUT -j ...``);
    they are replaced. Each table is swapped in one step: there is no moment without the old rules or
    the new ones.
    """
    stale = stale or {}
    bodies = {"raw": _raw(rules), "mangle": _mangle(rules, version)}
    lines: list[str] = []
    for table, body in bodies.items():
        lines.append(f"*{table}")
        lines.extend(f":{chain} - [0:0]" for chain in CHAINS[table])
        lines.extend(f"-D {rule}" for rule in stale.get(table, ()))
        lines.extend(f"-I {builtin} 1 -j {chain}" for builtin, chain in JUMPS[table].items())
        lines.extend(body)
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def _raw(rules: Rules) -> list[str]:
    # LOCAL: a knock that only passes through, to another host, may need its flow for address translation.
    knock = f"! -i lo -p udp -m udp --dport {rules.knock_port} -m addrtype --dst-type LOCAL"
    return [f"-A {RAW} {knock} -j CT --notrack"]


def _mangle(rules: Rules, version: int) -> Iterator[str]:
    settings = rules.firewall
    queue = f"-j NFQUEUE --queue-num {settings.queue}"
    mark = f"{settings.mark:#x}/{settings.mark:#x}"
    yield f"-A {PASS} -j CONNMARK --set-xmark {mark}"
    yield f"-A {IN} -i lo -j RETURN"
    yield f"-A {OUT} -o lo -j RETURN"
    # Knocks come before services, so that no grant can hide a later knock.
    yield f"-A {IN} -p udp -m udp --dport {rules.knock_port} {queue}"
    for service in rules.services.values():
        member = f"-m set --match-set {set_name(service.name, version)}"
        arrives, leaves = _port(service, "dport"), _port(service, "sport")
        if service.keeps_established:
            known = f"! --syn -m conntrack --ctstate ESTABLISHED -m connmark --mark {mark}"
            yield f"-A {IN} {arrives} {known} -j RETURN"
            yield f"-A {OUT} {leaves} -m connmark --mark {mark} -j RETURN"
        yield f"-A {IN} {arrives} {member} src -g {PASS}"
        yield f"-A {IN} {arrives} {queue}"
        yield f"-A {OUT} {leaves} {member} dst -j RETURN"
        if service.transport is Transport.TCP and not service.keeps_established:
            yield f"-A {OUT} {leaves} --tcp-flags RST RST -m connmark --mark {mark} -j RETURN"
        yield f"-A {OUT} {leaves} -j DROP"


def _port(service: Service, side: str) -> str:
    return f"-p {service.transport} -m {service.transport} --{side} {service.port}"


def create_sets_text(services: Iterable[str]) -> str:
    """Write what ``ipset restore`` reads to make the sets, where they are not there yet."""
    return "".join(_create(set_name(name, version), version) for name in services for version in VERSIONS)


def replace_members_text(members: Mapping[str, Mapping[Source, int | None]]) -> str:
    """Write what ``ipset restore`` reads to give each set these members and no others, in one step a set.

    The values are seconds left (``None``: no timeout).
    """
    lines: list[str] = []
    for name, sources in members.items():
        for version in VERSIONS:
            fresh, real = fresh_set_name(name, version), set_name(name, version)
            lines.append(_create(fresh, version) + f"flush {fresh}\n")
            lines.extend(
                f"add {fresh} {source} timeout {kernel_timeout(timeout)}\n"
                for source, timeout in sources.items()
                if source.version == version
            )
            lines.append(f"swap {fresh} {real}\ndestroy {fresh}\n")
    return "".join(lines)


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
        and (f" -j {CHAIN_PREFIX}" in line or f" -g {CHAIN_PREFIX}" in line)
    ]


def _create(name: str, version: int) -> str:
    return f"create {name} hash:net family {IPSET_FAMILY[version]} {_SET_OPTIONS} -exist\n"


def kernel_timeout(seconds: int | None) -> int:
    """Turn seconds left into an ipset timeout: 0 stands for "never", and the kernel has a longest one."""
    return 0 if seconds is None else max(1, min(seconds, MAX_TIMEOUT))
