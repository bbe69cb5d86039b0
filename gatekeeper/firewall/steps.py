"""Packets to the ports of sequences, on their way to a process. Pure.

They go on whatever that says, or if nobody is there, so the ports look as they did. (What a queue lets go on skips the
rest of its table: hence the place behind everybody's rules.) What floods can do is bounded here:

- Who begins a sequence is noted in a set, while there is room in it, and there is always as much as it takes to have
  all their time (``gatekeeper/steps.py``). What goes on with a sequence is looked at from those alone, and from each of
  them within its bound. So a flood, from whatever addresses, takes away room to begin, and nothing from who has begun.
- Who has begun, and sends more first packets to this machine than somebody who knocks, is not listened to meanwhile.
  Otherwise one scan of all ports, in any order, would complete one in six sequences of three by chance.

Without ipset nobody is noted. Then all that is left are two bounds for all senders together: for what begins, and for
what goes on.

All go to one queue: what belongs to a sequence must come to one worker, and for IPv4 the kernel spreads packets by
their protocol too.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatekeeper import steps
from gatekeeper.firewall import bounds
from gatekeeper.firewall.lanes import Lane
from gatekeeper.firewall.members import Members
from gatekeeper.firewall.names import BEGIN, GO_ON, STEPS
from gatekeeper.settings import Flags, Rules

_AT_ONCE = 15
"""Ports that ``-m multiport`` holds."""
_EACH = "20/sec --hashlimit-burst 64"
"""How many steps of one sender are looked at: a sequence has 32 at the most."""
_FIRST = "10/sec --hashlimit-burst 50"
"""How many first packets somebody sends to this machine who knocks, and has other business with it."""
_FLAGS = {"FIN": 0x01, "SYN": 0x02, "RST": 0x04, "PSH": 0x08, "ACK": 0x10, "URG": 0x20}


def lines(rules: Rules, version: int, members: Members) -> Iterator[str]:
    """Write the rules of the three chains."""
    if not rules.has_sequences:
        return
    began = list(members.who_began(version))
    for who in began:
        scans = f"{who} {bounds.many('scans', version, _FIRST)} -j RETURN"
        yield f"-A {STEPS} -p tcp -m tcp --tcp-flags SYN,ACK SYN {scans}"
        yield f"-A {STEPS} -p udp -m conntrack --ctstate NEW {scans}"
    for listened, chain in ((steps.beginnings(rules), BEGIN), (steps.every(rules), GO_ON)):
        for flags, ports in listened:
            what = "-p udp" if flags is None else f"-p tcp -m tcp --tcp-flags {show_flags(flags)}"
            for start in range(0, len(ports), _AT_ONCE):
                numbers = ",".join(str(port.first) for port in ports[start : start + _AT_ONCE])
                yield f"-A {STEPS} ! -i lo {what} -m multiport --dports {numbers} -g {chain}"
    bound = steps.bound(rules)
    most = f"-m limit --limit {bound.per_second}/sec --limit-burst {bound.at_once}"
    each = bounds.few("steps", version, _EACH)
    queue = bounds.queue(rules, Lane.OTHERS, bypass=True, is_spread=False)
    if began:
        yield from (f"-A {BEGIN} {rest}" for rest in members.note_beginner(version, steps.longest(rules), most))
        yield f"-A {BEGIN} -g {GO_ON}"
        yield from (f"-A {GO_ON} {who} {each} {queue}" for who in began)
    else:  # the bound for all first: the table of those for each is never full then
        yield f"-A {BEGIN} {most} {each} {queue}"
        yield f"-A {GO_ON} {bounds.IN_ALL} {each} {queue}"


def show_flags(flags: Flags) -> str:
    """Write flags as iptables does: which are looked at, and which of them must be there."""
    looked_at = flags.on | flags.off
    return f"{_names(looked_at)} {_names(flags.on)}"


def _names(flags: int) -> str:
    return ",".join(name for name, bit in _FLAGS.items() if flags & bit) or "NONE"
