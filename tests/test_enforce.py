"""The enforcer: the store first, then the kernel; and what the kernel is told follows from the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from gatekeeper import schedule
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import FirewallError, StoreError
from gatekeeper.model import BY_HAND, Admit, Grant, Revoke, Stamp
from gatekeeper.networks import Address, Source
from gatekeeper.settings import Client, Established, Ports, Rules, Service, Transport
from gatekeeper.store.sqlite import SqliteStore

NOW = 1000.0
RULES = Rules(
    services={
        "ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600),
        "web": Service("web", (Ports(Transport.TCP, 443),), 3600, established=Established.CUT),
        "vpn": Service("vpn", (Ports(Transport.UDP, 51820),), 3600, established=Established.CUT),
    },
    clients={
        "laptop": Client(name="laptop", services=("ssh", "web", "vpn"), open_key=b"open"),
        "desk": Client(name="desk", services=("ssh",), open_key=b"open desk"),
    },
)
HOME = ip_network("192.0.2.7")


class Recorder:
    """A firewall that remembers what it was told, and what it lets in."""

    def __init__(self) -> None:
        self.members: dict[tuple[str, Source], int | None] = {}
        self.cuts: list[tuple[str, Source]] = []
        self.spare: Callable[[Address], bool] = lambda _: False
        self.broken: set[str] = set()

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        self.members = {(name, one): left for name, sources in members.items() for one, left in sources.items()}

    def put(self, service: str, source: Source, *, timeout: int | None) -> None:
        if service in self.broken:
            raise FirewallError("the set is gone")
        self.members[service, source] = timeout

    def remove(self, service: str, source: Source) -> None:
        if service in self.broken:
            raise FirewallError("the set is gone")
        self.members.pop((service, source), None)

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        self.cuts += [(service.name, source) for source in sources]
        self.spare = spare
        return len(sources)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def kernel() -> Recorder:
    return Recorder()


@pytest.fixture
def enforcer(store: SqliteStore, kernel: Recorder) -> Enforcer:
    return Enforcer(RULES, store, kernel, lock=contextlib.nullcontext)


def grant(service: str = "ssh", client: str = "laptop", end: float | None = NOW + 60, source: Source = HOME) -> Grant:
    return Grant(source, service, client, end)


def test_a_grant_is_in_the_store_before_the_kernel_is_touched(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Grant]] = []
    monkeypatch.setattr(kernel, "put", lambda *_, **__: seen.append(store.live(now=NOW)))
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    assert seen == [[grant()]]


def test_when_the_store_refuses_the_kernel_is_not_touched(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder
) -> None:
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError):
        enforcer.carry_out([Admit((grant(),))], now=NOW)
    assert kernel.members == {}
    assert len(enforcer.allowlist) == 0


def test_a_source_is_a_member_for_as_long_as_any_client_has_it(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(),)), Admit((grant(client="desk", end=NOW + 500),))], now=NOW)
    assert kernel.members == {("ssh", HOME): 500}
    enforcer.carry_out([Revoke(HOME, "desk", ("ssh",))], now=NOW + 0.5)
    assert kernel.members == {("ssh", HOME): 60}
    (outcome,) = enforcer.carry_out([Revoke(HOME, "laptop", ("ssh",))], now=NOW + 1)
    assert kernel.members == {}
    assert outcome.ended == (grant(),)


def test_a_close_cuts_and_spares_what_others_still_have(enforcer: Enforcer, kernel: Recorder) -> None:
    network = ip_network("192.0.2.0/24")
    enforcer.carry_out([Admit((grant(), grant(client=BY_HAND, source=network)))], now=NOW)
    enforcer.carry_out([Revoke(HOME, "laptop", ("ssh",))], now=NOW)
    assert kernel.cuts == [("ssh", HOME)]
    assert kernel.spare(ip_address("192.0.2.7")), "the network's grant covers it still"
    enforcer.carry_out([Revoke(network)], now=NOW)
    assert ("ssh", network) in kernel.cuts
    assert not kernel.spare(ip_address("192.0.2.7"))


def test_an_end_by_time_cuts_only_what_is_to_be_cut(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant("ssh"), grant("web"), grant("vpn")))], now=NOW)
    outcome = enforcer.expire(now=NOW + 60)
    assert {one.service for one in outcome.ended} == {"ssh", "web", "vpn"}
    assert sorted(kernel.cuts) == [("vpn", HOME), ("web", HOME)]
    assert kernel.members == {}
    assert enforcer.allowlist.next_expiry() is None


def test_an_end_by_time_leaves_a_longer_grant_of_another_client(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(), grant(client="desk", end=NOW + 500)))], now=NOW)
    enforcer.expire(now=NOW + 60)
    assert kernel.members == {("ssh", HOME): 440}


def test_what_the_kernel_refuses_is_said_and_the_rest_is_done(enforcer: Enforcer, kernel: Recorder) -> None:
    kernel.broken = {"ssh"}
    (outcome,) = enforcer.carry_out([Admit((grant("ssh"), grant("web")))], now=NOW)
    assert outcome.error == "the set is gone"
    assert kernel.members == {("web", HOME): 60}


def test_restore_makes_the_kernel_what_the_store_says(store: SqliteStore, kernel: Recorder) -> None:
    """Live grants with the time they have left; what is expired, or gone from the rules, ends and is cut."""
    gone_client, gone_service = grant(client="nobody"), grant("db", client=BY_HAND)
    not_allowed = grant("web", client="desk")
    expired = grant("vpn", end=NOW + 1)
    by_hand = grant("ssh", client=BY_HAND, end=None, source=ip_network("2001:db8::/64"))
    everything = (grant(end=NOW + 60.4), by_hand, expired, gone_client, gone_service, not_allowed)
    store.commit([Admit(everything)], now=NOW)
    kernel.members = {("ssh", ip_network("203.0.113.9")): None}
    enforcer = Enforcer(RULES, store, kernel, lock=contextlib.nullcontext)
    outcome = enforcer.restore(now=NOW + 1)
    assert kernel.members == {("ssh", HOME): 60, ("ssh", by_hand.source): None}
    assert set(outcome.ended) == {expired, gone_client, gone_service, not_allowed}
    assert set(store.live(now=NOW)) == {grant(end=NOW + 60.4), by_hand}
    assert ("vpn", HOME) in kernel.cuts
    assert ("web", HOME) in kernel.cuts


def test_changes_by_others_reach_the_allowlist_and_the_kernel(
    enforcer: Enforcer, kernel: Recorder, tmp_path: Path
) -> None:
    """The other process may have died before it told the kernel."""
    other = SqliteStore(tmp_path)
    other.commit([Admit((grant(), grant("web")))], now=NOW)
    outcome = enforcer.catch_up(now=NOW)
    assert set(outcome.admitted) == {grant(), grant("web")}
    assert enforcer.allowlist.covers(ip_address("192.0.2.7").packed, "ssh", now=NOW)
    assert kernel.members == {("ssh", HOME): 60, ("web", HOME): 60}
    other.commit([Revoke(HOME, None, ("ssh",)), Admit((grant("web", end=NOW + 90),))], now=NOW)
    other.close()
    outcome = enforcer.catch_up(now=NOW)
    assert outcome.ended == (grant(),)
    assert kernel.members == {("web", HOME): 90}
    assert kernel.cuts == [("ssh", HOME)], "which the other process owed"
    assert enforcer.catch_up(now=NOW).admitted == ()


def test_what_others_did_a_moment_ago_counts_in_the_next_change(
    enforcer: Enforcer, kernel: Recorder, tmp_path: Path
) -> None:
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    other = SqliteStore(tmp_path)
    other.commit([Admit((grant(client=BY_HAND, source=ip_network("192.0.2.0/24")),))], now=NOW)
    other.close()
    enforcer.carry_out([Revoke(HOME, "laptop", ("ssh",))], now=NOW)
    assert kernel.spare(ip_address("192.0.2.7"))


def test_what_expired_here_and_is_not_in_the_store_is_forgotten(enforcer: Enforcer, store: SqliteStore) -> None:
    """Otherwise the next expiry would stay in the past, and be asked for without a pause."""
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    store.forget([grant()])
    enforcer.expire(now=NOW + 60)
    assert enforcer.allowlist.next_expiry() is None


def test_a_close_cuts_what_was_kept_when_its_grant_ended_by_time(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(end=NOW + 1),))], now=NOW)
    enforcer.expire(now=NOW + 2)
    kernel.cuts.clear()
    enforcer.carry_out([Revoke(HOME, "laptop", ("ssh", "web"))], now=NOW + 3)
    assert kernel.cuts == [("ssh", HOME)]
    enforcer.carry_out([Revoke(HOME)], now=NOW + 3)
    assert kernel.cuts[1:] == [("ssh", HOME), ("web", HOME), ("vpn", HOME)], "an administrator's revoke cuts everything"


def test_a_close_cuts_nothing_that_its_client_never_had(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder
) -> None:
    """Whose connection is whose, only the store knows; and the address of a close can be forged."""
    enforcer.carry_out([Admit((grant(end=NOW + 1),))], now=NOW)
    enforcer.expire(now=NOW + 2)
    kernel.cuts.clear()
    enforcer.carry_out([Revoke(HOME, "desk", ("ssh",))], now=NOW + 3)
    assert kernel.cuts == []
    store._db.execute("PRAGMA query_only = 1")
    enforcer.close_unsaved(Revoke(HOME, "desk", ("ssh",)), now=NOW + 3)
    assert kernel.cuts == []


def test_of_closes_that_could_not_be_stored_the_last_one_is_kept_for_each(
    enforcer: Enforcer, store: SqliteStore
) -> None:
    store._db.execute("PRAGMA query_only = 1")
    for number in range(100):
        enforcer.close_unsaved(Revoke(HOME, "laptop", ("ssh",), Stamp(bytes(32), number)), now=NOW)
    assert [one.stamp for one in enforcer.unsaved] == [Stamp(bytes(32), 99)]


def test_a_restart_ends_what_the_rules_have_given_an_end(store: SqliteStore, kernel: Recorder) -> None:
    """A client whose last day was moved has no grant that outlives it."""
    for end, left in ((NOW + 30, NOW + 30), (NOW - 1, None)):
        client = replace(RULES.clients["laptop"], not_after=end)
        rules = replace(RULES, clients={**RULES.clients, "laptop": client})
        again = Enforcer(rules, store, kernel, lock=contextlib.nullcontext)
        store.commit([Admit((grant(end=None),))], now=NOW)
        outcome = again.restore(now=NOW)
        assert [one.expires_at for one in outcome.admitted] == ([] if left is None else [left])


def test_what_the_store_cannot_take_is_closed_in_the_kernel_and_stored_later(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder, tmp_path: Path
) -> None:
    enforcer.carry_out([Admit((grant(), grant(client="desk")))], now=NOW)
    store._db.execute("PRAGMA query_only = 1")
    close = Revoke(HOME, "laptop", ("ssh",))
    with pytest.raises(StoreError):
        enforcer.carry_out([close], now=NOW)
    outcome = enforcer.close_unsaved(close, now=NOW)
    assert outcome.ended == (grant(),)
    assert kernel.members == {("ssh", HOME): 60}, "desk's grant is not laptop's to close"
    enforcer.close_unsaved(Revoke(HOME, "desk", ("ssh",)), now=NOW)
    assert kernel.members == {}
    other = SqliteStore(tmp_path)  # a change by others must not open again what is closed
    other.add_counts({"x": 1})
    other.close()
    with pytest.raises(StoreError):
        enforcer.catch_up(now=NOW)
    assert kernel.members == {}
    store._db.execute("PRAGMA query_only = 0")
    enforcer.catch_up(now=NOW)
    assert store.live(now=NOW) == []
    assert kernel.members == {}


def test_a_service_that_the_rules_no_longer_have_is_closed_too(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder
) -> None:
    store.commit([Admit((grant("old"),))], now=NOW)
    kernel.members = {("old", HOME): 60}
    (outcome,) = enforcer.carry_out([Revoke(HOME)], now=NOW)
    assert kernel.members == {}
    assert "these rules have no service old" in str(outcome.error)


def test_loading_tells_the_kernel_nothing(enforcer: Enforcer, store: SqliteStore, kernel: Recorder) -> None:
    store.commit([Admit((grant(),))], now=NOW)
    enforcer.load(now=NOW)
    assert list(enforcer.allowlist) == [grant()]
    assert kernel.members == {}


def test_every_change_holds_the_lock(store: SqliteStore, kernel: Recorder) -> None:
    held: list[bool] = []

    @contextlib.contextmanager
    def lock() -> Iterator[None]:
        held.append(True)
        yield

    enforcer = Enforcer(RULES, store, kernel, lock=lock)
    enforcer.restore(now=NOW)
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    enforcer.expire(now=NOW)
    assert len(held) == 3


def test_a_cut_that_a_killed_process_owed_is_made_at_the_next_start(store: SqliteStore, kernel: Recorder) -> None:
    """Killed between the commit and the kernel: the store still knows that something is to be cut."""
    store.commit([Admit((grant(),)), Revoke(HOME, "laptop", ("ssh",))], now=NOW)
    Enforcer(RULES, store, kernel, lock=contextlib.nullcontext).restore(now=NOW)
    assert kernel.cuts == [("ssh", HOME)]
    assert store.owed_cuts() == []


def test_a_cut_that_fails_stays_owed(enforcer: Enforcer, kernel: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise FirewallError("no sock_diag")

    with monkeypatch.context() as broken:
        broken.setattr(kernel, "cut", refuse)
        (outcome,) = enforcer.carry_out([Revoke(HOME)], now=NOW)
        assert outcome.error == "no sock_diag"
    enforcer.carry_out([Admit((grant("ssh", "desk", source=ip_network("192.0.2.9")),))], now=NOW)
    assert ("ssh", HOME) in kernel.cuts


def test_a_close_works_when_the_store_fails_after_its_commit(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforcer.carry_out([Admit((grant(),))], now=NOW)

    def fail(*_: object, **__: object) -> list[Grant]:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(store, "matching", fail)
    enforcer.carry_out([Revoke(HOME)], now=NOW)
    assert kernel.members == {}


def test_a_mixed_service_is_cut_by_time_where_it_is_not_kept_and_whole_by_a_close(store: SqliteStore) -> None:
    kernel = PortRecorder()
    both = Service("both", (Ports(Transport.TCP, 53), Ports(Transport.UDP, 53)), 3600)
    rules = replace(RULES, services={"both": both}, clients={"laptop": Client(name="laptop", services=("both",))})
    enforcer = Enforcer(rules, store, kernel, lock=contextlib.nullcontext)
    enforcer.carry_out([Admit((grant("both"),))], now=NOW)
    enforcer.expire(now=NOW + 61)
    assert kernel.ports == [(Ports(Transport.UDP, 53),)]
    enforcer.carry_out([Revoke(HOME, "laptop", ("both",))], now=NOW + 62)
    assert kernel.ports[1:] == [both.ports]


class PortRecorder(Recorder):
    """Remembers which ports were cut."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[tuple[Ports, ...]] = []

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        self.ports.append(service.ports)
        return super().cut(service, sources, spare=spare)


