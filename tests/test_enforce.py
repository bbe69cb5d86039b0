"""The enforcer: the store first, then the kernel; and what the kernel is told follows from the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from gatekeeper import admin, schedule
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import FirewallError, StoreError
from gatekeeper.model import BY_HAND, Admit, Grant, Outcome, Revoke, Stamp
from gatekeeper.networks import Address, Source
from gatekeeper.protocols import Member
from gatekeeper.settings import Client, Established, Ports, Rules, Service, Transport
from gatekeeper.store.journal import KEPT
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

    keeps_time = True

    def __init__(self) -> None:
        self.really_cuts = True
        self.members_now: dict[tuple[str, Source], int | None] = {}
        self.cuts: list[tuple[str, Source]] = []
        self.spare: Callable[[Address], bool] = lambda _: False
        self.broken: set[str] = set()
        self.full_looks = 0

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        self.members_now = {(name, one): left for name, sources in members.items() for one, left in sources.items()}

    def change(self, put: Mapping[Member, int | None], remove: Iterable[Member]) -> dict[Member, str]:
        gone = [one for one in remove if one[0] not in self.broken]
        for one in gone:
            self.members_now.pop(one, None)
        self.members_now |= {one: left for one, left in put.items() if one[0] not in self.broken}
        return {one: "the set is gone" for one in [*remove, *put] if one[0] in self.broken}

    def members(self, service: str) -> list[Source]:
        return [source for name, source in self.members_now if name == service]

    def sizes(self, services: Iterable[str]) -> dict[tuple[str, int], int]:
        return {
            (name, version): sum(source.version == version for source in self.members(name))
            for name in services
            for version in (4, 6)
        }

    def timeouts(self, service: str) -> dict[Source, int | None]:
        self.full_looks += 1
        return {source: left for (name, source), left in self.members_now.items() if name == service}

    def mend_networks(self, rules: Rules) -> list[str]:  # noqa: ARG002
        return []

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

    def look(*_: object) -> dict[Member, str]:
        seen.append(store.live(now=NOW))
        return {}

    monkeypatch.setattr(kernel, "change", look)
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    assert seen == [[grant()]]


def test_when_the_store_refuses_the_kernel_is_not_touched(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder
) -> None:
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError):
        enforcer.carry_out([Admit((grant(),))], now=NOW)
    assert kernel.members_now == {}
    assert len(enforcer.allowlist) == 0


def test_a_source_is_a_member_for_as_long_as_any_client_has_it(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(),)), Admit((grant(client="desk", end=NOW + 500),))], now=NOW)
    assert kernel.members_now == {("ssh", HOME): 500}
    enforcer.carry_out([Revoke(HOME, "desk", ("ssh",))], now=NOW + 0.5)
    assert kernel.members_now == {("ssh", HOME): 60}
    (outcome,) = enforcer.carry_out([Revoke(HOME, "laptop", ("ssh",))], now=NOW + 1)
    assert kernel.members_now == {}
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
    assert kernel.members_now == {}
    assert enforcer.allowlist.next_expiry() is None


def test_an_end_by_time_leaves_a_longer_grant_of_another_client(enforcer: Enforcer, kernel: Recorder) -> None:
    enforcer.carry_out([Admit((grant(), grant(client="desk", end=NOW + 500)))], now=NOW)
    enforcer.expire(now=NOW + 60)
    assert kernel.members_now == {("ssh", HOME): 440}


def test_what_the_kernel_refuses_is_said_and_the_rest_is_done(enforcer: Enforcer, kernel: Recorder) -> None:
    kernel.broken = {"ssh"}
    (outcome,) = enforcer.carry_out([Admit((grant("ssh"), grant("web")))], now=NOW)
    assert outcome.error == "the set is gone"
    assert kernel.members_now == {("web", HOME): 60}


def test_restore_makes_the_kernel_what_the_store_says(store: SqliteStore, kernel: Recorder) -> None:
    """Live grants with the time they have left; what is expired, or gone from the rules, ends and is cut."""
    gone_client, gone_service = grant(client="nobody"), grant("db", client=BY_HAND)
    not_allowed = grant("web", client="desk")
    expired = grant("vpn", end=NOW + 1)
    by_hand = grant("ssh", client=BY_HAND, end=None, source=ip_network("2001:db8::/64"))
    everything = (grant(end=NOW + 60.4), by_hand, expired, gone_client, gone_service, not_allowed)
    store.commit([Admit(everything)], now=NOW)
    kernel.members_now = {("ssh", ip_network("203.0.113.9")): None}
    enforcer = Enforcer(RULES, store, kernel, lock=contextlib.nullcontext)
    outcome = enforcer.restore(now=NOW + 1)
    assert kernel.members_now == {("ssh", HOME): 60, ("ssh", by_hand.source): None}
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
    assert kernel.members_now == {("ssh", HOME): 60, ("web", HOME): 60}
    other.commit([Revoke(HOME, None, ("ssh",)), Admit((grant("web", end=NOW + 90),))], now=NOW)
    other.close()
    outcome = enforcer.catch_up(now=NOW)
    assert outcome.ended == (grant(),)
    assert kernel.members_now == {("web", HOME): 90}
    assert kernel.cuts == [("ssh", HOME)], "which the other process owed"
    assert enforcer.catch_up(now=NOW).admitted == ()


def test_what_others_granted_and_was_over_before_we_looked_is_ended_like_any_other(
    enforcer: Enforcer, kernel: Recorder, tmp_path: Path
) -> None:
    with contextlib.closing(SqliteStore(tmp_path)) as other:
        other.commit([Admit((grant("web", end=NOW + 1),))], now=NOW)
    enforcer.catch_up(now=NOW + 2)
    assert kernel.members_now == {}
    assert enforcer.allowlist.next_expiry() == NOW + 1, "or nobody would know that there is something to end"
    assert enforcer.expire(now=NOW + 2).ended == (grant("web", end=NOW + 1),)
    assert kernel.cuts == [("web", HOME)]


def test_so_it_is_when_others_changed_too_much_to_be_told_one_by_one(
    enforcer: Enforcer, kernel: Recorder, tmp_path: Path
) -> None:
    many = tuple(grant("web", BY_HAND, NOW + 1, ip_network((0x0A00_0000 + n, 32))) for n in range(KEPT + 1))
    with contextlib.closing(SqliteStore(tmp_path)) as other:
        other.commit([Admit(many)], now=NOW)
    enforcer.catch_up(now=NOW + 2)
    assert enforcer.allowlist.next_expiry() == NOW + 1
    assert kernel.members_now == {}


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
    store.forget([grant()], now=NOW)
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
    assert kernel.members_now == {("ssh", HOME): 60}, "desk's grant is not laptop's to close"
    enforcer.close_unsaved(Revoke(HOME, "desk", ("ssh",)), now=NOW)
    assert kernel.members_now == {}
    other = SqliteStore(tmp_path)  # a change by others must not open again what is closed
    other.add_counts({"x": 1})
    other.close()
    with pytest.raises(StoreError):
        enforcer.catch_up(now=NOW)
    assert kernel.members_now == {}
    store._db.execute("PRAGMA query_only = 0")
    enforcer.catch_up(now=NOW)
    assert store.live(now=NOW) == []
    assert kernel.members_now == {}


def test_a_service_that_the_rules_no_longer_have_is_closed_too(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder
) -> None:
    store.commit([Admit((grant("old"),))], now=NOW)
    kernel.members_now = {("old", HOME): 60}
    (outcome,) = enforcer.carry_out([Revoke(HOME)], now=NOW)
    assert kernel.members_now == {}
    assert "these rules have no service old" in str(outcome.error)


def test_loading_tells_the_kernel_nothing(enforcer: Enforcer, store: SqliteStore, kernel: Recorder) -> None:
    store.commit([Admit((grant(),))], now=NOW)
    enforcer.load(HOME, now=NOW)
    assert list(enforcer.allowlist) == [grant()]
    assert kernel.members_now == {}


def test_a_command_learns_of_the_grants_that_touch_its_source_and_of_those_whose_cut_is_owed(
    enforcer: Enforcer, store: SqliteStore
) -> None:
    around, inside = grant(source=ip_network("192.0.2.0/24")), grant(source=ip_network("192.0.2.4/30"))
    far, owed = grant(source=ip_network("198.51.100.1")), grant(source=ip_network("203.0.113.0/24"))
    store.commit([Admit((around, inside, far, owed)), Revoke(ip_network("203.0.113.9"))], now=NOW)
    enforcer.load(HOME, now=NOW)
    assert set(enforcer.allowlist) == {around, inside, owed}


def test_a_command_spares_what_another_has_granted_since_it_began(tmp_path: Path, kernel: Recorder) -> None:
    ours, other = SqliteStore(tmp_path), SqliteStore(tmp_path)
    with contextlib.closing(ours), contextlib.closing(other):
        enforcer = Enforcer(RULES, ours, kernel, lock=contextlib.nullcontext)
        enforcer.load(HOME, now=NOW)
        other.commit([Admit((grant("web", source=ip_network("192.0.2.0/24")),))], now=NOW)
        enforcer.carry_out([Revoke(HOME, None, ("web",))], now=NOW)
        assert kernel.spare(ip_address("192.0.2.7"))


def test_what_another_process_does_is_carried_out_without_reading_all_grants(
    tmp_path: Path, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = SqliteStore(tmp_path), SqliteStore(tmp_path)
    with contextlib.closing(ours), contextlib.closing(other):
        first, second = grant("web"), grant(source=ip_network("2001:db8::/64"))
        other.commit([Admit((first,))], now=NOW)
        enforcer = Enforcer(RULES, ours, kernel, lock=contextlib.nullcontext)
        enforcer.restore(now=NOW)
        for name in ("live", "floors"):
            monkeypatch.setattr(ours, name, lambda *_, **__: pytest.fail("all were read"))
        other.commit([Admit((second, grant())), Revoke(HOME, None, ("web",))], now=NOW)
        outcome = enforcer.catch_up(now=NOW)
        assert set(outcome.admitted) == {second, grant()}
        assert outcome.ended == (first,)
        assert set(kernel.members_now) == {("ssh", HOME), ("ssh", second.source)}
        other.commit([Admit((grant(end=NOW + 9),))], now=NOW)
        assert enforcer.catch_up(now=NOW).admitted == (grant(end=NOW + 9),)
        other.add_counts({"x": 1})
        assert enforcer.catch_up(now=NOW) == Outcome()


def test_who_has_missed_too_many_changes_compares_all_and_goes_on_from_there(
    tmp_path: Path, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the store fails in the middle: then it is done the next time."""
    ours, other = SqliteStore(tmp_path), SqliteStore(tmp_path)
    with contextlib.closing(ours), contextlib.closing(other):
        enforcer = Enforcer(RULES, ours, kernel, lock=contextlib.nullcontext)
        gone = grant("web")
        other.commit([Admit((gone,))], now=NOW)
        enforcer.restore(now=NOW)
        many = tuple(grant(client=BY_HAND, source=ip_network((0x0A00_0000 + n, 32))) for n in range(KEPT))
        other.commit([Admit(many), Revoke(HOME)], now=NOW)
        with monkeypatch.context() as broken:
            broken.setattr(ours, "floors", lambda: (_ for _ in ()).throw(StoreError("no")))
            with pytest.raises(StoreError):
                enforcer.catch_up(now=NOW)
        outcome = enforcer.catch_up(now=NOW)
        assert len(outcome.admitted) == len(kernel.members_now) == KEPT
        assert outcome.ended == (gone,)
        other.commit([Revoke(many[-1].source)], now=NOW)
        assert enforcer.catch_up(now=NOW).ended == (many[-1],)


