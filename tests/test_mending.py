"""What the kernel lets in is compared with the grants: by numbers, in full only where these differ."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from gatekeeper.enforce import Enforcer
from gatekeeper.firewall.sets import MAX_TIMEOUT
from gatekeeper.model import Admit, Mended
from gatekeeper.store.sqlite import SqliteStore
from tests.test_enforce import HOME, NOW, RULES, Recorder, enforcer, grant, kernel, store

__all__ = ["enforcer", "kernel", "store"]
STRAY = ip_network("203.0.113.9")


def test_what_is_in_order_is_not_looked_at_in_full(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(), grant("web")))], now=NOW)
    assert enforcer.mend(now=NOW) == Mended()
    assert kernel.full_looks == 0


def test_who_was_taken_out_is_put_back_and_who_was_put_in_is_taken_out(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(), grant(client="desk", end=NOW + 500)))], now=NOW)
    kernel.members_now = {("web", STRAY): None, ("vpn", STRAY): 60}
    mended = enforcer.mend(now=NOW)
    assert mended.put == (("ssh", HOME),)
    assert set(mended.removed) == {("web", STRAY), ("vpn", STRAY)}
    assert kernel.members_now == {("ssh", HOME): 500}
    assert enforcer.mend(now=NOW) == Mended()


@pytest.mark.parametrize(
    ("end", "left", "is_right"),
    [
        (60, 60, True),
        (60, 62, True),
        (60, 65, False),
        (60, None, False),
        (None, None, True),
        (None, 60, False),
        (9_000_000, MAX_TIMEOUT - 80_000, True),
        (9_000_000, 500, False),
    ],
)
def test_a_member_with_another_timeout_is_put_back_once_the_numbers_differ(
    enforcer: Enforcer, kernel: Recorder, end: float | None, left: int | None, is_right: bool
) -> None:
    """A timeout is whole seconds, and not longer than the kernel's longest."""
    enforcer.carry_out([Admit((grant(end=None if end is None else NOW + end),))], now=NOW)
    kernel.members_now = {("ssh", HOME): left, ("ssh", STRAY): None}
    assert (enforcer.mend(now=NOW).put == ()) is is_right


def test_a_member_that_ends_at_this_moment_is_no_stray(enforcer: Enforcer, kernel: Recorder) -> None:
    """The kernel rounds up, so its end comes up to a second after ours."""
    enforcer.carry_out([Admit((grant(end=NOW + 60),))], now=NOW)
    enforcer.expire(now=NOW + 60)
    kernel.members_now = {("ssh", HOME): 1}
    assert enforcer.mend(now=NOW + 60.1) == Mended()
    assert kernel.full_looks == 0
    kernel.members_now = {("ssh", HOME): 100}
    assert enforcer.mend(now=NOW + 63).removed == (("ssh", HOME),)


def test_a_stray_is_found_also_where_grants_end_all_the_time(enforcer: Enforcer, kernel: Recorder) -> None:
    """There is always one that has just ended, behind which it could hide."""
    ends = [NOW + second for second in range(1, 30)]
    sources = [ip_network(f"198.51.100.{number}") for number in range(1, 30)]
    for source, end in zip(sources, ends, strict=True):
        enforcer.carry_out([Admit((replace(grant(end=end), source=source),))], now=NOW)
    kernel.members_now["ssh", STRAY] = None
    removed: list[object] = []
    for second in range(1, 20):
        enforcer.expire(now=NOW + second)
        removed += enforcer.mend(now=NOW + second).removed
    assert removed == [("ssh", STRAY)]
    assert kernel.full_looks <= 3


def test_numbers_that_differ_for_a_good_reason_are_not_looked_into_each_second(
    enforcer: Enforcer, kernel: Recorder
) -> None:
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    kernel.members_now[("ssh", STRAY)] = 1
    for after in (0, 1, 2, 9):
        assert enforcer.mend(now=NOW + after) == Mended()
    assert kernel.full_looks == 1
    enforcer.mend(now=NOW + 11)
    assert kernel.full_looks == 2


def test_what_another_process_has_just_granted_is_no_stray(tmp_path: Path, kernel: Recorder) -> None:
    ours, other = SqliteStore(tmp_path), SqliteStore(tmp_path)
    with contextlib.closing(ours), contextlib.closing(other):
        enforcer = Enforcer(RULES, ours, kernel, lock=contextlib.nullcontext)
        enforcer.restore(now=NOW)
        other.commit([Admit((grant(),))], now=NOW)
        kernel.members_now = {("ssh", HOME): 60}
        assert enforcer.mend(now=NOW) == Mended()
        assert enforcer.catch_up(now=NOW).admitted == (grant(),)
        assert enforcer.mend(now=NOW) == Mended()


def test_what_the_kernel_refuses_is_said_once_and_tried_again(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    kernel.members_now, kernel.broken = {}, {"ssh"}
    assert enforcer.mend(now=NOW) == Mended(error="the set is gone")
    assert enforcer.mend(now=NOW + 1) == Mended()
    kernel.broken = set()
    assert enforcer.mend(now=NOW + 2).put == (("ssh", HOME),)


def test_long_grants_get_their_timeouts_anew_each_day_some_at_a_time(enforcer: Enforcer, kernel: Recorder) -> None:
    """The kernel's longest timeout is 24 days; and a hundred thousand at once would keep knocks waiting."""
    day = 86_400
    long = NOW + 100 * day
    sources = [ip_network((0x0A00_0000 + n, 32)) for n in range(300)]
    grants = [grant(source=one, end=long) for one in sources]
    enforcer.carry_out([Admit((*grants, grant(end=None), grant("web", end=NOW + 2 * day)))], now=NOW)
    before = dict(kernel.members_now)
    for now in (NOW, NOW + day - 1):
        assert enforcer.mend(now=now) == Mended()
        assert kernel.members_now == before
    assert enforcer.mend(now=NOW + day) == Mended()
    renewed = [one for one in sources if kernel.members_now["ssh", one] == 99 * day]
    assert 0 < len(renewed) < 300
    enforcer.allowlist.end(grants[-1])
    kernel.members_now.pop(("ssh", sources[-1]))
    for _ in range(3):
        enforcer.mend(now=NOW + day + 1)
    assert {kernel.members_now["ssh", one] for one in sources[:-1]} == {99 * day, 99 * day - 1}
    assert ("ssh", sources[-1]) not in kernel.members_now
    assert kernel.members_now["ssh", HOME] is None
    assert kernel.members_now["web", HOME] == before["web", HOME]
    assert kernel.full_looks == 0
