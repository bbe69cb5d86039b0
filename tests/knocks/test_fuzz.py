"""What scripts/fuzz runs a million times, a few times: so that it is right when somebody needs it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import fuzz_fwknop, fuzz_sealed


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
