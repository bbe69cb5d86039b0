"""What an administrator does by hand: grant, revoke, invite. Works whether or not ``run`` is up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

from gatekeeper import duration, hand, progress, serverkeys
from gatekeeper.client.invite import Invite, check_client, check_host
from gatekeeper.client.profile import DEFAULT_PORT
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import StoreError, UsageError
from gatekeeper.firewall import backends
from gatekeeper.model import BY_HAND, Admit, Grant, Outcome, Revoke, TrailEntry
from gatekeeper.networks import Source, lies_in, show_source, unmapped
from gatekeeper.rules.document import did_you_mean
from gatekeeper.settings import Rules, Service, Via
from gatekeeper.store.lock import ChangeLock, runner
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.store.trail import Trail

Caution = tuple[str, str]
"""What is wrong, and what to do."""
_REVOKED_AT_ONCE, _TURN = 250, 0.02
"""Grants that are ended in one go, while knocks wait; and seconds until the next go, in which the lock is free."""
_WIDEST = {4: 8, 6: 16}
"""Shortest prefix that a grant may have: a wider one is a slip of the pen more likely than a wish."""


def parse_source(text: str) -> Source:
    """Read an address or a network, IPv4 or IPv6, as an administrator writes it.

    Raises:
        UsageError: it is neither, or so wide that it cannot be meant.
    """
    try:
        source = unmapped(ip_network(text.strip(), strict=False))
    except ValueError:
        hint = "such as 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or 2001:db8::/64"
        raise UsageError(f"{text!a} is neither an address nor a network", hint) from None
    if "%" in text or source.network_address.is_link_local:
        hint = "it means something on one link only, and would let in its namesakes on every other"
        raise UsageError(f"{text!a} is a link-local address", hint)
    if source.prefixlen < _WIDEST[source.version]:
        raise UsageError(f"{text} is too wide for a grant", f"at least /{_WIDEST[source.version]}")
    return source


def grant(
    the_rules: Rules, state_dir: Path, source: Source, name: str, ttl: str | None
) -> tuple[Grant, Caution | None]:
    """Grant a source a service by hand; return the grant, and a warning if it does not do all that it should.

    Raises:
        UsageError: there is no such service, its ``max_ttl`` is shorter, or the rules never let the source in.
    """
    service = _service(the_rules, name)
    if any(lies_in(source, network) for network in service.never):
        raise UsageError(f"the rules never let {show_source(source)} in", "take it out of `never:` first")
    seconds = _ttl(service, ttl)
    now = time.time()
    the_grant = Grant(source, service.name, BY_HAND, None if seconds is None else now + seconds)
    with _enforcer(the_rules, state_dir, source) as enforcer:
        (outcome,) = enforcer.carry_out([Admit((the_grant,))], now=now)
        if outcome.error is not None:
            hint = "`gatekeeper run` puts it there when it starts"
            return the_grant, (f"stored, but not in the kernel yet: {outcome.error}", hint)
        if the_grant.expires_at is not None and not enforcer.ends_by_itself and runner(state_dir) is None:
            return the_grant, ("run is not up, and without ipset nobody else ends a grant", "start `gatekeeper run`")
    return the_grant, None


def revoke(the_rules: Rules, state_dir: Path, source: Source, name: str | None) -> tuple[Outcome, list[Grant]]:
    """End the grants that lie in a source; return what became of it, and the grants that still cover it.

    Raises:
        UsageError: there is no such service.
    """
    services = None if name is None else (_service(the_rules, name).name,)
    now = time.time()
    with _enforcer(the_rules, state_dir, source) as enforcer:
        effect = Revoke(source, None, services, limit=_REVOKED_AT_ONCE)
        try:
            parts = list(_in_parts(enforcer, effect, now))
            swept = enforcer.sweep(effect, now=now)
            errors = [words for words in (*(one.error for one in parts), swept) if words]
            outcome = Outcome(
                ended=tuple(grant for one in parts for grant in one.ended),
                cut=sum(one.cut for one in parts),
                error="; ".join(dict.fromkeys(errors)) or None,
            )
        except StoreError as error:
            failed = enforcer.close_unsaved(effect, now=now).error
            closed = (
                "closed in the kernel, but a restart would open it again" if failed is None else f"not closed: {failed}"
            )
            words = f"{closed}: {error.message}"
            raise StoreError(words, error.hint) from error
    with contextlib.closing(SqliteStore(state_dir, is_checked=False)) as store:
        covering = [
            one
            for one in store.touching(source, now=now)
            if (services is None or one.service in services) and lies_in(source, one.source)
        ]
    return outcome, covering


def _in_parts(enforcer: Enforcer, effect: Revoke, now: float) -> Iterator[Outcome]:
    """Carry a revoke out; between two parts whoever knocks has a turn."""
    number, done = len(enforcer.allowlist), 0
    with progress.shown("revoking") as tell:
        while True:
            (outcome,) = enforcer.carry_out([effect], now=now)
            yield outcome
            done += len(outcome.ended)
            if effect.limit is None or len(outcome.ended) < effect.limit:
                return
            tell(min(done / number, 1.0) if number else 1.0)
            time.sleep(_TURN)


def reset_floor(the_rules: Rules, state_dir: Path, name: str) -> int:
    """Set back the replay floors of a client that are ahead of the clock; return how many were.

    Raises:
        UsageError: there is no such client, or too much was accepted ahead of the clock to remember it all.
    """
    # Imported here, for the formats take as long to import as other commands take.
    from gatekeeper.knocks import stamp_keys  # noqa: PLC0415

    if name not in the_rules.clients:
        raise UsageError(f"there is no client {name!a}", did_you_mean(name, tuple(the_rules.clients)))
    now, who = time.time(), f"by {hand.whose()}"
    store = SqliteStore(state_dir, create=False, is_checked=False, trail_of=Trail(the_rules.trail))
    with contextlib.closing(store):
        lowered, stuck = store.lower_floors(stamp_keys(the_rules.clients[name]), now=now)
        if lowered:
            store.add_counts({}, [TrailEntry(now, "floor-reset", name, note=who)], now=now)
    if stuck:
        words = (
            f"of {stuck} of {name}'s keys so many knocks were accepted ahead of the clock that not all are remembered"
        )
        raise UsageError(words, "give the client a new key: what was recorded then could open again")
    return lowered


def invite(the_rules: Rules, state_dir: Path, name: str, services: list[str] | None, host: str) -> Invite:
    """Put together what a new client needs to know.

    Raises:
        UsageError: a service or the host cannot be; or no service was named, and the client is not in the rules.
        KeyFileError: this server has no key yet.
    """
    client = the_rules.clients.get(name)
    named = tuple(services or (client.services if client else ()))
    if not named:
        raise UsageError(
            f"which services may {name!a} open?", "name them with --service, or add the client to the rules"
        )
    try:
        return Invite(
            host=check_host(host),
            port=next(iter(the_rules.knock_ports), DEFAULT_PORT),
            client=check_client(name),
            server_key=serverkeys.current(the_rules, state_dir),
            services=tuple(_service(the_rules, one).name for one in named),
            ack=the_rules.ack,
            bind=client is not None and client.must_bind,
            via="udp" if Via.UDP in the_rules.via else min(the_rules.via),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


@contextlib.contextmanager
def _enforcer(the_rules: Rules, state_dir: Path, source: Source) -> Iterator[Enforcer]:
    trail = Trail(the_rules.trail, who=hand.whose())
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(contextlib.closing(SqliteStore(state_dir, is_checked=False, trail_of=trail)))
        backend = stack.enter_context(contextlib.closing(backends.attach(the_rules)))
        lock = stack.enter_context(contextlib.closing(ChangeLock(state_dir)))
        enforcer = Enforcer(the_rules, store, backend, lock=lock)
        enforcer.load(source, now=time.time())
        yield enforcer


def _service(the_rules: Rules, name: str) -> Service:
    if name not in the_rules.services:
        raise UsageError(f"there is no service {name!a}", did_you_mean(name, tuple(the_rules.services)))
    return the_rules.services[name]


def _ttl(service: Service, text: str | None) -> int | None:
    if text is None:
        return service.ttl
    try:
        seconds = duration.parse(text)
    except ValueError as error:
        raise UsageError(f"--ttl: {error}", duration.HINT) from None
    if service.max_ttl is not None and (seconds is None or seconds > service.max_ttl):
        longest = duration.show(service.max_ttl)
        raise UsageError(f"--ttl {text} is longer than max_ttl of {service.name} ({longest})", "ask for less")
    return seconds
