"""The gate: says, for one packet, what becomes of it and why. The heart of gatekeeper.

Pure: it reads the allowlist and decides; it changes nothing but its memory of what knocks were spent.
The checks, in their order, with the attack that each stops:

1. Headers that can be read: a truncated or malformed packet is dropped before anything looks further.
2. A fragment is nobody's first packet: the kernel reassembles before it asks us, so one that arrives
   here is out of place.
3. The knock port: a payload that no enabled format takes for a candidate is junk, and costs
   microseconds; Scapy sees only candidates.
4. The checksum: over IPv6 nothing else protects the source address that the grant would be for.
5. A link-local sender: the kernel's sets know no interfaces, so its grant would also be its namesake's
   on every other link.
6. The key or the seal, in constant time: from here on we know which client it is. Then, for every format
   alike: the client's last day; the clock and the replay floor, where a format has them (a recorded knock
   counts once, from whatever address); the networks that the client may come from, and the address that
   the knock is bound to (a knock that was held back is of no use elsewhere); and its services. A
   knock that is refused here uses nothing up.
7. A protected port: a source with a live grant is given back to the kernel's rules (a grant may have
   landed since they looked); a first packet of any other source is held a little, for its knock
   may be overtaking or behind it; everything else is dropped.
8. Anything else was not meant for us, and is dropped: a rule that queues too much must not open.

No verdict lets a packet in: the kernel's own rules do, once the grant is in its set. So a gate whose
allowlist is out of date can delay a packet, but never admit one.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from gatekeeper.allowlist import Allowlist
from gatekeeper.model import (
    Action,
    Admit,
    Answer,
    Client,
    Datagram,
    Decision,
    Effect,
    Grant,
    Knock,
    Reason,
    Refusal,
    Revoke,
    Rules,
    Service,
    Verdict,
)
from gatekeeper.networks import Address, covers, host
from gatekeeper.packet import UDP, Header, dissect, triage
from gatekeeper.protocols import KnockFormat, Replays

_LONGEST_TTL = 0xFFFF_FFFE
"""Seconds: what an answer can say."""
_DROPS = {reason: Decision(Verdict.DROP, reason) for reason in Reason}
_GRANTED = Decision(Verdict.REPEAT, Reason.GRANTED)
_HELD = Decision(Verdict.HOLD, Reason.NO_GRANT)


class Gate:
    """Decides about packets by the rules and the allowlist."""

    def __init__(self, rules: Rules, formats: Sequence[KnockFormat], allowlist: Allowlist, *, replays: Replays) -> None:
        self._rules = rules
        self._formats = formats
        self._allowlist = allowlist
        self._replays = replays
        self._services = {(service.transport.number, service.port): service.name for service in rules.services.values()}

    def inspect(self, raw: bytes, *, now: float) -> Decision:
        """Decide about one IP packet. Never raises, whatever the bytes."""
        header = triage(raw)
        if isinstance(header, Reason):
            return _DROPS[header]
        if header.protocol == UDP and header.destination_port == self._rules.knock_port:
            return self._knock(raw, header, now)
        service = self._services.get((header.protocol, header.destination_port))
        if service is None:
            return _DROPS[Reason.NOT_GUARDED]
        if self._allowlist.covers(header.source, service, now=now):
            return _GRANTED
        return _HELD if header.opens_flow else _DROPS[Reason.NO_GRANT_MIDSTREAM]

    def _knock(self, raw: bytes, header: Header, now: float) -> Decision:
        found = self._glance(raw[header.start : header.end], header.source, now)
        if isinstance(found, Decision):
            return found
        datagram = dissect(raw, header)
        if datagram is None:
            return _DROPS[Reason.MALFORMED]
        return self._judge(datagram, found, now)

    def judge(self, datagram: Datagram, *, now: float) -> Decision:
        """Decide about a datagram to the knock port (what ``run --dry-run`` asks directly)."""
        found = self._glance(datagram.payload, datagram.source.packed, now)
        return found if isinstance(found, Decision) else self._judge(datagram, found, now)

    def _glance(self, payload: bytes, source: bytes, now: float) -> KnockFormat | Decision:
        """Find the format that a payload is of, or what speaks against it already."""
        for form in self._formats:
            found = form.glance(payload, now=now)
            if found is True:
                return form
            if isinstance(found, Knock):
                refusal = self._refusal(found, self._rules.clients[found.client], ip_address(source), now)
                return form if refusal is None else _refused(refusal)
            if found is not False:
                return _refused(found)
        return _DROPS[Reason.UNKNOWN_KEY]

    def _judge(self, datagram: Datagram, form: KnockFormat, now: float) -> Decision:
        if not datagram.checksum_ok:
            return _DROPS[Reason.BAD_CHECKSUM]
        if datagram.source.is_link_local:
            return _DROPS[Reason.LINK_LOCAL]
        knock = form.open(datagram, now=now)
        if isinstance(knock, Refusal):
            return _refused(knock)
        client = self._rules.clients[knock.client]
        refusal = self._refusal(knock, client, datagram.source, now)
        if refusal is not None:
            return _refused(refusal)
        if knock.stamp is not None:
            self._replays.spend(knock.stamp, knock.action)
        return self._decide(knock, client, datagram, now)

    def _refusal(self, knock: Knock, client: Client, source: Address, now: float) -> Refusal | None:
        """Say what speaks against a knock whose sender we know."""
        if client.not_after is not None and now >= client.not_after:
            return Refusal(Reason.CLIENT_EXPIRED, client.name)
        if knock.stamp is not None:
            ahead = knock.stamp.sent_at / 1e9 - now
            if abs(ahead) > self._rules.skew:
                note = f"sent {abs(ahead):.0f}s {'ahead of' if ahead > 0 else 'behind'} this clock"
                return Refusal(Reason.CLOCK_SKEW, client.name, note)
            reason = self._replays.refusal(knock.stamp, knock.action, now=now)
            if reason is not None:
                return Refusal(reason, client.name)
        misplaced = _misplaced(knock, client, source)
        if misplaced is not None:
            named = None if knock.address is None else f"it names {knock.address}"
            return Refusal(misplaced, client.name, named)
        if not set(knock.services) <= set(client.services):
            return Refusal(Reason.SERVICE_NOT_ALLOWED, client.name)
        return None

    def _decide(self, knock: Knock, client: Client, datagram: Datagram, now: float) -> Decision:
        source = host(knock.address or datagram.source)
        services = knock.services or client.services
        effect: Effect
        ttl: int | None = 0
        if knock.action is Action.CLOSE:
            reason, effect = Reason.CLOSED, Revoke(source, client.name, services, knock.stamp)
        else:
            seconds = {name: _seconds(self._rules.services[name], client, knock.ttl) for name in services}
            grants = tuple(
                Grant(source, name, client.name, _deadline(left, client, now)) for name, left in seconds.items()
            )
            reason, effect = Reason.OPENED, Admit(grants, knock.stamp)
            ends = [grant.expires_at for grant in grants if grant.expires_at is not None]
            ttl = min(round(min(ends) - now), _LONGEST_TTL) if ends else None
        answer = None
        if self._rules.acknowledge and (write := knock.answer) is not None:
            answer = Answer(datagram, lambda ephemeral: write(knock.action, ttl, ephemeral))
        return Decision(Verdict.DROP, reason, effect, client.name, answer=answer)


def _refused(refusal: Refusal) -> Decision:
    if refusal.client is None and refusal.note is None:
        return _DROPS[refusal.reason]
    return Decision(Verdict.DROP, refusal.reason, client=refusal.client, note=refusal.note)


def _misplaced(knock: Knock, client: Client, source: Address) -> Reason | None:
    """Say what is wrong with where a knock comes from, and with whom it is for."""
    if client.sources and not covers(client.sources, source):
        return Reason.SOURCE_NOT_ALLOWED
    if knock.address is None:
        return Reason.ADDRESS_MISSING if client.must_bind else None
    if knock.address == source:
        return None
    if not client.for_others:
        return Reason.ADDRESS_MISMATCH
    return None if _is_unicast(knock.address) else Reason.BAD_ADDRESS


def _is_unicast(address: Address) -> bool:
    """Whether an address can be somebody's, anywhere but on one link or on one machine."""
    return not (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or (isinstance(address, IPv6Address) and address.ipv4_mapped is not None)
        or int(address) == 0xFFFF_FFFF
    )


def _seconds(service: Service, client: Client, asked: int | None) -> int | None:
    """Return for how long a knock opens: what it asks for, if that is not more than the rules allow."""
    own = service.ttl if client.ttl == 0 else client.ttl
    longest = own if service.max_ttl is None else service.max_ttl
    wanted = own if asked == 0 else asked
    if wanted is None or longest is None:
        return longest if wanted is None else wanted
    return min(wanted, longest)


def _deadline(ttl: int | None, client: Client, now: float) -> float | None:
    if ttl is None:
        return client.not_after
    return now + ttl if client.not_after is None else min(now + ttl, client.not_after)
