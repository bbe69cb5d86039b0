from __future__ import annotations

import random
from collections import Counter

import pytest

from gatekeeper.heavy import Heavy


def test_few_are_counted_exactly() -> None:
    table: Heavy[str] = Heavy(3)
    for one in "abacab":
        table.add(one)
    assert table.counts() == {"a": 3, "b": 2, "c": 1}
    assert table.take() == {"a": 3, "b": 2, "c": 1}
    assert table.counts() == {}


def test_a_flood_of_forged_senders_neither_grows_it_nor_hides_who_comes_often() -> None:
    table: Heavy[int] = Heavy(64)
    chance = random.Random(9)
    for number in range(100_000):
        table.add(7 if number % 20 == 0 else chance.getrandbits(32))
        assert len(table) <= 64
    counts = table.counts()
    assert max(counts, key=lambda one: counts[one]) == 7
    assert 5000 - 100_000 // 65 <= counts[7] <= 5000


@pytest.mark.parametrize("places", [1, 2, 5])
def test_a_count_is_never_too_high_and_too_low_by_a_known_bound(places: int) -> None:
    chance = random.Random(places)
    for _ in range(50):
        added = [chance.choice("aaaabbcdefghij") for _ in range(200)]
        parts: list[Heavy[str]] = [Heavy(places), Heavy(places)]
        for one in added:
            chance.choice(parts).add(one)
        merged: Heavy[str] = Heavy(places)
        for part in parts:
            merged.merge(part.counts())
        true = Counter(added)
        assert len(merged) <= places
        counts = merged.counts()
        for one, number in true.items():
            assert number - len(added) / (places + 1) <= counts.get(one, 0) <= number