def test_a_revoke_of_one_address_lists_no_members(
    enforcer: Enforcer, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.members_now = {("ssh", HOME): 5, ("ssh", ip_network("192.0.2.8")): 5}
    with monkeypatch.context() as watched:
        watched.setattr(kernel, "members", lambda _: pytest.fail("all members were listed"))
        assert enforcer.sweep(Revoke(HOME), now=NOW) is None
    assert set(kernel.members_now) == {("ssh", ip_network("192.0.2.8"))}
    enforcer.sweep(Revoke(ip_network("192.0.2.0/24")), now=NOW)
    assert kernel.members_now == {}


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
    assert kernel.members_now == {}


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
    assert kernel.members_now == {("ssh", HOME): 3600, ("ssh", by_hand): None}
    Enforcer(rules, store, kernel, lock=contextlib.nullcontext).restore(now=WEDNESDAY + 19 * 3600)
    assert kernel.members_now == {("ssh", by_hand): None}, "an administrator's hand knows no hours"


def test_a_restart_ends_grants_that_are_wider_than_the_rules_have_them_now(
    store: SqliteStore, kernel: Recorder
) -> None:
    wide = ip_network("192.0.2.0/24")
    store.commit([Admit((grant(source=wide), grant(client=BY_HAND, source=wide)))], now=NOW)
    enforcer = Enforcer(RULES, store, kernel, lock=contextlib.nullcontext)
    outcome = enforcer.restore(now=NOW)
    assert outcome.ended == (grant(source=wide),)
    assert kernel.members_now == {("ssh", wide): 60}


def test_a_restart_ends_grants_of_those_who_are_never_let_in_also_what_was_given_by_hand(
    store: SqliteStore, kernel: Recorder
) -> None:
    never = (ip_network("192.0.2.0/24"),)
    rules = replace(RULES, services={"ssh": replace(RULES.services["ssh"], never=never)})
    store.commit([Admit((grant(), grant(client=BY_HAND)))], now=NOW)
    enforcer = Enforcer(rules, store, kernel, lock=contextlib.nullcontext)
    assert len(enforcer.restore(now=NOW).ended) == 2
    assert kernel.members_now == {}
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
    assert kernel.members_now == {}
    enforcer.restore(now=WEDNESDAY + 33 * 3600)
    assert kernel.members_now == {}


# -- what the kernel refuses


def test_what_the_kernel_refused_to_close_is_closed_as_soon_as_it_listens(enforcer: Enforcer, kernel: Recorder) -> None:
    """By a close or by time: one call that fails must not leave a port open."""
    enforcer.carry_out([Admit((grant(), grant("web")))], now=NOW)
    kernel.broken = {"ssh", "web"}
    enforcer.carry_out([Revoke(HOME, "laptop", ("ssh",))], now=NOW + 1)
    enforcer.expire(now=NOW + 61)
    assert set(kernel.members_now) == {("ssh", HOME), ("web", HOME)}
    told = [enforcer.catch_up(now=NOW + 62).error for _ in range(3)]
    assert told == [None, None, None], "it was said once"
    kernel.broken = set()
    assert enforcer.catch_up(now=NOW + 63).error is None
    assert kernel.members_now == {}


def test_what_the_kernel_refused_to_open_is_opened_for_the_time_that_is_left(
    enforcer: Enforcer, kernel: Recorder
) -> None:
    kernel.broken = {"ssh"}
    (outcome,) = enforcer.carry_out([Admit((grant(),))], now=NOW)
    assert outcome.error == "the set is gone"
    kernel.broken = set()
    enforcer.catch_up(now=NOW + 20)
    assert kernel.members_now == {("ssh", HOME): 40}


def test_what_ends_by_time_is_closed_in_the_kernel_though_the_store_cannot_be_written(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder
) -> None:
    other = ip_network("192.0.2.8")
    kernel.keeps_time = False
    enforcer.carry_out([Admit((grant(), grant(source=other, end=NOW + 600)))], now=NOW)
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError):
        enforcer.expire(now=NOW + 61)
    assert set(kernel.members_now) == {("ssh", other)}
    store._db.execute("PRAGMA query_only = 0")
    assert enforcer.expire(now=NOW + 62).ended == (grant(),)


