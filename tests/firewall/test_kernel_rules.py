"""Rules as the kernel tells them: read by what they say, without what moves; and nothing that comes makes us raise."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.firewall.looks import Found
from gatekeeper.firewall.netlink import attribute, nested
from gatekeeper.firewall.nftables import read_rule
from gatekeeper.firewall.xtables import Blob, read_blob


def expression(name: bytes, data: bytes) -> bytes:
    return nested(1, attribute(1, name + b"\0"), nested(2, data))


def verdict(code: int, chain: bytes = b"") -> bytes:
    target = attribute(2, chain + b"\0") if chain else b""
    return expression(
        b"immediate", attribute(1, bytes(4)) + nested(2, nested(2, attribute(1, code.to_bytes(4, signed=True)), target))
    )


def test_counters_of_nf_tables_do_not_count() -> None:
    rules = [
        expression(b"counter", attribute(1, bytes([number] * 8))) + verdict(-3, b"GKEEPER-IN") for number in (0, 9)
    ]
    first, second = (read_rule(one) for one in rules)
    assert first == second
    assert (first.leads_to, first.is_plain_jump, first.is_ours) == ("GKEEPER-IN", True, True)
    assert first.whole == rules[0], "but they are kept for putting the rule back"


def test_matches_gotos_and_verdicts_are_told_apart() -> None:
    assert read_rule(verdict(-4, b"X")).is_goto
    assert not read_rule(verdict(-4, b"X")).is_plain_jump
    assert read_rule(expression(b"match", b"") + verdict(-3, b"X")).has_match
    assert [read_rule(verdict(code)).leads_to for code in (0, 1, -5)] == ["DROP", "ACCEPT", "RETURN"]
    assert read_rule(expression(b"target", b"abc")) == Found(expression(b"target", b"abc")[4:])


def entry(target: bytes, *, packets: int = 0, source: bytes = bytes(4)) -> bytes:
    """Write a rule of iptables-legacy (struct ipt_entry)."""
    head = source + bytes(80)
    offsets = struct.pack("=IHHI", 0, 112, 112 + len(target), 0)
    return head + offsets + struct.pack("=QQ", packets, packets) + target


def standard(code: int) -> bytes:
    return struct.pack("=H29sBi4x", 40, b"", 0, code)


def error(name: bytes) -> bytes:
    return struct.pack("=H29sB30s2x", 64, b"ERROR", 0, name)


def table(*, packets: int, more: bytes = b"") -> Blob:
    """Write a table: INPUT jumps to GKEEPER-IN, which has one rule; ``more`` stands behind the jump."""
    rule = len(entry(standard(0)))
    inside = 2 * rule + len(more) + len(entry(error(b"")))
    content = entry(standard(inside), packets=packets) + more + entry(standard(-2))
    content += entry(error(b"GKEEPER-IN")) + entry(standard(-1), source=b"\1\2\3\4") + entry(standard(-5))
    content += entry(error(b"ERROR"))
    return Blob(content, (0, 0, 0, 0, 0), (0, rule + len(more), 0, 0, 0), 1 << 1)


def test_a_table_of_iptables_legacy_is_read_by_chains_without_counters_and_offsets() -> None:
    chains = read_blob(table(packets=0), 4)
    assert {chain: len(rules) for chain, rules in chains.items()} == {"INPUT": 1, "GKEEPER-IN": 1}
    (jump,) = chains["INPUT"]
    assert (jump.leads_to, jump.is_plain_jump) == ("GKEEPER-IN", True)
    (drop,) = chains["GKEEPER-IN"]
    assert (drop.leads_to, drop.has_match) == ("DROP", True)
    moved = read_blob(table(packets=7, more=entry(standard(-2), source=b"\5\6\7\0")), 4)
    assert moved["INPUT"][0] == jump
    assert moved["GKEEPER-IN"] == [drop]


@given(st.binary(max_size=600), st.sampled_from([4, 6]))
def test_no_bytes_make_reading_raise(content: bytes, version: int) -> None:
    read_rule(content)
    read_blob(Blob(content, (0, 0, 112, 0, 0), (0, 112, 0, 0, 0), 0b111), version)
