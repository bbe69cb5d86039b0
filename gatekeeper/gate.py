"""The gate: says, for one packet, what becomes of it and why. The heart of gatekeeper.

Pure: it reads the allowlist and decides; it changes nothing. The checks, in their order, with the
attack that each stops:

1. Headers that can be read: a truncated or malformed packet is dropped before anything looks further.
2. A fragment is nobody's first packet: the kernel reassembles before it asks us, so one that arrives
   here is out of place.
3. The knock port: a payload that no enabled format takes for a candidate is junk, and costs
   microseconds; Scapy sees only candidates.
4. The checksum: over IPv6 nothing else protects the source address that the grant would be for.
5. A link-local sender: the kernel's sets know no interfaces, so its grant would also be its namesake's
   on every other link.
6. The key, in constant time; then the service: a client opens and closes what is its own.
7. A protected port: a source with a live grant is given back to the kernel's rules (a grant may have
   landed since they looked); a first packet of any other source is held a little, for its knock
   may be overtaking or behind it; everything else is dropped.
8. Anything else was not meant for us, and is dropped: a rule that queues too much must not open.

No verdict lets a packet in: the kernel's own rules do, once the grant is in its set. So a gate whose
allowlist is out of date can delay a packet, but never admit one.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatekeeper.allowlist import Allowlist
from gatekeeper.model import (
    Action,
    Admit,
    Datagram,
    Decision,
    Grant,
    Knock,
    KnockFormat,
    Reason,
    Refusal,
    Revoke,
    Rules,
    Verdict,
    host,
)
from gatekeeper.packet import UDP, Header, dissect, triage

_DROPS = {reason: Decision(Verdict.DROP, reason) for reason in Reason}
_GRANTED = Decision(Verdict.REPEAT, Reason.GRANTED)
_HELD = Decision(Verdict.HOLD, Reason.NO_GRANT)


class Gate:
    """Decides about packets by the rules and the allowlist."""

    def __init__(self, rules: Rules, formats: Sequence[KnockFormat], allowlist: Allowlist) -> None:
        self._rules = rules
        self._formats = formats
        self._allowlist = allowlist
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
        payload = raw[header.start : header.end]
        if not any(form.is_candidate(payload) for form in self._formats):
            return _DROPS[Reason.UNKNOWN_KEY]
        datagram = dissect(raw, header)
        if datagram is None:
            return _DROPS[Reason.MALFORMED]
        return self.judge(datagram, now=now)

    def judge(self, datagram: Datagram, *, now: float) -> Decision:
        """Decide about a datagram to the knock port (what ``run --dry-run`` asks directly)."""
        if not datagram.checksum_ok:
            return _DROPS[Reason.BAD_CHECKSUM]
        if datagram.source.is_link_local:
            return _DROPS[Reason.LINK_LOCAL]
        for form in self._formats:
            match form.open(datagram, now=now):
                case Knock() as knock:
                    return self._decide(knock, datagram, now)
                case Refusal(reason, client):
                    return Decision(Verdict.DROP, reason, client=client)
                case None:
                    continue
        return _DROPS[Reason.UNKNOWN_KEY]

    def _decide(self, knock: Knock, datagram: Datagram, now: float) -> Decision:
        source = host(datagram.source)
        allowed = self._rules.clients[knock.client].services
        services = knock.services or allowed
        if knock.action is Action.CLOSE:
            close = Revoke(source, knock.client, services)
            return Decision(Verdict.DROP, Reason.CLOSED, close, knock.client)
        grants = tuple(
            Grant(source, name, knock.client, _deadline(self._rules.services[name].ttl, now)) for name in services
        )
        return Decision(Verdict.DROP, Reason.OPENED, Admit(grants), knock.client)


def _deadline(ttl: int | None, now: float) -> float | None:
    return None if ttl is None else now + ttl
