"""What is queued for a process to look at: knocks, pings and strangers' first packets, each within bounds. Pure.

A process that looks at everything can be kept busy by anybody. So the kernel throws away what cannot count, and lets
only so much of the rest to the queues; docs/architecture.md ("What never reaches Python") says why so much.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatekeeper.firewall import lanes, shapes
from gatekeeper.firewall.lanes import Lane
from gatekeeper.firewall.members import Members
from gatekeeper.firewall.names import IN, RAW, TAGGED, TAGS, never_set
from gatekeeper.firewall.saved import BYPASS
from gatekeeper.settings import Mode, Refuse, Rules, Via

ECHO_REQUEST = {4: "-p icmp -m icmp --icmp-type 8", 6: "-p ipv6-icmp -m icmp6 --icmpv6-type 128"}
_EACH = "50/sec --hashlimit-burst 100"
"""How many of a sender's packets a process may look at; of IPv6, a network of 64 bits is one sender."""
_MORE = "200/sec --hashlimit-burst 400"
"""The same, for who has just knocked."""
IN_ALL = "-m limit --limit 1000/sec --limit-burst 1000"
"""How many of all senders'. Ten times as many are looked at without effort, and each may be held and come back."""
NOT_FULL = "-m limit --limit 5000/sec --limit-burst 5000"
"""In front of a bound for each sender where who is beyond it goes on. A hashlimit that is full (from 32,768 senders on)
has the packet of whoever is new to it dropped; it forgets a sender after four seconds, so with this it never is."""

_TRIES, _LEAST_TRIED, _MOST_TRIED = 100_000, 50, 1000
"""Keys that are tried for packets in a second, which takes a tenth of it; but so many packets are looked at in any
case, and more never."""


def sorting(rules: Rules, version: int, members: Members) -> Iterator[str]:
    """Sort what may be a knock: what bears a tag is marked for its queue; what can be none goes no further."""
    if rules.mode is Mode.OBSERVE:
        return
    if _datagrams(rules):
        yield f"-A {RAW} -p tcp -j RETURN"  # most packets, for which one rule is enough
    # LOCAL: a knock that only passes through, to another host, may need its flow for address translation.
    here, unmarked = "-m addrtype --dst-type LOCAL", f"-m mark ! --mark {mark(rules)}"
    for knock in _datagrams(rules):
        if rules.has_tagged:
            yield f"-A {RAW} ! -i lo {knock} {here} -j {TAGS}"
        if not rules.untagged and rules.refuse is Refuse.SILENT:
            yield f"-A {RAW} ! -i lo {knock} {here} {unmarked} -j DROP"
        yield f"-A {RAW} ! -i lo {knock} {here} -j CT --notrack"
    if rules.has_tagged:
        if Via.ICMP in rules.via:
            yield f"-A {RAW} ! -i lo {ECHO_REQUEST[version]} {here} -j {TAGS}"
        yield from (f"-A {TAGGED} {rule}" for rule in members.note_sender(version))
        yield f"-A {TAGGED} -j MARK --set-xmark {mark(rules)}"


def knocks(rules: Rules, version: int, members: Members) -> Iterator[str]:
    """Lead datagrams to a knock port to their queues."""
    for knock in _datagrams(rules):
        if rules.mode is Mode.OBSERVE:
            yield f"-A {IN} {knock} {queue(rules, Lane.KNOCKS, bypass=True)}"
            continue
        if rules.refuse is Refuse.SILENT:
            banned = members.within(
                [one for one in rules.never if one.version == version], never_set("", version), "src"
            )
            yield from (f"-A {IN} {knock} {who} -j DROP" for who in banned)
        if rules.has_tagged:
            yield f"-A {IN} {knock} -m mark --mark {mark(rules)} {queue(rules, Lane.KNOCKS)}"
        yield from (f"-A {IN} {knock} {rest}" for rest in _untagged(rules, version))
        yield f"-A {IN} {knock} -j DROP"


