"""Whether the ruleset is in the kernel, whole, once, and as the rules ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain as chained

from gatekeeper.doctor import saved
from gatekeeper.doctor.finding import Finding, note, ok, warning, wrong
from gatekeeper.doctor.scene import Saved, Scene, legacy_tables
from gatekeeper.doctor.walk import Chain, Chains
from gatekeeper.errors import FirewallError
from gatekeeper.firewall import ruleset, sets, tools
from gatekeeper.firewall import saved as ours
from gatekeeper.firewall.members import Members, RuleMembers, SetMembers
from gatekeeper.firewall.names import CHAIN_PREFIX, TAGGED, TAGS, from_chain, to_chain
from gatekeeper.settings import Mode, Rules

_PUT_IN_PLACE = "start `gatekeeper run`, or restart it: it puts the whole ruleset in place"
_CHANGED = (
    "restart `gatekeeper run`, which loads the whole ruleset; if rules.yaml has not been changed since it started, "
    "somebody else changed the chain"
)


def check(scene: Scene) -> Iterator[Finding]:
    """Look for our chains in both variants of iptables and both IP versions."""
    there = scene.ours
    if not there:
        yield wrong("the ruleset is not in the kernel: the ports are open to all", _PUT_IN_PLACE)
        yield from variants(scene)
        return
    names = sorted({one.variant for one in there})
    if len(names) > 1:
        hint = "restart `gatekeeper run`: it loads one of them and takes ours out of the other"
        words = "there are rules of gatekeeper's in both variants of iptables: each knock meets two queues"
        yield wrong(words, hint, detail=", ".join(one.name for one in there))
    for version in tools.ip_versions():
        if version not in {one.version for one in there}:
            words = f"there is no ruleset for IPv{version}: the ports are open to all who come by it"
            yield wrong(words, _PUT_IN_PLACE)
    yield from variants(scene)
    if scene.rules is not None:
        for one in there:
            yield from compare(scene.rules, one)
        if any("--match-set gatekeeper-" in one.text for one in there):
            yield from _sets(scene.rules)


def variants(scene: Scene) -> Iterator[Finding]:
    """Look whether rules lie in the variant that nobody looks at; and whether the rules ask for another."""
    default, wanted = tools.default_variant(), scene.wanted_variant()
    where = {one.variant for one in scene.ours}
    if where and wanted is not None and wanted not in where:
        hint = "restart `gatekeeper run`, which loads that one and takes ours out of the other"
        yield wrong(f"the ruleset is in iptables-{where.pop()}, and the rules ask for {wanted}", hint)
    other = next((one for one in tools.VARIANTS if one != default), "")
    foreign = [one for one in scene.saved if one.variant == other and _has_foreign_rules(one)]
    if foreign:
        words = f"this machine's iptables is iptables-{default}, but there are rules in iptables-{other} too"
        hint = f"the kernel obeys both, and `iptables -L` shows one: look with iptables-{other}-save"
        yield warning(words, hint, detail=", ".join(one.name for one in foreign))
    elif other == "legacy" and any(legacy_tables(version) for version in tools.ip_versions()):
        yield note("iptables-legacy has tables, with no rules of others in them")
    else:
        yield ok(f"iptables is iptables-{default}, and no rules of others lie in the other variant")


def _has_foreign_rules(one: Saved) -> bool:
    rules = chained.from_iterable(chain.rules for chains in one.tables.values() for chain in chains.values())
    return any(not rule.text.startswith(f"-A {CHAIN_PREFIX}") and CHAIN_PREFIX not in rule.target for rule in rules)


def compare(rules: Rules, one: Saved) -> Iterator[Finding]:
    """Compare what is in the kernel with what `run` would load."""
    mangle = one.text
    if ours.observes(mangle) and rules.mode is Mode.GUARD:
        yield warning("run only observes: nothing is dropped, the ports are open", "start it without --observe")
        rules = replace(rules, mode=Mode.OBSERVE)
    elif rules.mode is Mode.OBSERVE:
        yield note("the rules say `mode: observe`: nothing is dropped, the ports are open")
    members: Members = RuleMembers() if ours.has_member_chains(mangle) else SetMembers()
    wanted = saved.parse(ruleset.iptables_text(rules, one.version, members))
    faults = [
        finding
        for table, chains in wanted.items()
        for finding in _table(chains, one.tables.get(table, {}), f"{one.name} -t {table}")
    ]
    tags = one.tables.get("raw", {}).get(TAGS)
    if tags is not None and not tags.rules:
        words = f"{one.name}: the kernel knows no door tags, so every sealed knock is dropped"
        faults.append(wrong(words, "start `gatekeeper run`: it has the kernel know those of the time"))
    yield from faults
    if not faults:
        yield ok(f"{one.name}: the ruleset is in place, and is what the rules say")


def _table(wanted: Chains, there: Chains, place: str) -> Iterator[Finding]:
    for name, chain in wanted.items():
        if not name.startswith(CHAIN_PREFIX):
            yield from _jumps(chain, there.get(name, Chain()), f"{place} {name}")
        elif name not in there:
            yield wrong(f"{place}: the chain {name} is gone", _PUT_IN_PLACE)
        elif not _is_alike(name, chain, there):
            words = f"{place}: the chain {name} is not what the rules say"
            if not there[name].rules and chain.rules:
                words = f"{place}: the chain {name} is empty"
            yield wrong(words, _CHANGED, detail=_difference(chain, there[name]))


def _jumps(wanted: Chain, there: Chain, place: str) -> Iterator[Finding]:
    targets = [rule.target for rule in there.rules]
    for rule in wanted.rules:
        if rule.target not in targets:
            words = f"{place}: the jump to {rule.target} is gone: what it guards is open to all"
            yield wrong(words, _PUT_IN_PLACE)
        elif targets.count(rule.target) > 1:
            yield warning(f"{place}: there are several jumps to {rule.target}", _PUT_IN_PLACE)


def _is_alike(name: str, wanted: Chain, there: Mapping[str, Chain]) -> bool:
    if name == TAGS:  # what time it is does not stand in the rules
        return all(rule.target == TAGGED for rule in there[name].rules)
    expected = [saved.signature(rule) for rule in wanted.rules]
    found = [saved.signature(rule) for rule in there[name].rules]
    if name.startswith((from_chain(""), to_chain(""))):  # first a rule for each grant
        return found[len(found) - len(expected) :] == expected
    return found == expected


def _difference(wanted: Chain, there: Chain) -> str:
    expected = [saved.signature(rule) for rule in wanted.rules]
    found = [saved.signature(rule) for rule in there.rules]
    extra = [rule.text for rule in there.rules if saved.signature(rule) not in expected]
    missing = [rule.text for rule in wanted.rules if saved.signature(rule) not in found]
    parts = [f"too much: {text}" for text in extra[:3]] + [f"missing: {text}" for text in missing[:3]]
    return "; ".join(parts) or "the order or the number of its rules differs"


def _sets(rules: Rules) -> Iterator[Finding]:
    """Look whether the sets are there, and have room."""
    try:
        text = tools.run(["ipset", "list", "-terse"])
    except FirewallError as error:
        yield wrong(f"the sets cannot be listed: {error.message}", error.hint or "apt-get install ipset")
        return
    there = set_sizes(text)
    missing = sorted(sets.names_of(rules) - set(there))
    if missing:
        words = f"{'these sets are' if len(missing) > 1 else 'this set is'} gone: {', '.join(missing)}"
        yield wrong(words, _PUT_IN_PLACE)
    for name, (entries, most) in there.items():
        if name in sets.names_of(rules) - sets.names_of_senders(rules) and entries > 0.9 * most:
            hint = "grants that find no room are refused: revoke some, or grant networks and not single addresses"
            yield warning(f"the set {name} is nearly full: {entries} of {most}", hint)
    if not missing:
        yield ok(f"all {len(sets.names_of(rules))} sets are there, and have room")


def set_sizes(text: str) -> dict[str, tuple[int, int]]:
    """Read ``ipset list -terse``: entries and room by name."""
    found: dict[str, tuple[int, int]] = {}
    name, most = "", 0
    for line in text.splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if key == "Name":
            name = words[0]
        elif key == "Header":
            most = int(words[words.index("maxelem") + 1]) if "maxelem" in words else 0
        elif key == "Number of entries":
            found[name] = int(words[0]), most or 2**32
    return found
