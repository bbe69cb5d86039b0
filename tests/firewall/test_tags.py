"""The filter that the kernel has for tags: what it lets through, tried by an interpreter of classic BPF."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gatekeeper.firewall import tags
from gatekeeper.firewall.looks import Found
from tests.packets import echo, udp


def passes(program: str, packet: bytes) -> bool:
    """Run the few instructions that the filter has (linux/filter.h); a load beyond the packet ends it."""
    steps = [tuple(map(int, one.split())) for one in program.split(",")[1:]]
    assert len(steps) == int(program.split(",", maxsplit=1)[0])
    assert len(steps) <= 64
    at = accumulator = index = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 177:
            index = 4 * (packet[operand] & 0xF)
        elif code in {64, 32}:
            start = operand + (index if code == 64 else 0)
            if start + 4 > len(packet):
                return False
            accumulator = int.from_bytes(packet[start : start + 4])
        elif code in {80, 48}:
            start = operand + (index if code == 80 else 0)
            if start >= len(packet):
                return False
            accumulator = packet[start]
        elif code == 21:
            at += if_true if accumulator == operand else if_false
        elif code == 69:
            at += if_true if accumulator & operand else if_false
        else:
            assert code == 6
            return operand != 0


SHAPES = [
    lambda payload, version: udp(payload, version=version),
    lambda payload, version: echo(payload, version=version),
]


@pytest.mark.parametrize("number", [1, 5, 50])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("shape", SHAPES, ids=["udp", "echo"])
def test_the_filter_passes_what_bears_one_of_its_tags_and_nothing_else(
    shape: Callable[[bytes, int], bytes], version: int, number: int
) -> None:
    chance = random.Random(number)
    known = [chance.randbytes(4) for _ in range(number)]
    program = tags.program(known, version)
    for tag in known:
        assert passes(program, shape(tag + b"whatever", version))
    for junk in (b"", b"abc", b"\0" * 116, *(chance.randbytes(116) for _ in range(200))):
        assert not passes(program, shape(junk, version))


def test_ip_options_move_the_payload() -> None:
    packet = udp(b"tag!" + b"x" * 112)
    longer = bytes([0x47]) + packet[1:20] + bytes(8) + packet[20:]
    assert passes(tags.program([b"tag!"], 4), longer)


def test_more_tags_than_one_filter_holds_take_several() -> None:
    known = [number.to_bytes(4) for number in range(120)]
    lines = list(tags.lines(known, 6))
    assert [line.count(",21 ") for line in lines] == [50, 50, 20]
    assert tags.kept("\n".join(lines)) == lines


def test_tags_are_found_again_in_what_the_kernel_has() -> None:
    there = Found(b"...gat!...efgh")
    assert tags.are_in([there], [b"!tag", b"hgfe"], 1)
    assert not tags.are_in([there], [b"!tag", b"gone"], 1)
    assert not tags.are_in([there, there], [b"!tag"], 1), "there is a rule too many"
