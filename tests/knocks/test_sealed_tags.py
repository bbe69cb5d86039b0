"""The tags of sealed knocks: renewed in pieces, always known in time, and never many."""

from __future__ import annotations

import pytest

from gatekeeper.knocks import sealed
from gatekeeper.knocks.sealed import SealedKnocks
from gatekeeper.model import Reason, Refusal
from gatekeeper.sealed import keys, wire
from gatekeeper.settings import Client, Rules, ServerKey
from tests.knocks.door import NOW, SECOND, SERVICES, seal
from tests.vectors.sealed import make


def ring(count: int) -> tuple[SealedKnocks, list[wire.Sealer]]:
    """Return a server with so many clients, and these."""
    privates = [bytes([number + 1]) * 32 for number in range(count)]
    clients = {
        f"c{number}": Client(name=f"c{number}", services=("ssh",), keys=(keys.public_of(private),))
        for number, private in enumerate(privates)
    }
    form = SealedKnocks(Rules(SERVICES, clients), (ServerKey(make.SERVER),))
    return form, [wire.Sealer(private, make.SERVER_PUBLIC) for private in privates]


def sealed_at(sealer: wire.Sealer, now: float) -> bytes:
    said = wire.Payload(action=wire.OPEN, sent_at=int(now * SECOND))
    return sealer.seal(said, bytes(range(32)), now=now)[0]


def test_tags_are_renewed_in_pieces_and_those_of_the_neighbouring_epochs_are_always_known() -> None:
    form, sealers = ring(3)
    start = NOW + 17.5
    form.renew(now=start)
    made = {near: [sealed_at(one, start + near * wire.EPOCH) for one in sealers] for near in range(-1, 12)}
    for second in range(10 * wire.EPOCH):
        now = start + second
        behind = wire.epoch_at(now) - wire.epoch_at(start)
        # before the second's renewal and after it, for a packet may come at any time
        for _ in range(2):
            for near in (-1, 0, 1):
                assert all(form.glance(raw, now=now) is True for raw in made[behind + near]), f"second {second}"
            form.renew(now=now)
        for far in (-2, 2):
            for raw in made.get(behind + far, ()):
                found = form.glance(raw, now=now)
                assert isinstance(found, Refusal)
                assert found.reason in {Reason.WRONG_EPOCH, Reason.UNKNOWN_CLIENT}
        assert form.client_tags <= 3 * 5
        assert len(form._doors) <= 2 * sealed._DOORS_AROUND + 4


def test_a_renewal_a_second_is_enough_for_ten_thousand_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: what a second makes is a small part, and the whole is made well within an epoch."""
    form, sealers = ring(1)
    form._peers *= 10_000
    form.renew(now=NOW)
    steps = 0
    honest = wire.client_tag

    def counted(key: bytes, epoch: int) -> bytes:
        nonlocal steps
        steps += 1
        return honest(key, epoch)

    monkeypatch.setattr(wire, "client_tag", counted)
    for second in range(wire.EPOCH, wire.EPOCH + 30):
        before = steps
        form.renew(now=NOW + second)
        assert steps - before <= 500
    assert steps == 10_000
    later = NOW + wire.EPOCH + 30
    assert form.glance(sealed_at(sealers[0], later + wire.EPOCH), now=later) is True


@pytest.mark.parametrize("leap", [86400.0, -86400.0, 250.0, -250.0, 10 * 86400.0, -119.0])
def test_a_clock_that_leaps_and_comes_back_shuts_nobody_out(leap: float) -> None:
    form, sealers = ring(3)
    form.renew(now=NOW)
    for now in (NOW, NOW + leap, NOW + leap + 1, NOW, NOW + 1, NOW + leap, NOW):
        form.renew(now=now)
        for near in (-1, 0, 1):
            for one in sealers:
                assert form.glance(sealed_at(one, now + near * wire.EPOCH), now=now) is True
        assert form.client_tags <= 3 * 5
        assert len(form._doors) <= 4 * sealed._DOORS_AROUND + 8


@pytest.mark.parametrize(("hours", "words"), [(-23, "1380 minutes behind"), (23, "1380 minutes ahead of")])
def test_a_clock_that_is_a_day_off_is_told_from_junk(hours: int, words: str) -> None:
    form, sealers = ring(1)
    form.renew(now=NOW)
    found = form.glance(sealed_at(sealers[0], NOW + hours * 3600), now=NOW)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.WRONG_EPOCH
    assert found.note is not None
    assert words in found.note


def test_the_door_tags_of_now_are_those_that_are_accepted() -> None:
    form, sealers = ring(1)
    assert form.door_tags(now=NOW) == [sealed_at(sealers[0], NOW + near * wire.EPOCH)[:4] for near in (-1, 0, 1)]


def test_a_server_without_sealed_clients_has_no_tags() -> None:
    form = SealedKnocks(Rules(SERVICES, {}), (ServerKey(make.SERVER),))
    form.renew(now=NOW)
    assert form.client_tags == 0
    assert form.glance(seal(), now=NOW) is False


@pytest.mark.parametrize("now", [0.0, 119.0, 240.0, 50_000.0, -5.0])
def test_a_clock_that_was_never_set_stops_nothing(now: float) -> None:
    form, sealers = ring(2)
    form.renew(now=now)
    assert form.glance(sealed_at(sealers[1], max(0.0, now)), now=now) is True
    form.renew(now=NOW)
    assert form.glance(sealed_at(sealers[1], NOW), now=NOW) is True
    form.renew(now=now)
    assert form.glance(sealed_at(sealers[1], max(0.0, now)), now=now) is True


def test_until_the_tags_of_a_leap_are_made_it_is_the_clock_that_is_told() -> None:
    form, sealers = ring(1)
    form.renew(now=NOW)
    later = NOW + 10 * wire.EPOCH
    found = form.glance(sealed_at(sealers[0], later), now=later)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.WRONG_EPOCH
