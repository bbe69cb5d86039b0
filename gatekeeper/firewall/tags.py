"""What the kernel looks for in a knock: the tag that it begins with, as a filter in classic BPF. Pure.

Tags change with time (``Tags`` in model.py), so they stand in a chain of their own, which is swapped as a whole
(iptables-restore --noflush: no packet meets half of it). A datagram that bears none of them is thrown away there, in
raw PREROUTING: before connection tracking, and before any process wakes up for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gatekeeper.firewall.looks import Found
from gatekeeper.firewall.names import TAGGED, TAGS

_AT_ONCE = 50
"""Tags in one filter: xt_bpf takes 64 instructions (XT_BPF_MAX_NUM_INSTR)."""
_LOAD = {
    # The payload of UDP begins 8 bytes behind the IP header, and so does what an echo request bears.
    4: ("177 0 0 0", "64 0 0 8"),
    # without extension headers
    6: ("32 0 0 48",),
}
"""Puts the first four bytes of the payload into the accumulator (linux/filter.h; offsets are from the IP header)."""
_FOUND, _NOT_FOUND = "6 0 0 65535", "6 0 0 0"
_LINE = re.compile(rf'-A {TAGS} -m bpf --bytecode "[0-9, ]+" -g {TAGGED}')


def lines(tags: Sequence[bytes], version: int) -> Iterator[str]:
    """Write the rules of the chain: who bears one of these tags (four bytes each) goes on to the next chain."""
    for start in range(0, len(tags), _AT_ONCE):
        yield f'-A {TAGS} -m bpf --bytecode "{program(tags[start : start + _AT_ONCE], version)}" -g {TAGGED}'


def program(tags: Sequence[bytes], version: int) -> str:
    """Write the filter: instructions as code, jump if true, jump if false, operand."""
    left = range(len(tags) - 1, -1, -1)  # how many tests are skipped, to the answer behind them
    tests = [f"21 {1 + behind} 0 {int.from_bytes(tag)}" for behind, tag in zip(left, tags, strict=True)]
    whole = [*_LOAD[version], *tests, _NOT_FOUND, _FOUND]
    return ",".join([str(len(whole)), *whole])


def text(tags: Sequence[bytes], version: int) -> str:
    """Write what iptables-restore --noflush loads to swap the chain, and nothing else."""
    return "\n".join(["*raw", f":{TAGS} - [0:0]", *lines(tags, version), "COMMIT"]) + "\n"


def are_in(rules: Sequence[Found], tags: Sequence[bytes], number: int) -> bool:
    """Tell whether these many rules, as the kernel has them, know these tags (as it writes them: as numbers)."""
    whole = b"".join(rule.content for rule in rules)
    return len(rules) == number and all(tag[::-1] in whole or tag in whole for tag in tags)


def kept(saved: str) -> list[str]:
    """Find the chain's rules in what iptables-save says, so that a ruleset that is loaded anew begins with them."""
    return [line for line in saved.splitlines() if _LINE.fullmatch(line)]
