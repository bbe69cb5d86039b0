"""Replay floors: what counts once, what comes too late, and what the memory keeps of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.model import GRACE, Action, Floor, Reason, Stamp
from gatekeeper.replay import MOST, ReplayMemory, advanced, latest, refusal

NOW = 1_800_000_000.0
NS = int(NOW) * 10**9
KEY, OTHER = b"k" * 32, b"o" * 32
OPEN, CLOSE = Action.OPEN, Action.CLOSE


def try_to_spend(memory: ReplayMemory, sent_at: int, action: Action = OPEN, key: bytes = KEY) -> Reason | None:
    """Do what the gate does."""
    stamp = Stamp(key, sent_at)
    reason = memory.refusal(stamp, action, now=NOW)
    if reason is None:
        memory.spend(stamp, action)
    return reason


@pytest.mark.parametrize(
    ("floor", "sent_at", "action", "is_spent", "reason"),
    [
        (Floor(NS), NS + 1, OPEN, False, None),
        (Floor(NS), NS, OPEN, False, Reason.REPLAYED),
        (Floor(NS), NS, CLOSE, False, Reason.REPLAYED),
        (Floor(NS), NS + 1, OPEN, True, Reason.REPLAYED),
        (Floor(NS), NS + 1, CLOSE, True, Reason.REPLAYED),
        (Floor(NS, NS + 5), NS + 5, OPEN, False, Reason.BEFORE_CLOSE),
        (Floor(NS, NS + 5), NS + 6, OPEN, False, None),
        (Floor(NS, NS + 5), NS + 5, CLOSE, False, None),
        (Floor(NS, NS + 5), NS + 5, CLOSE, True, Reason.REPLAYED),
        (Floor(NS + 60 * 10**9), NS, OPEN, False, Reason.REPLAYED),
        (Floor(latest(NOW, 120) + 1), NS, OPEN, False, Reason.FLOOR_AHEAD),
        (Floor(latest(NOW, 120) + 1), NS, CLOSE, False, Reason.FLOOR_AHEAD),
        (Floor(latest(NOW, 120) + 1), NS, OPEN, True, Reason.REPLAYED),
        (Floor(latest(NOW, 120)), NS, OPEN, False, Reason.REPLAYED),
    ],
)
def test_the_rule(floor: Floor, sent_at: int, action: Action, is_spent: bool, reason: Reason | None) -> None:
    assert refusal(Stamp(KEY, sent_at), action, floor, is_spent=is_spent, latest=latest(NOW, 120)) is reason


def test_a_floor_follows_at_a_distance_and_never_goes_back() -> None:
    floor = advanced(Floor(0), Stamp(KEY, NS), OPEN)
    assert floor == Floor(NS - GRACE)
    assert advanced(floor, Stamp(KEY, NS - GRACE + 1), OPEN) == floor
    closed = advanced(floor, Stamp(KEY, NS - 1), CLOSE)
    assert closed == Floor(NS - GRACE, NS - 1)
    assert advanced(closed, Stamp(KEY, NS - 5), CLOSE) == closed
    assert advanced(closed, Stamp(KEY, NS), OPEN) == closed


@given(st.lists(st.tuples(st.integers(0, 40 * 10**9), st.sampled_from([OPEN, CLOSE])), max_size=60))
def test_no_stamp_counts_twice_and_no_opening_counts_behind_a_later_close(attempts: list[tuple[int, Action]]) -> None:
    memory = ReplayMemory()
    accepted: list[tuple[int, Action]] = []
    for sent_at, action in attempts:
        reason = try_to_spend(memory, NS + sent_at, action)
        newest = max((one for one, _ in accepted), default=-GRACE)
        closed = max((one for one, what in accepted if what is CLOSE), default=-1)
        known = {one for one, _ in accepted}
        honest = sent_at not in known and sent_at > newest - GRACE and (action is CLOSE or sent_at > closed)
        assert (reason is None) is honest
        if reason is None:
            accepted.append((sent_at, action))
    assert len({one for one, _ in accepted}) == len(accepted)


def test_keys_know_nothing_of_each_other() -> None:
    memory = ReplayMemory()
    assert try_to_spend(memory, NS, CLOSE) is None
    assert try_to_spend(memory, NS, key=OTHER) is None
    assert try_to_spend(memory, NS - 1, key=OTHER) is None
    assert try_to_spend(memory, NS) is Reason.REPLAYED


def test_what_was_sent_before_the_store_was_made_is_refused_as_such() -> None:
    """It may have been accepted by the store that was there before. Then the key's own floor holds."""
    memory = ReplayMemory()
    memory.replace(NS, {})
    assert try_to_spend(memory, NS) is Reason.BEFORE_STORE
    assert try_to_spend(memory, NS - 1, CLOSE) is Reason.BEFORE_STORE
    assert try_to_spend(memory, NS + 1) is None
    assert try_to_spend(memory, NS) is Reason.REPLAYED, "the floor never goes below the store's beginning"


