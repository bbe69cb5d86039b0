"""What scripts/fuzz runs a million times, a few times: so that it is right when somebody needs it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.model import Admit
from tests.fuzz import fuzz_fwknop, fuzz_sealed, fuzz_sequence
from tests.packets import SYN, tcp, udp


@pytest.mark.parametrize("seed", fuzz_sealed.seeds(), ids=lambda seed: seed[:2].hex())
def test_what_the_fuzzer_begins_with_holds(seed: bytes) -> None:
    fuzz_sealed.one_input(seed)


@given(st.binary(max_size=256))
def test_and_whatever_comes_behind(data: bytes) -> None:
    fuzz_sealed.one_input(data)


@pytest.mark.parametrize("seed", fuzz_fwknop.seeds(), ids=lambda seed: seed[:2].hex())
def test_what_the_fuzzer_of_fwknops_knocks_begins_with_holds(seed: bytes) -> None:
    fuzz_fwknop.one_input(seed)


@given(st.binary(max_size=400))
def test_and_whatever_comes_behind_those(data: bytes) -> None:
    fuzz_fwknop.one_input(data)


@pytest.mark.parametrize("seed", fuzz_sequence.seeds(), ids=lambda seed: seed[:12].hex() or "nothing")
def test_what_the_fuzzer_of_port_sequences_begins_with_holds(seed: bytes) -> None:
    fuzz_sequence.one_input(seed)


@given(st.binary(max_size=240))
def test_and_whatever_is_sent_to_their_ports(data: bytes) -> None:
    fuzz_sequence.one_input(data)


def test_the_fuzzer_of_port_sequences_sees_one_open() -> None:
    """Or what it holds would hold of nothing."""
    heard = [fuzz_sequence.Heard("x", port, float(place)) for place, port in enumerate(fuzz_sequence.OPENS)]
    assert fuzz_sequence.is_whole(heard, "x", fuzz_sequence.OPENS)
    one = fuzz_sequence.gate()
    packets = (udp(b"", port=7000), tcp(SYN, port=8000), tcp(SYN, port=9000))
    effects = [one.inspect(raw, now=fuzz_sequence.NOW).effect for raw in packets]
    assert effects[:2] == [None, None]
    assert isinstance(effects[2], Admit)
