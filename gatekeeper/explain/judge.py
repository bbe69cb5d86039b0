"""Asks the gate about each packet of a capture, as of the time at which it was captured. Pure.

What knocks open and close takes effect for the packets behind them, in memory, and ends by the capture's clock. Besides
the gate it has what happens around it on a live machine, so that the answers are those of its log:

- a first packet is held for as long as a worker holds it: its knock may come behind it. Answers come in the order of
  the packets all the same, so they wait for that;
- what the kernel drops before anybody is asked is called so (``no-tag``);
- a connection that was let in lives on (the kernel marks its flow), until it is cut.

What depends on how much comes at once (too many strangers, an overload) is not judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from math import inf

from gatekeeper import reasons
from gatekeeper.allowlist import Allowlist
from gatekeeper.explain.flows import Flows, flow_of
from gatekeeper.explain.frames import Captured, Frame, unwrap
from gatekeeper.explain.offload import finished
from gatekeeper.gate import Gate
from gatekeeper.guarded import Guarded
from gatekeeper.holds import GIVE_BACK_AFTER
from gatekeeper.model import Admit, Decision, Effect, Grant, Reason, Tags, Verdict
from gatekeeper.packet import TCP, UDP, Header, triage
from gatekeeper.protocols import KnockFormat
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed.wire import SIZE
from gatekeeper.settings import Mode, Refuse, Rules, Service, Transport, Via

_MOST_WAITING = 4096
"""Answers that wait for one before them; beyond it, that one is judged early."""
_LONGEST = 65_535 + 40
_TAG = 4
_UNSEEN = frozenset(
    {Reason.NO_GRANT, Reason.NO_GRANT_MIDSTREAM, Reason.GRANTED, Reason.NOT_GUARDED, Reason.NEVER, Reason.STEP}
)
"""What the gate says without a look at the payload."""
_OPEN = "of a connection that was let in, and lives on"
_BEFORE = "if its connection was let in before the capture begins, it goes on"


@dataclass(slots=True)
class Judged:
    """What becomes of a packet, and why."""

    packet: Captured
    header: Header | None
    """``None``: it is no IP packet, or its headers cannot be read."""
    verdict: Verdict
    reason: str
    now: float
    """As of when it was judged: Unix seconds."""
    service: str | None = None
    """The one that it is for."""
    client: str | None = None
    note: str | None = None
    granted: tuple[Grant, ...] = ()
    """What its knock opens."""
    ended: tuple[Grant, ...] = ()
    """What its knock closes."""


@dataclass(slots=True)
class _Waiting:
    judged: Judged
    raw: bytes
    moment: float
    """When it was captured."""
    is_held: bool


class Judge:
    """Judges packets in the order in which they come."""

    def __init__(
        self, rules: Rules, formats: Sequence[KnockFormat], *, at: float | None = None, has_key: bool = True
    ) -> None:
        """``at``: the time for all packets. ``has_key``: whether we know the key that knocks are sealed for."""
        self._rules, self._formats = rules, formats
        self._at, self._has_key = at, has_key
        self._allowlist = Allowlist()
        self._gate = Gate(rules, formats, self._allowlist, replays=ReplayMemory(skew=rules.skew))
        self._guarded = Guarded(rules.services.values())
        self._tags = [Tags((), inf, inf)]  # none for any time yet
        self._flows = Flows()
        self._waiting: deque[_Waiting] = deque()
        self._clock = 0.0
        self._drops_by_tag = rules.mode is Mode.GUARD and rules.refuse is Refuse.SILENT and Via.UDP in rules.via

    def take(self, packet: Captured) -> Iterator[Judged]:
        """Take the next packet; yield the answers that are known now, in the order of their packets.

        Raises:
            ValueError: its link type is not known, or there is no time as of which it could be judged.
        """
        if packet.time is None and self._at is None:
            raise ValueError("no time, so there is none as of which it could be judged")
        self._clock = self._clock if packet.time is None else packet.time
        yield from self._settled()
        waiting = self._look(packet, self._clock if self._at is None else self._at)
        self._waiting.append(waiting)
        if not waiting.is_held or len(self._waiting) > _MOST_WAITING:
            yield from self._settled(at_once=len(self._waiting) > _MOST_WAITING)

    def finish(self) -> Iterator[Judged]:
        """Yield the answers that are still owed: nothing more comes."""
        while self._waiting:
            yield from self._settled(at_once=True)

    def _settled(self, *, at_once: bool = False) -> Iterator[Judged]:
        """Take out the answers that wait for nothing; ``at_once``: the first of them in any case."""
        while self._waiting:
            first = self._waiting[0]
            if first.is_held and not at_once and self._clock < first.moment + GIVE_BACK_AFTER[-1]:
                return
            at_once = False
            self._waiting.popleft()
            if first.is_held:
                self._give_up(first)
            yield first.judged

    # -- one packet

    def _look(self, packet: Captured, now: float) -> _Waiting:
        """Judge a packet, as far as that can be done without knowing what comes behind it."""
        frame = unwrap(packet.link, packet.data)
        raw = b"" if frame.packet is None else _whole(frame.packet, packet)
        header = triage(raw)
        found = None if isinstance(header, Reason) else header
        judged = Judged(packet, found, Verdict.ACCEPT, Reason.NOT_GUARDED, now)
        judged.note = _elsewhere(frame, found)
        is_held = False
        if judged.note is None:
            self._allowlist.end_due(now)
            for form in self._formats:
                form.renew(now=now, at_once=True)
            is_held = self._ask(judged, raw, len(frame.packet or b""))
        return _Waiting(judged, raw, self._clock, is_held)

    def _ask(self, judged: Judged, raw: bytes, captured: int) -> bool:
        """Ask the gate; return whether the packet is held."""
        decision, header = self._gate.inspect(raw, now=judged.now), judged.header
        if (
            decision.reason is Reason.BAD_CHECKSUM
            and header is not None
            and (whole := finished(raw, header)) is not None
        ):
            decision = self._gate.inspect(whole, now=judged.now)
        _fill(judged, decision)
        if header is None:
            return False
        service = self._guarded.by(header.protocol, header.destination_port, header.destination)
        judged.service = None if service is None else service.name
        if decision.reason is Reason.NOT_GUARDED:
            judged.verdict = Verdict.ACCEPT  # the kernel never asks about it
        elif decision.reason not in _UNSEEN and header.end > captured:
            _doubt(judged, reasons.CUT_OFF, f"{len(raw) - captured} of its bytes are not in the capture")
        elif decision.effect is not None:
            self._carry_out(judged, decision.effect)
        elif header.protocol == UDP and header.destination_port in self._rules.knock_ports:
            self._look_at_tag(judged, raw[header.start : header.end], decision)
        if service is not None:
            self._follow(judged, service, header)
        return judged.verdict is Verdict.HOLD

    def _give_up(self, held: _Waiting) -> None:
        """Judge once more what has had its time: its knock has come by now, or it is dropped."""
        judged = held.judged
        judged.now += GIVE_BACK_AFTER[-1]
        decision = self._gate.inspect(held.raw, now=judged.now, is_back=True)
        if decision.verdict is Verdict.HOLD:
            judged.verdict = Verdict.DROP
            return
        _fill(judged, decision)
        judged.note = "it was held until its knock came"
        service = self._rules.services.get(judged.service or "")
        if judged.header is not None and service is not None:
            self._follow(judged, service, judged.header)

    def _carry_out(self, judged: Judged, effect: Effect) -> None:
        """Open and close what a knock asks for."""
        if isinstance(effect, Admit):
            judged.granted = effect.grants
            for grant in effect.grants:
                self._allowlist.admit(grant)
            return
        judged.ended = tuple(self._allowlist.within(effect))
        for grant in judged.ended:
            self._allowlist.end(grant)
            is_open = partial(self._allowlist.covers, service=grant.service, now=judged.now)
            self._flows.cut(grant.service, grant.source, spare=is_open)

    def _follow(self, judged: Judged, service: Service, header: Header) -> None:
        """Note a connection that is let in; and what belongs to one goes on."""
        if header.protocol != TCP or not service.keeps(Transport.TCP):
            return
        flow = flow_of(service.name, header)
        if judged.verdict is Verdict.REPEAT and header.opens_flow:
            self._flows.let_in(flow)
        elif judged.reason == Reason.NO_GRANT_MIDSTREAM and (is_open := self._flows.is_open(flow)) is not False:
            judged.note = _BEFORE
            if is_open:
                judged.verdict, judged.reason, judged.note = Verdict.ACCEPT, Reason.GRANTED, _OPEN

    def _look_at_tag(self, judged: Judged, payload: bytes, decision: Decision) -> None:
        """Say of a knock that is refused what the kernel has to say first; and what we cannot know."""
        if not self._has_key and len(payload) == SIZE and decision.reason is Reason.UNKNOWN_KEY:
            _doubt(judged, reasons.NO_SERVER_KEY, None)
        elif self._drops_by_tag and not self._reaches_a_worker(payload, judged.now):
            judged.reason = reasons.NO_TAG
            judged.note = f"a worker would say {decision.reason}" + (f": {decision.note}" if decision.note else "")

    def _reaches_a_worker(self, payload: bytes, now: float) -> bool:
        """Whether the kernel would ask about a datagram to a knock port (``firewall/bounds.py``)."""
        if not all(tags.hold(now) for tags in self._tags):
            self._tags = [tags for form in self._formats if (tags := form.tags(now=now)) is not None]
        if any(payload[:_TAG] in tags.known for tags in self._tags):
            return True
        return any(shape.fits(payload) for shape in self._rules.untagged)


def _whole(packet: bytes, captured: Captured) -> bytes:
    """Return a packet at its whole length: zeros stand for what was not captured, as of most packets the payload is."""
    missing = captured.length - len(captured.data)
    return packet + bytes(max(0, min(missing, _LONGEST - len(packet))))


def _elsewhere(frame: Frame, header: Header | None) -> str | None:
    """Say why a packet never meets gatekeeper, whatever the rules say."""
    if frame.packet is None:
        return "not an IP packet"
    if frame.is_ours:
        return "sent by the machine where it was captured"
    if frame.is_local or (header is not None and ip_address(header.source).is_loopback):
        return "from the machine itself, which goes in and out as it likes"
    return None


def _fill(judged: Judged, decision: Decision) -> None:
    judged.verdict, judged.reason = decision.verdict, decision.reason
    judged.client, judged.note = decision.client, decision.note


def _doubt(judged: Judged, reason: str, note: str | None) -> None:
    """Take back what the gate said."""
    judged.reason, judged.client, judged.note = reason, None, note
