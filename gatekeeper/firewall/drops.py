"""What the kernel has thrown away without asking anybody, as its rules count it. Pure.

The names are explained in docs/reasons.md, like the reasons of the gate.
"""

from __future__ import annotations

import re
from collections import Counter

from gatekeeper.firewall.names import IN, NEW, RAW, TAGGED, never_set

NO_TAG, TOO_MANY_TAGGED, TOO_MANY_STRANGERS, NEVER = "no-tag", "too-many-tagged", "too-many-strangers", "never"
_LINE = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*-j DROP|-j DROP)")
_KNOCK = re.compile(r"-p udp -m udp --dport \d+ -j DROP")
_NEVER = re.compile(rf"--match-set {never_set('', 0)[:-1]}[46]")


def read(saved: str) -> Counter[str]:
    """Add up the counters in the text of iptables-save -c, by reason."""
    found: Counter[str] = Counter()
    for line in saved.splitlines():
        if match := _LINE.fullmatch(line.rstrip()):
            reason = _reason(match[2], match[3])
            if reason is not None:
                found[reason] += int(match[1])
    return +found


def _reason(chain: str, rule: str) -> str | None:
    if _NEVER.search(rule) and "src" in rule:
        return NEVER
    if chain == RAW or (chain == IN and _KNOCK.fullmatch(rule)):
        return NO_TAG
    return {TAGGED: TOO_MANY_TAGGED, NEW: TOO_MANY_STRANGERS}.get(chain)
