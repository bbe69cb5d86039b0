"""Rules and grants as the text that iptables-restore reads. Pure.

Where the gate hangs: in the mangle table. It only takes access away; a packet that it lets through
goes on to the host's own firewall in the filter table, which decides the rest.

A packet for a protected port, in the order of its service's chain:

1. from a network of ``never``: dropped;
2. of a flow that was marked while its source was granted (``established: keep``), but no SYN: it goes
   on. Whether connection tracking calls it ESTABLISHED is not asked, for it would prove nothing: the
   server's own next packet makes a new entry for a flow that was cut, of which the client's packets are
   the reply; and a SYN on an entry that is still there can be a new connection;
3. a SYN that bears data, where knocks may travel so: to the queue, once (then it is marked);
4. from a network of ``always``, or a granted source: its flow is marked, and it goes on;
5. anything else: to the queue, never with ``--queue-bypass``, so without a worker nobody gets in.

What a protected port sends goes out to those sources and on marked flows only. A reset goes out on
a marked flow even if it is not kept, so that a client whose connection is cut learns of it.

Most packets are of marked flows, so these pass as few rules as can be: TCP ports are looked for first of all, and
loopback, which is nobody's business here, is asked for behind the mark wherever nothing was taken away before it.
(The name of an interface is the dearest thing to ask for, more than an address or a port.)

A ruleset that observes has none of what drops: first packets of strangers pass by the queue, with bypass.

Which packets are a service's depends on where it is guarded (``settings.Guard``). Where it is not this machine's own
sockets that serve, a TCP connection is let in by its SYN alone: what comes in the middle of one must be of a marked
flow (between 3 and 4, for what is not in ``always``). There is no socket to destroy at a close, and connection
tracking would take up again, under a later grant, what was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gatekeeper.firewall import bounds, dispatch, steps, tags
from gatekeeper.firewall.lanes import Lane
from gatekeeper.firewall.members import Members
from gatekeeper.firewall.names import (
    BEGIN,
    ECHO,
    FWD,
    GO_ON,
    HOOKS,
    IN,
    NEW,
    OUT,
    PASS,
    POST,
    PRE,
    RAW,
    SENT,
    STEPS,
    TAGGED,
    TAGS,
    Hook,
    always_set,
    in_chain,
    never_set,
    out_chain,
)
from gatekeeper.firewall.saved import foreign_jumps, our_chains
from gatekeeper.networks import Source
from gatekeeper.settings import Guard, Mode, Refuse, Rules, Service, Transport, Via

_SYN_WITH_DATA = {
    # total length > length of the IP header + that of TCP
    4: "10,177 0 0 0,80 0 0 12,84 0 0 240,116 0 0 2,12 0 0 0,7 0 0 0,40 0 0 2,45 0 1 0,6 0 0 65535,6 0 0 0",
    # without extension headers: payload length > length of TCP's header
    6: "10,48 0 0 6,21 0 7 6,48 0 0 52,84 0 0 240,116 0 0 2,7 0 0 0,40 0 0 4,45 0 1 0,6 0 0 65535,6 0 0 0",
}
"""Classic BPF over a packet from its IP header on (linux/filter.h)."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A hook that some rules need, and the end of the kernel's chain at which it stands."""

    hook: Hook
    is_first: bool
    """In front of everybody's rules; otherwise behind them."""


def jumps(rules: Rules) -> list[Jump]:
    """Say which hooks these rules need. A base chain that nothing of ours needs has nothing of ours."""
    guards = rules.mode is Mode.GUARD
    places = {service.guard for service in rules.services.values()}
    needed = {
        PRE: Guard.PUBLISHED in places,
        ECHO: Via.ICMP in rules.via,
        STEPS: rules.has_sequences,
        FWD: Guard.FORWARD in places or (guards and bool(dispatch.without_address(rules))),
        POST: Guard.PUBLISHED in places and guards,  # observing has nothing to say of what leaves
    }
    # What observes, and what looks at pings and steps, comes behind everybody's rules: a packet that it lets go on, or
    # that no worker looks at, skips the rest of the table.
    last = {ECHO, STEPS} if guards else {ECHO, STEPS, IN, FWD, PRE}
    return [Jump(hook, hook.chain not in last) for hook in HOOKS if needed.get(hook.chain, True)]