def test_a_sweep_takes_out_what_nobody_was_granted(enforcer: Enforcer, kernel: Recorder) -> None:
    other, far = ip_network("192.0.2.8"), ip_network("198.51.100.1")
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    kernel.members_now |= {("ssh", other): None, ("web", other): None, ("ssh", far): None}
    enforcer.sweep(Revoke(ip_network("192.0.2.0/24"), None, ("ssh",)), now=NOW)
    assert set(kernel.members_now) == {("ssh", HOME), ("web", other), ("ssh", far)}


def test_a_cut_that_is_only_counted_stays_owed_until_it_is_made(store: SqliteStore) -> None:
    """What is revoked while gatekeeper observes must not be let in when it guards."""
    kernel = Recorder()
    kernel.really_cuts = False
    enforcer = Enforcer(RULES, store, kernel, lock=contextlib.nullcontext)
    enforcer.carry_out([Admit((grant(),))], now=NOW)
    (outcome,) = enforcer.carry_out([Revoke(HOME, "laptop", ("ssh",))], now=NOW)
    assert outcome.cut == 1
    (again,) = enforcer.carry_out([Revoke(HOME, "desk", ("ssh",))], now=NOW)
    assert again.cut == 0, "it is counted once"
    guarding = Recorder()
    Enforcer(RULES, store, guarding, lock=contextlib.nullcontext).restore(now=NOW)
    assert guarding.cuts == [("ssh", HOME)]
    assert store.owed_cuts() == []


