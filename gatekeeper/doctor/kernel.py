"""Whether the kernel has what gatekeeper needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gatekeeper.doctor.finding import Finding, note, ok, unknown, warning, wrong
from gatekeeper.doctor.modules import Facts, State
from gatekeeper.doctor.scene import Scene
from gatekeeper.firewall.shapes import filters
from gatekeeper.settings import Rules, Via

_OF_THE_HOST = "in a container or a small virtual machine, its host must provide it: modprobe {module}"


class _Need(NamedTuple):
    """Something that the kernel must have: as a module, as an option, as an extension of iptables."""

    what: str
    module: str
    option: str
    extension: str = ""


_ALWAYS = (
    _Need("queues of packets", "nfnetlink_queue", "NETFILTER_NETLINK_QUEUE"),
    _Need("the target NFQUEUE", "xt_NFQUEUE", "NETFILTER_XT_TARGET_NFQUEUE", "NFQUEUE"),
    _Need("connection tracking", "nf_conntrack", "NF_CONNTRACK"),
    _Need("the match conntrack", "xt_conntrack", "NETFILTER_XT_MATCH_CONNTRACK", "conntrack"),
    _Need("the target CONNMARK", "xt_connmark", "NETFILTER_XT_CONNMARK", "CONNMARK"),
    _Need("the target MARK", "xt_mark", "NETFILTER_XT_MARK", "MARK"),
    _Need("the target CT", "xt_CT", "NETFILTER_XT_TARGET_CT", "CT"),
    _Need("the match addrtype", "xt_addrtype", "NETFILTER_XT_MATCH_ADDRTYPE", "addrtype"),
    _Need("the match mark", "xt_mark", "NETFILTER_XT_MARK", "mark"),
    _Need("the match hashlimit", "xt_hashlimit", "NETFILTER_XT_MATCH_HASHLIMIT", "hashlimit"),
    _Need("the match limit", "xt_limit", "NETFILTER_XT_MATCH_LIMIT", "limit"),
)
_SETS = (
    _Need("ipset", "ip_set", "IP_SET"),
    _Need("sets of networks (hash:net)", "ip_set_hash_net", "IP_SET_HASH_NET"),
    _Need("sets of senders (hash:ip)", "ip_set_hash_ip", "IP_SET_HASH_IP"),
    _Need("the match set", "xt_set", "NETFILTER_XT_SET", "set"),
)
_CUTS = (
    _Need("deleting tracked connections", "nf_conntrack_netlink", "NF_CT_NETLINK"),
    _Need("listing TCP sockets", "tcp_diag", "INET_TCP_DIAG"),
    _Need("listing UDP sockets", "udp_diag", "INET_UDP_DIAG"),
)
_VARIANTS = {
    "nft": (
        _Need("nf_tables", "nf_tables", "NF_TABLES"),
        _Need("iptables' extensions in nf_tables", "nft_compat", "NFT_COMPAT"),
    ),
    "legacy": (
        _Need("iptables-legacy", "ip_tables", "IP_NF_IPTABLES"),
        _Need("its mangle table", "iptable_mangle", "IP_NF_MANGLE"),
        _Need("its raw table", "iptable_raw", "IP_NF_RAW"),
    ),
}
_BPF = _Need("the match bpf, for what knocks begin with, and knocks in SYNs", "xt_bpf", "NETFILTER_XT_MATCH_BPF", "bpf")
_LENGTH = _Need("the match length, for knocks without a tag", "xt_length", "NETFILTER_XT_MATCH_LENGTH", "length")
_PORTS = _Need("the match multiport, for port sequences", "xt_multiport", "NETFILTER_XT_MATCH_MULTIPORT", "multiport")


def check(scene: Scene) -> Iterator[Finding]:
    """Look at each thing that gatekeeper needs, as the rules need it."""
    yield from judge(scene.facts, scene.rules, scene.wanted_variant())


def judge(facts: Facts, rules: Rules | None, variant: str | None) -> Iterator[Finding]:
    """Say what a kernel lacks for some rules and a variant of iptables (``None``: not known)."""
    needs = [*_ALWAYS, *_VARIANTS.get(variant or "", ())]
    if rules is not None and (rules.has_tagged or Via.SYN in rules.via or any(map(filters, rules.untagged))):
        needs.append(_BPF)
    if rules is not None and rules.untagged:
        needs.append(_LENGTH)
    if rules is not None and rules.has_sequences:
        needs.append(_PORTS)
    for need in needs:
        yield _needed(facts, need)
    backend = "auto" if rules is None else rules.firewall.backend
    if backend == "ipset":
        yield from (_needed(facts, need) for need in _SETS)
    elif backend == "auto":
        yield from (_for_sets(facts, need) for need in _SETS)
    for need in _CUTS:
        state = facts.state(need.module, need.option, need.extension)
        if state is State.ABSENT:
            hint = f"a close does not end what is open: use a kernel that has CONFIG_{need.option}"
            yield warning(f"the kernel lacks {need.what}", hint)
        else:
            yield _present(need.what, state)
    state = facts.has_option("INET_DIAG_DESTROY")
    if state is State.ABSENT:
        hint = "a close stops what is open, but the peer is not told: use a kernel that has CONFIG_INET_DIAG_DESTROY"
        yield warning("the kernel cannot destroy sockets", hint)
    else:
        yield _present("destroying sockets", state)


def _needed(facts: Facts, need: _Need) -> Finding:
    state = facts.state(need.module, need.option, need.extension)
    if state is State.ABSENT:
        hint = f"use a kernel with CONFIG_{need.option}; {_OF_THE_HOST.format(module=need.module)}"
        return wrong(f"the kernel lacks {need.what}", hint)
    return _present(need.what, state)


def _for_sets(facts: Facts, need: _Need) -> Finding:
    state = facts.state(need.module, need.option, need.extension)
    if state is State.ABSENT:
        words = f"the kernel lacks {need.what}: each grant is a rule of iptables, and ends only while `run` is up"
        return note(words, _OF_THE_HOST.format(module=need.module))
    return _present(need.what, state)


def _present(what: str, state: State) -> Finding:
    if state is State.UNKNOWN:
        return unknown(f"{what}: whether the kernel has it cannot be told", "`gatekeeper run` would say so if not")
    return ok(f"{what}: {state}")