def test_what_the_store_says_takes_the_place_of_what_was_known() -> None:
    memory = ReplayMemory()
    memory.replace(0, {KEY: Floor(NS - GRACE, NS - 5, (NS - 3, NS - 1))})
    assert try_to_spend(memory, NS - 1) is Reason.REPLAYED
    assert try_to_spend(memory, NS - 2) is None
    assert try_to_spend(memory, NS - 3) is Reason.REPLAYED
    assert try_to_spend(memory, NS - 5) is Reason.BEFORE_CLOSE
    assert try_to_spend(memory, NS - 5, CLOSE) is None


def test_what_the_store_could_not_take_stays_in_mind() -> None:
    """A disk that was full: a listener's copy of the knock does not count instead. But no floor is kept up by it."""
    memory = ReplayMemory()
    assert try_to_spend(memory, NS) is None
    memory.replace(0, {KEY: Floor(NS - 2 * GRACE)})
    assert try_to_spend(memory, NS) is Reason.REPLAYED
    assert try_to_spend(memory, NS - GRACE - 1) is None
    memory.replace(0, {})
    assert try_to_spend(memory, NS) is Reason.REPLAYED


def test_the_memory_holds_only_what_stands_above_the_floor() -> None:
    memory = ReplayMemory()
    for second in range(1000):
        assert try_to_spend(memory, NS + second * 10**9 // 10) is None
    known = memory._keys[KEY]
    assert len(known.spent) == len(known.heap) == GRACE // (10**9 // 10)
    assert min(known.spent) > known.floor.floor


def test_a_floor_follows_as_far_behind_as_a_stamp_says() -> None:
    """Devices that share a key have clocks of their own."""
    memory = ReplayMemory()
    second = 10**9

    def attempt(offset: int) -> Reason | None:
        stamp = Stamp(KEY, NS + offset * second, 241 * second)
        reason = memory.refusal(stamp, OPEN, now=NOW)
        if reason is None:
            memory.spend(stamp, OPEN)
        return reason

    assert attempt(120) is None
    assert attempt(-120) is None
    assert [attempt(offset) for offset in (120, -120, -121)] == [Reason.REPLAYED] * 3
    assert memory._keys[KEY].floor == Floor(NS - 121 * second)


def test_above_a_floor_so_many_are_remembered_and_no_more() -> None:
    """Then it rises, so that who has a key fills nobody's memory; and nothing counts twice all the same."""
    memory = ReplayMemory()
    sent = [Stamp(KEY, NS + number, 241 * 10**9) for number in range(MOST + 10)]
    for stamp in sent:
        assert memory.refusal(stamp, OPEN, now=NOW) is None
        memory.spend(stamp, OPEN)
    known = memory._keys[KEY]
    assert len(known.spent) == len(known.heap) == MOST
    assert known.floor.floor == NS + 9
    assert {memory.refusal(stamp, OPEN, now=NOW) for stamp in sent} == {Reason.REPLAYED}


@pytest.mark.parametrize("skew", [0, 30, 120])
def test_a_floor_is_ahead_when_no_honest_clock_can_have_made_it(skew: int) -> None:
    memory = ReplayMemory(skew=skew)
    memory.replace(0, {KEY: Floor(NS + skew * 10**9)})
    assert try_to_spend(memory, NS) is Reason.REPLAYED
    memory.replace(0, {KEY: Floor(NS + skew * 10**9 + 1000)})
    assert try_to_spend(memory, NS) is Reason.FLOOR_AHEAD
