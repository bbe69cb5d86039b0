"""Lets nobody be locked out by the very start that closes a port.

- The session from which ``run`` is started: its address gets a grant by hand for an hour, if it has none that lasts so
  long (``--no-grant-me``: none).
- Connections that are open when a port is guarded for the first time live on (firewall/adopt.py). Where a service keeps
  no connection without a grant (``established: cut``), its peers get a grant by hand, for its ttl, at most an hour.

Peers are looked for before the ruleset is loaded, and granted when the store is there. In between their packets may be
dropped for some 100 ms, which TCP sends again. What only observes locks nobody out.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from gatekeeper import observe, sessions
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import FirewallError, GatekeeperError
from gatekeeper.firewall.adopt import Adoption, Peer, adopting, connections
from gatekeeper.model import BY_HAND, Admit, Grant, Outcome
from gatekeeper.networks import Source, covers, host, is_unicast, lies_in, show_source
from gatekeeper.settings import Guard, Mode, Rules

GRANTED = "granted-at-start"
"""The name of such a change."""
Note = Callable[[str, Outcome, float], object]
_HOUR = 3600
_MOST = 100
"""Peers that are granted what they had open: an address each, so that a crowd of scanners does not move in."""


class Present:
    """Who was connected when the ruleset was loaded."""

    def __init__(self, me: Sequence[Peer], adoption: Adoption) -> None:
        self._me = me
        self._adoption = adoption
        self.warnings = adoption.warnings

    def let_in(self, enforcer: Enforcer, note: Note = lambda *_: None) -> None:
        """Give the grants that are needed, and say so in the log; ``note`` is told of them as well."""
        now = time.time()
        mine = missing([one for one in self._me if _can_have(one)], enforcer.allowlist, now=now)
        why = "run was started from a session from there (--no-grant-me does without)"
        note(GRANTED, _give(enforcer, mine, now, why=why), now)
        if self._adoption.kept:
            words = f"open connections that live on without a grant: {self._adoption.kept}"
            observe.message(f"{words}; `gatekeeper revoke ADDRESS` ends those of an address")
        try:
            peers = [one for one in self._adoption.fleeting() if is_unicast(one.address)]
        except FirewallError as error:
            observe.message(f"who is connected is cut off: {error.message}", level=logging.WARNING)
            return
        theirs = missing(peers, enforcer.allowlist, now=now, at_most_ttl=True)
        why = "it is connected, and without a grant it would be cut off"
        note(GRANTED, _give(enforcer, theirs[:_MOST], now, why=why), now)
        if len(theirs) > _MOST:
            words = f"{len(theirs) - _MOST} more addresses are connected, got no grant, and are cut off"
            observe.message(f"{words}: `gatekeeper grant` lets them in", level=logging.WARNING)


@contextlib.contextmanager
def looking(rules: Rules, *, grant_me: bool, before: Rules | None = None) -> Iterator[Present]:
    """Look who is connected, around the load of the ruleset. ``before``: the rules in force, if that is known."""
    me = own_sessions(rules) if grant_me and rules.mode is Mode.GUARD else []
    with adopting(rules, before) as adoption:
        present = Present(me, adoption)
        yield present


def missing(peers: Iterable[Peer], live: Iterable[Grant], *, now: float, at_most_ttl: bool = False) -> list[Grant]:
    """List the grants that peers lack: for an hour, or what the service's ``max_ttl`` (and ``ttl``) allows."""
    there = list(live)
    found: dict[tuple[Source, str], Grant] = {}
    for service, address in peers:
        limits = (service.max_ttl, service.ttl if at_most_ttl else None)
        until = now + min([_HOUR, *(one for one in limits if one is not None)])
        has_one = any(
            one.service == service.name
            and lies_in(host(address), one.source)
            and (one.expires_at is None or one.expires_at >= until)
            for one in there
        )
        if not has_one and not covers(service.always, address):
            found[host(address), service.name] = Grant(host(address), service.name, BY_HAND, until)
    return list(found.values())


def own_sessions(rules: Rules) -> list[Peer]:
    """Say by which connections, of services of the rules, this process was started; mostly one, or none."""
    try:
        live = {
            one.inode: (one.connection, service)
            for service in rules.services.values()
            if service.guard is not Guard.FORWARD
            for one in connections(service)
            if one.is_established
        }
    except FirewallError as error:
        observe.message(f"the session that this is started from could end: {error.message}", level=logging.WARNING)
        return []
    services = dict(live.values())
    mine = sessions.of_this_process({inode: connection for inode, (connection, _) in live.items()})
    return [Peer(services[one], one.peer) for one in mine]


def _can_have(one: Peer) -> bool:
    if covers(one.service.never, one.address):
        why = "the rules never let it in"
    elif not is_unicast(one.address):
        why = "it means something on one link only"
    else:
        return True
    words = f"this session comes from {one.address}, which gets no grant for {one.service.name}, for {why}"
    observe.message(f"{words}: have another way in", level=logging.WARNING)
    return False


def _give(enforcer: Enforcer, grants: Sequence[Grant], now: float, *, why: str) -> Outcome:
    if not grants:
        return Outcome()
    try:
        (outcome,) = enforcer.carry_out([Admit(tuple(grants))], now=now)
    except GatekeeperError as error:  # no reason not to guard: what is open lives on, or the port was closed before
        observe.message(f"who is connected could not be granted: {error.message}", level=logging.ERROR)
        return Outcome(error=error.message)
    if outcome.error is not None:
        observe.event("not-applied", {"error": outcome.error}, level=logging.ERROR)
    for grant in outcome.admitted:
        source = show_source(grant.source)
        until = datetime.fromtimestamp(grant.expires_at or 0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        undo = f"`gatekeeper revoke {source} {grant.service}` takes it back"
        observe.message(f"granted {grant.service} to {source} until {until}, for {why}; {undo}")
    return outcome