def test_what_the_kernel_refuses_one_client_is_not_told_to_another(enforcer: Enforcer, kernel: Recorder) -> None:
    """Whose grant is in place is not to hear of somebody else's trouble."""
    kernel.broken = {"web"}
    (broken,) = enforcer.carry_out([Admit((grant("web"),))], now=NOW)
    assert broken.error == "the set is gone"
    (fine,) = enforcer.carry_out([Admit((grant("ssh", "desk"),))], now=NOW)
    assert fine.error is None


def test_a_close_that_the_store_has_not_taken_is_not_undone_by_what_expires_meanwhile(
    enforcer: Enforcer, store: SqliteStore, kernel: Recorder
) -> None:
    other = ip_network("192.0.2.8")
    enforcer.carry_out([Admit((grant(end=None), grant(source=other)))], now=NOW)
    kernel.broken = {"ssh"}
    enforcer.close_unsaved(Revoke(HOME, "laptop", ("ssh",)), now=NOW)
    kernel.broken = set()
    enforcer.expire(now=NOW + 61)
    assert kernel.members_now == {}
    enforcer.catch_up(now=NOW + 62)
    assert kernel.members_now == {}
    assert store.live(now=NOW + 62) == []


def test_a_sweep_that_cannot_look_does_not_keep_a_revoke_from_its_work(
    enforcer: Enforcer, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> list[Source]:
        raise FirewallError("ipset save failed")

    monkeypatch.setattr(kernel, "members", fail)
    assert enforcer.sweep(Revoke(ip_network("192.0.2.0/24")), now=NOW) == "ipset save failed"


def test_a_revoke_in_parts_ends_all_and_lets_others_have_the_lock_between(
    store: SqliteStore, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tuple(grant(source=ip_network((0xC0000200 + number, 32))) for number in range(7))
    store.commit([Admit(many)], now=NOW)
    kernel.members_now = dict.fromkeys([(one.service, one.source) for one in many], 60)
    turns: list[float] = []
    monkeypatch.setattr("gatekeeper.admin.time.sleep", turns.append)
    enforcer = Enforcer(RULES, store, kernel, lock=contextlib.nullcontext)
    enforcer.load(ip_network("192.0.2.0/24"), now=NOW)
    parts = list(admin._in_parts(enforcer, Revoke(ip_network("192.0.2.0/24"), limit=3), NOW))
    assert [len(one.ended) for one in parts] == [3, 3, 1]
    assert len(turns) == 2
    assert {one for part in parts for one in part.ended} == set(many)
    assert store.live(now=NOW) == []
    assert kernel.members_now == {}


def test_a_command_in_the_midst_of_its_parts_learns_what_others_do_without_reading_all(
    tmp_path: Path, kernel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = SqliteStore(tmp_path), SqliteStore(tmp_path)
    network, neighbour = ip_network("192.0.2.0/24"), grant(source=ip_network("203.0.113.0/24"))
    with contextlib.closing(ours), contextlib.closing(other):
        other.commit([Admit((grant(), grant(source=ip_network("192.0.2.9")), neighbour))], now=NOW)
        enforcer = Enforcer(RULES, ours, kernel, lock=contextlib.nullcontext)
        enforcer.load(network, now=NOW)
        monkeypatch.setattr(enforcer, "load", lambda *_, **__: pytest.fail("all were read"))
        fresh = grant("web", source=ip_network("192.0.2.11"))
        other.commit([Admit((fresh, grant(source=ip_network("198.51.100.1")))), Revoke(HOME)], now=NOW)
        other.commit([Revoke(ip_network("203.0.113.9"))], now=NOW)  # its cut is owed: we make it, and spare the rest
        assert enforcer.catch_up(now=NOW).ended == ()
        assert set(enforcer.allowlist) == {grant(source=ip_network("192.0.2.9")), fresh, neighbour}