def iptables_text(
    rules: Rules,
    version: int,
    members: Members,
    saved: Mapping[str, str] | None = None,
    *,
    known_tags: Sequence[bytes] = (),
) -> str:
    """Write what (ip6)tables-restore --noflush loads for one IP version.

    ``known_tags``: what knocks begin with at this time; without them, what is ``saved`` stays.
    ``saved`` has, by table, what iptables-save says now. Jumps to our chains that are there already are replaced,
    and chains that these rules do not need are removed. Each table is swapped in one step: there is no moment
    without the old rules or the new ones.
    """
    saved = saved or {}
    needed = jumps(rules)
    mangle = [one.hook.chain for one in needed if one.hook.table == "mangle"] + [PASS, SENT]
    guards = rules.mode is Mode.GUARD
    if guards:
        mangle.append(NEW)
    if rules.has_sequences:
        mangle += [BEGIN, GO_ON]
    for name in rules.services:
        mangle += [in_chain(name), out_chain(name), *members.chains(name)]
    raw = [RAW, TAGS, TAGGED] if guards and rules.has_tagged else [RAW]
    known = tags.lines(known_tags, version) if known_tags else tags.kept(saved.get("raw", ""))
    tables = {
        "raw": (raw, [*bounds.sorting(rules, version, members), *(known if TAGS in raw else ())]),
        "mangle": (mangle, _mangle(rules, version, members)),
    }
    lines: list[str] = []
    for table, (chains, body) in tables.items():
        before = saved.get(table, "")
        gone = [chain for chain in our_chains(before) if chain not in chains]
        lines.append(f"*{table}")
        lines.extend(f":{chain} - [0:0]" for chain in chains)
        lines.extend(f"-D {rule}" for rule in foreign_jumps(before))
        lines.extend(f"-F {chain}" for chain in gone)
        lines.extend(f"-X {chain}" for chain in gone)
        lines.extend(_jump(one) for one in needed if one.hook.table == table)
        lines.extend(body)
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def _jump(one: Jump) -> str:
    return f"-I {one.hook.base} 1 -j {one.hook.chain}" if one.is_first else f"-A {one.hook.jump}"


def members_text(rules: Rules, version: int, members: Members) -> str:
    """Write what replaces the chains that ``members`` needs besides the services' own, and nothing else."""
    chains = [chain for name in rules.services for chain in members.chains(name)]
    ours = tuple(f"-A {chain} " for chain in chains)
    lines = [rule for rule in _mangle(rules, version, members) if rule.startswith(ours)]
    return "\n".join(["*mangle", *(f":{chain} - [0:0]" for chain in chains), *lines, "COMMIT"]) + "\n"


def _mangle(rules: Rules, version: int, members: Members) -> Iterator[str]:
    yield f"-A {PASS} -j CONNMARK --set-xmark {bounds.mark(rules)}"
    # Somebody else may copy packet marks to connections (CONNMARK --save-mark): ours must not be among them.
    unmark = f"-j MARK --set-xmark 0x0/{rules.firewall.mark:#x}"
    yield f"-A {PASS} {unmark}"
    yield f"-A {SENT} {unmark}"
    for service in rules.services.values():
        yield from dispatch.own_sockets(rules, service, version, Transport.TCP)
    yield f"-A {IN} -i lo -j RETURN"
    yield f"-A {OUT} -o lo -j RETURN"
    # Knocks come before services, so that no grant can hide a later knock.
    yield from bounds.knocks(rules, version, members)
    if Via.ICMP in rules.via:
        yield from (f"-A {ECHO} ! -i lo {bounds.ECHO_REQUEST[version]} {rest}" for rest in bounds.pings(rules, version))
    yield from steps.lines(rules, version, members)
    yield from dispatch.to_chains(rules, version)
    if rules.mode is Mode.GUARD:
        yield from (f"-A {NEW} {rest}" for rest in bounds.strangers(rules, version, members))
    for service in rules.services.values():
        yield from _arriving(rules, service, version, members)
        if rules.mode is Mode.GUARD:
            yield from _leaving(rules, service, version, members)


