"""The gate: says, for one packet, what becomes of it and why. The heart of gatekeeper.

Pure: it reads the allowlist and decides; it changes nothing but its memory of what knocks were spent.
The checks, in their order, with the attack that each stops:

1. Headers that can be read: a truncated or malformed packet is dropped before anything looks further.
2. A fragment is nobody's first packet: the kernel reassembles before it asks us, so one that arrives
   here is out of place.
3. The knock port: a payload that no enabled format takes for a candidate is junk, and costs
   microseconds; Scapy sees only candidates.
   An echo request, and a SYN that bears data, are looked at in the same way, where the rules say that
   knocks may travel so. The echo request goes on whatever it bears; the SYN then is a packet as any other.
4. The checksum: over IPv6 nothing else protects the source address that the grant would be for.
5. A link-local sender: the kernel's sets know no interfaces, so its grant would also be its namesake's
   on every other link.
6. The key or the seal, in constant time: from here on we know which client it is. Then, for every format
   alike: the client's last day; the clock and the replay floor, where a format has them (a recorded knock
   counts once, from whatever address); the networks that the client may come from, and the address that
   the knock is bound to (a knock that was held back is of no use elsewhere); its services; and the hours
   and networks at which they may be opened. A knock that is refused here uses nothing up.
7. A protected port: who is never let in is dropped (if the kernel has not done so); a source with a live
   grant is given back to the kernel's rules (a grant may have landed since they looked); a first packet of
   any other source is held a little, for its knock may be overtaking or behind it; everything else is dropped.
   Where the port is not served by this machine's own sockets, only a SYN is a way in to TCP: a stream that was cut
   has no socket here that could have been destroyed, and would go on under a later grant.
8. A port that some format listens to: the packet goes on, whatever it was; if it completes a knock, that is judged as
   any other.
9. Anything else was not meant for us, and is dropped: a rule that queues too much must not open.

No verdict lets a packet in: the kernel's own rules do, once the grant is in its set. So a gate whose
allowlist is out of date can delay a packet, but never admit one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from gatekeeper import terms
from gatekeeper.allowlist import Allowlist
from gatekeeper.echo import MAX_DATA, readings
from gatekeeper.guarded import Guarded
from gatekeeper.model import (
    Action,
    Admit,
    Answer,
    Datagram,
    Decision,
    Effect,
    Grant,
    Hit,
    Knock,
    Reason,
    Refusal,
    Revoke,
    Verdict,
)
from gatekeeper.networks import Address, Networks, covers, host, is_unicast
from gatekeeper.packet import ECHOES, TCP, UDP, Header, dissect, tcp_flags, triage
from gatekeeper.protocols import KnockFormat, ListensToPorts, Replays
from gatekeeper.settings import Client, Guard, Rules, Service, Via

_LONGEST_TTL = 0xFFFF_FFFE
"""Seconds: what an answer can say."""
_DROPS = {reason: Decision(Verdict.DROP, reason) for reason in Reason}
_GRANTED = Decision(Verdict.REPEAT, Reason.GRANTED)
_HELD = Decision(Verdict.HOLD, Reason.NO_GRANT)
_ECHO = Decision(Verdict.ACCEPT, Reason.ECHO)
_STEP = Decision(Verdict.ACCEPT, Reason.STEP)


class Gate:
    """Decides about packets by the rules and the allowlist."""

    def __init__(self, rules: Rules, formats: Sequence[KnockFormat], allowlist: Allowlist, *, replays: Replays) -> None:
        self._rules = rules
        self._formats = formats
        self._allowlist = allowlist
        self._replays = replays
        self._guarded = Guarded(rules.services.values())
        self._never = Networks(rules.never)
        self._always_of = {name: Networks(one.always) for name, one in rules.services.items() if one.always}
        self._never_of = {name: Networks(one.never) for name, one in rules.services.items() if one.never}
        self._knock_ports = frozenset(rules.knock_ports if Via.UDP in rules.via else ())
        self._by_echo, self._by_syn = Via.ICMP in rules.via, Via.SYN in rules.via
        self._listeners = [form for form in formats if isinstance(form, ListensToPorts)]
        self._listened = frozenset(place for form in self._listeners for place in form.listens)

    def inspect(self, raw: bytes, *, now: float, is_back: bool = False) -> Decision:
        """Decide about one IP packet. Never raises, whatever the bytes.

        ``is_back``: it was looked at as a knock, and given back to the kernel's rules, before.
        """
        header = triage(raw)
        if isinstance(header, Reason):
            return _DROPS[header]
        if header.protocol == UDP and header.destination_port in self._knock_ports:
            return self._knock(raw, header, raw[header.start : header.end], now)
        if header.protocol in ECHOES:
            return self._echo(raw, header, now) if self._by_echo else _DROPS[Reason.NOT_GUARDED]
        service = self._guarded.by(header.protocol, header.destination_port, header.destination)
        if service is None:
            is_heard = (header.protocol, header.destination_port) in self._listened
            return self._step(raw, header, now) if is_heard else _DROPS[Reason.NOT_GUARDED]
        if self._by_syn and not is_back and header.opens_flow and header.protocol == TCP and header.start < header.end:
            return self._syn(raw, header, service, now)
        return self._packet(header, service, now)

    def _packet(self, header: Header, service: Service, now: float) -> Decision:
        """Decide about a packet to a protected port."""
        never, always = self._never_of.get(service.name), self._always_of.get(service.name)
        if never is not None and never.has(header.source):
            return _DROPS[Reason.NEVER]
        if service.guard is not Guard.INPUT and header.protocol == TCP and not header.opens_flow:
            return _DROPS[Reason.NO_GRANT_MIDSTREAM]  # whatever is granted: the kernel does not let it in either
        if self._allowlist.covers(header.source, service.name, now=now):
            return _GRANTED
        if always is not None and always.has(header.source):  # a SYN with data, which the kernel has not let in at once
            return _GRANTED
        return _HELD if header.opens_flow else _DROPS[Reason.NO_GRANT_MIDSTREAM]

    def _echo(self, raw: bytes, header: Header, now: float) -> Decision:
        """Decide about an echo request: whatever it bears, it goes on, and is answered like any other."""
        if header.end - header.start > MAX_DATA:
            return _ECHO
        for payload in readings(raw[header.start : header.end]):
            decision = self._knock(raw, header, payload, now)
            if decision.reason is not Reason.UNKNOWN_KEY:
                return replace(decision, verdict=Verdict.ACCEPT)
        return _ECHO

    def _syn(self, raw: bytes, header: Header, service: Service, now: float) -> Decision:
        """Decide about a SYN with data: when its knock is carried out it is given back, as any first packet."""
        decision = self._knock(raw, header, raw[header.start : header.end], now)
        if decision.effect is not None:  # behind a close there is nothing to go on to
            return replace(decision, verdict=Verdict.REPEAT) if isinstance(decision.effect, Admit) else decision
        usual = self._packet(header, service, now)
        return usual if usual is _GRANTED or decision.reason is Reason.UNKNOWN_KEY else decision

    def _step(self, raw: bytes, header: Header, now: float) -> Decision:
        """Decide about a packet to a port that formats listen to: it goes on, and may have completed a knock."""
        flags = tcp_flags(raw, header) if header.protocol == TCP else 0
        hit = Hit(header.source, header.protocol, header.destination_port, flags)
        found = [heard for form in self._listeners if (heard := form.hear(hit, now=now)) is not None]
        datagram = dissect(raw, header) if found else None
        if datagram is None:
            return _STEP
        unfit = _unfit(datagram)
        decision = self._weigh(found[0], datagram, now) if unfit is None else _DROPS[unfit]
        return replace(decision, verdict=Verdict.ACCEPT)

    def _knock(self, raw: bytes, header: Header, payload: bytes, now: float) -> Decision:
        found = self._glance(payload, header.source, now)
        if isinstance(found, Decision):
            return found
        datagram = dissect(raw, header)
        if datagram is None:
            return _DROPS[Reason.MALFORMED]
        return self._judge(replace(datagram, payload=payload), found, now)

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
        unfit = _unfit(datagram)
        return self._weigh(form.open(datagram, now=now), datagram, now) if unfit is None else _DROPS[unfit]

    def _weigh(self, knock: Knock | Refusal, datagram: Datagram, now: float) -> Decision:
        """Decide about what a format has read."""
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
        stale = self._staleness(knock, now)
        if stale is not None:
            return stale
        misplaced = _misplaced(knock, client, source)
        if misplaced is None and self._never.has(source.packed):
            misplaced = Reason.NEVER
        if misplaced is not None:
            named = None if knock.address is None else f"it names {knock.address}"
            return Refusal(misplaced, client.name, named)
        if not set(knock.services) <= set(client.services):
            return Refusal(Reason.SERVICE_NOT_ALLOWED, client.name)
        reason = self._openable(knock, client, source, now)[1] if knock.action is Action.OPEN else None
        return None if reason is None else Refusal(reason, client.name)

    def _staleness(self, knock: Knock, now: float) -> Refusal | None:
        """Say what speaks against the time of a knock."""
        if knock.stamp is None:
            return None
        ahead = knock.stamp.sent_at / 1e9 - now
        if abs(ahead) > self._rules.skew and not knock.stamp.once:
            note = f"sent {abs(ahead):.0f}s {'ahead of' if ahead > 0 else 'behind'} this clock"
            return Refusal(Reason.CLOCK_SKEW, knock.client, note)
        reason = self._replays.refusal(knock.stamp, knock.action, now=now)
        return None if reason is None else Refusal(reason, knock.client)

    def _openable(
        self, knock: Knock, client: Client, source: Address, now: float
    ) -> tuple[dict[str, float], Reason | None]:
        """Tell which services a knock opens and until when at the latest; or why none of them."""
        address = knock.address or source
        names = knock.services or client.services
        banned = [name for name, never in self._never_of.items() if never.has(address.packed)]
        wanted = tuple(name for name in names if name not in banned)
        ends = terms.open_for(self._rules, client, wanted, now=now)
        reason = None if ends else Reason.OUTSIDE_HOURS if wanted else Reason.NEVER
        return ends, reason

    def _decide(self, knock: Knock, client: Client, datagram: Datagram, now: float) -> Decision:
        is_for_sender = knock.address in {None, datagram.source}
        address = knock.address or datagram.source
        source = terms.source_around(client, address) if is_for_sender else host(address)
        effect: Effect
        ttl: int | None = 0
        if knock.action is Action.CLOSE:
            reason, effect = Reason.CLOSED, Revoke(source, client.name, knock.services or client.services, knock.stamp)
        else:
            ends, _ = self._openable(knock, client, datagram.source, now)
            asked = {name: terms.seconds(self._rules.services[name], client, knock.ttl) for name in ends}
            grants = tuple(
                Grant(source, name, client.name, terms.deadline(asked[name], last, now=now))
                for name, last in ends.items()
            )
            reason, effect = Reason.OPENED, Admit(grants, knock.stamp)
            deadlines = [grant.expires_at for grant in grants if grant.expires_at is not None]
            ttl = min(math.ceil(min(deadlines) - now), _LONGEST_TTL) if deadlines else None
        answer = None
        if self._rules.ack and datagram.via is Via.UDP and (write := knock.answer) is not None:
            answer = Answer(datagram, lambda ephemeral: write(knock.action, ttl, ephemeral))
        return Decision(Verdict.DROP, reason, effect, client.name, answer=answer)


def _refused(refusal: Refusal) -> Decision:
    if refusal.client is None and refusal.note is None:
        return _DROPS[refusal.reason]
    return Decision(Verdict.DROP, refusal.reason, client=refusal.client, note=refusal.note)


def _unfit(datagram: Datagram) -> Reason | None:
    """Say why a datagram is nobody's knock, whatever it says."""
    if not datagram.checksum_ok:
        return Reason.BAD_CHECKSUM
    return Reason.LINK_LOCAL if datagram.source.is_link_local else None


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
    return None if is_unicast(knock.address) else Reason.BAD_ADDRESS
