"""What others do to the rules is undone, and who is in stays in."""

from __future__ import annotations

import difflib
import re
import time
from functools import partial

import pytest
from machines import OPEN, Machine, Watch, connects, say, wait_until

_TAGS = re.compile(r'(?<=-A GKEEPER-TAGS -m bpf --bytecode )"[^"]*"')
_MOMENT = 20.0
"""Seconds, on an emulated CPU that is twenty times slower than others, and shared: one, elsewhere."""
_WIPES = {
    "iptables -F": "iptables -F; ip6tables -F",
    "iptables -t mangle -F": "iptables -t mangle -F; ip6tables -t mangle -F",
    "nft flush ruleset": "nft flush ruleset",
    "ipset flush": "ipset flush",
}


@pytest.mark.parametrize("wipe", _WIPES)
def test_it_heals(server: Machine, stranger: Machine, wipe: str, opened: None) -> None:
    """The ruleset is what it was, the client is in, and whatever the stranger got is over."""
    before = _ruleset(server)
    with Watch(stranger) as watch:
        time.sleep(3)
        wiped = time.monotonic()
        server.root("sh", "-c", _WIPES[wipe])
        differs = partial(_difference, before, server)
        wait_until(lambda: not differs(), told=differs)
        healed = time.monotonic() - wiped
        wait_until(lambda: connects() == OPEN)
        time.sleep(5)
        seen = watch.end()
    since = seen["tries"] and [begun for begun, _ in seen["found"]]
    say(f"as before at a look {healed:.1f} s later; connects of the stranger meanwhile: {len(since)}")
    assert seen["tries"] > 50
    if wipe in {"iptables -F", "ipset flush"}:
        assert seen["found"] == [], "this is not in our way, or lets nobody in"
    else:
        assert all(begun < 3 + _MOMENT for begun in since), "the door was open for longer than a moment"


def _ruleset(server: Machine) -> list[str]:
    """The rules of ours, and their neighbours in base chains, without counters."""
    both = server.root(
        "sh", "-c", "iptables-save -t mangle; iptables-save -t raw; ip6tables-save -t mangle; ip6tables-save -t raw"
    )
    # Door tags change with time, perhaps just now; that there are some is what can be held to.
    lines = (_TAGS.sub("(tags)", line) for line in both.splitlines())
    return [line for line in lines if line.startswith("-A")]


def _difference(before: list[str], server: Machine) -> list[str]:
    now = difflib.unified_diff(before, _ruleset(server), n=0)
    return [line for line in now if line[:3] not in {"---", "+++"}]