def _untagged(rules: Rules, version: int) -> Iterator[str]:
    """Say which datagrams without a tag are looked at."""
    within, goes = few("knocks", version), queue(rules, Lane.OTHERS)
    is_aloud = rules.refuse is Refuse.RESET
    for shape in rules.untagged:
        looks = shapes.matches(shape, version)
        if shape.tries:
            yield f"{looks} {within} {_in_all(shape.tries)} {goes}"
            if is_aloud:
                yield f"{looks} -j DROP"
        elif not is_aloud:
            yield f"{looks} {within} {goes}"
    if is_aloud:  # who is told that nobody listens must be told so of anything
        yield f"{within} {goes}"
    elif rules.has_tagged:  # this machine has translated its port or address, behind where tags are looked for
        yield f"-m conntrack --ctstate DNAT {within} {in_all(rules)} {goes}"


def pings(rules: Rules, version: int) -> Iterator[str]:
    """Say which echo requests are looked at; the others go on, as these do afterwards."""
    if rules.mode is Mode.OBSERVE:
        yield queue(rules, Lane.OTHERS, bypass=True)
        return
    if rules.has_tagged:
        yield f"-m mark --mark {mark(rules)} {queue(rules, Lane.KNOCKS, bypass=True)}"
    if rules.untagged:
        yield f"{NOT_FULL} {few('pings', version)} {in_all(rules)} {queue(rules, Lane.OTHERS, bypass=True)}"


def strangers(rules: Rules, version: int, members: Members) -> Iterator[str]:
    """Let strangers' packets to the queue: so many of each, and so many of all. Who has just knocked has its own bound.

    A tag proves nothing, for it can be captured: it is good for more first packets than anybody needs, and no more.
    """
    goes = queue(rules, Lane.STRANGERS)
    yield f"-m mark --mark {mark(rules)} {goes}"  # has been here, and was given back
    yield from (f"{who} {few('knocked', version, _MORE)} {goes}" for who in members.who_knocked(version))
    yield f"{many('new', version)} -j DROP"
    yield f"{IN_ALL} {goes}"
    yield "-j DROP"


def few(name: str, version: int, most: str = "") -> str:
    """Match what is within the bound of its sender."""
    return f"-m hashlimit --hashlimit-upto {_each_sender(name, version, most)}"


def many(name: str, version: int, most: str = "") -> str:
    """Match what is beyond it."""
    return f"-m hashlimit --hashlimit-above {_each_sender(name, version, most)}"


def _each_sender(name: str, version: int, most: str = "") -> str:
    mask = " --hashlimit-srcmask 64" if version == 6 else ""
    bucket = f"--hashlimit-mode srcip{mask} --hashlimit-name gatekeeper-{name}-{version} --hashlimit-htable-expire 3000"
    return f"{most or _EACH} {bucket}"


def in_all(rules: Rules) -> str:
    """Match what is within the bound of all senders, for what may bear knocks of any kind."""
    return _in_all(sum(shape.tries for shape in rules.untagged))


def _in_all(tries: int) -> str:
    """Do so where each packet may cost a look at so many keys."""
    most = max(_LEAST_TRIED, min(_MOST_TRIED, _TRIES // max(tries, 1)))
    return f"-m limit --limit {most}/sec --limit-burst {most}"


def _datagrams(rules: Rules) -> list[str]:
    """Match knocks that come as datagrams."""
    return [f"-p udp -m udp --dport {port}" for port in rules.knock_ports] if Via.UDP in rules.via else []


def queue(rules: Rules, lane: Lane, *, bypass: bool = False, is_spread: bool = True) -> str:
    """Queue to a lane (or to one worker of it); with ``bypass``, packets go on where no worker is."""
    return lanes.target(rules, lane, is_spread=is_spread) + (f" {BYPASS}" if bypass else "")


def mark(rules: Rules) -> str:
    """Write our mark, and that nothing else of a mark is meant."""
    return f"{rules.firewall.mark:#x}/{rules.firewall.mark:#x}"