WEDNESDAY = 1_795_564_800.0  # 2026-11-25 00:00 UTC


@pytest.mark.parametrize("whose", ["client", "service"])
def test_a_restart_gives_grants_the_hours_that_the_rules_have_now(
    store: SqliteStore, kernel: Recorder, whose: str
) -> None:
    hours = (schedule.parse("Mon-Fri 08:00-18:00 UTC"),)
    ssh, laptop = RULES.services["ssh"], RULES.clients["laptop"]
    rules = (
        replace(RULES, services={**RULES.services, "ssh": replace(ssh, hours=hours)})
        if whose == "service"
        else replace(RULES, clients={"laptop": replace(laptop, hours=hours)})
    )
    by_hand = ip_network("192.0.2.8")
    store.commit([Admit((grant(end=None), grant(client=BY_HAND, end=None, source=by_hand)))], now=WEDNESDAY)
    enforcer = Enforcer(rules, store, kernel, lock=contextlib.nullcontext)
    enforcer.restore(now=WEDNESDAY + 17 * 3600)
    assert kernel.members == {("ssh", HOME): 3600, ("ssh", by_hand): None}
    Enforcer(rules, store, kernel, lock=contextlib.nullcontext).restore(now=WEDNESDAY + 19 * 3600)
    assert kernel.members == {("ssh", by_hand): None}, "an administrator's hand knows no hours"