def _arriving(rules: Rules, service: Service, version: int, members: Members) -> Iterator[str]:
    chain, mark = in_chain(service.name), bounds.mark(rules)
    guards = rules.mode is Mode.GUARD
    taken: list[str] = []
    if guards:
        refused = "-j DROP" if rules.refuse is Refuse.SILENT else f"-g {NEW}"
        never = members.within(_of(service.never, version), never_set(service.name, version), "src")
        taken += (f"{who} {refused}" for who in never)
    known = [f"-p tcp -m tcp ! --syn -m connmark --mark {mark} -j RETURN"]
    yield from (f"-A {chain} {rule}" for rule in _begin(service, taken, known, "-i lo -j RETURN"))
    if Via.SYN in rules.via and service.has(Transport.TCP):
        bears_data = f'-m bpf --bytecode "{_SYN_WITH_DATA[version]}"'
        within = f"{bounds.NOT_FULL} {bounds.few('syn', version)} {bounds.in_all(rules)} " if guards else ""
        queue = bounds.queue(rules, Lane.OTHERS, bypass=not guards)
        yield f"-A {chain} -p tcp -m tcp --syn -m mark ! --mark {mark} {bears_data} {within}{queue}"
    for who in members.within(_of(service.always, version), always_set(service.name, version), "src"):
        yield f"-A {chain} {who} -g {PASS}"
    if rules.mode is Mode.GUARD and service.has(Transport.TCP) and service.guard is not Guard.INPUT:
        refused = "-j DROP" if rules.refuse is Refuse.SILENT else f"-g {NEW}"
        yield f"-A {chain} -p tcp -m tcp ! --syn -m connmark ! --mark {mark} {refused}"
    yield from members.arriving(service.name, version, list(_strangers(rules, service)))


def _begin(service: Service, taken: list[str], known: list[str], loopback: str) -> list[str]:
    """Order how a service's chain begins: what is taken away, then marked flows; loopback before what takes away."""
    known = known if service.has(Transport.TCP) and service.keeps(Transport.TCP) else []
    if service.guard is not Guard.INPUT or not service.has(Transport.TCP):  # loopback does not come here
        return [*taken, *known]
    return [loopback, *taken, *known] if taken else [*known, loopback]


def _strangers(rules: Rules, service: Service) -> Iterator[str]:
    """Say where what nobody was granted goes."""
    if rules.mode is Mode.GUARD:
        yield f"-g {NEW}"
        return
    if service.has(Transport.TCP):
        yield f"-p tcp -m tcp --syn {bounds.queue(rules, Lane.STRANGERS, bypass=True)}"
    if service.has(Transport.UDP):
        yield f"-p udp -m conntrack --ctstate NEW {bounds.queue(rules, Lane.STRANGERS, bypass=True)}"


def _leaving(rules: Rules, service: Service, version: int, members: Members) -> Iterator[str]:
    chain, mark = out_chain(service.name), bounds.mark(rules)
    reset = f"-p tcp -m tcp {dispatch.RESET}"
    taken: list[str] = []
    if rules.refuse is Refuse.RESET and service.has(Transport.TCP):
        taken.append(f"{reset} -m mark --mark {mark} -g {SENT}")
    never = members.within(_of(service.never, version), never_set(service.name, version), "dst")
    taken += (f"{who} -j DROP" for who in never)
    known = [f"-p tcp -m connmark --mark {mark} -j RETURN"]
    yield from (f"-A {chain} {rule}" for rule in _begin(service, taken, known, "-o lo -j RETURN"))
    for who in members.within(_of(service.always, version), always_set(service.name, version), "dst"):
        yield f"-A {chain} {who} -j RETURN"
    end = ["-j DROP"]
    if service.has(Transport.TCP) and not service.keeps(Transport.TCP):
        end.insert(0, f"{reset} -m connmark --mark {mark} -j RETURN")
    yield from members.leaving(service.name, version, end)


def _of(networks: Iterable[Source], version: int) -> list[Source]:
    return [network for network in networks if network.version == version]