def test_a_restart_ends_grants_that_are_wider_than_the_rules_have_them_now(
    store: SqliteStore, kernel: Recorder
) -> None:
    wide = ip_network("192.0.2.0/24")
    store.commit([Admit((grant(source=wide), grant(client=BY_HAND, source=wide)))], now=NOW)
    enforcer = Enforcer(RULES, store, kernel, lock=contextlib.nullcontext)
    outcome = enforcer.restore(now=NOW)
    assert outcome.ended == (grant(source=wide),)
    assert kernel.members == {("ssh", wide): 60}


def test_a_restart_ends_grants_of_those_who_are_never_let_in_also_what_was_given_by_hand(
    store: SqliteStore, kernel: Recorder
) -> None:
    never = (ip_network("192.0.2.0/24"),)
    rules = replace(RULES, services={"ssh": replace(RULES.services["ssh"], never=never)})
    store.commit([Admit((grant(), grant(client=BY_HAND)))], now=NOW)
    enforcer = Enforcer(rules, store, kernel, lock=contextlib.nullcontext)
    assert len(enforcer.restore(now=NOW).ended) == 2
    assert kernel.members == {}
    assert kernel.cuts


def test_a_grant_that_the_rules_have_given_an_end_really_ends_then_and_does_not_come_back(
    store: SqliteStore, kernel: Recorder
) -> None:
    """Not with the next day's hours, nor where the kernel keeps no time."""
    hours = (schedule.parse("Mon-Fri 08:00-18:00 UTC"),)
    rules = replace(RULES, clients={"laptop": replace(RULES.clients["laptop"], hours=hours)})
    store.commit([Admit((grant(end=None),))], now=WEDNESDAY)
    enforcer = Enforcer(rules, store, kernel, lock=contextlib.nullcontext)
    enforcer.restore(now=WEDNESDAY + 17 * 3600)
    outcome = enforcer.expire(now=WEDNESDAY + 18 * 3600)
    assert outcome.ended == (grant(end=WEDNESDAY + 18 * 3600),)
    assert kernel.members == {}
    enforcer.restore(now=WEDNESDAY + 33 * 3600)
    assert kernel.members == {}
