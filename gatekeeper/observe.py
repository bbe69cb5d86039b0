"""Decisions and outcomes as log lines and counters.

One line for each knock that a key opened and for each change of the grants. Strangers' packets are
counted always and logged at a bounded rate: a flood fills no disk. Values from outside are escaped.
The lines leave by a thread of their own, so that a terminal that is stopped (Ctrl-S) stops no packets.
"""

from __future__ import annotations

import logging
import logging.handlers
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from gatekeeper.budget import Budget
from gatekeeper.heavy import Heavy
from gatekeeper.model import Decision, Grant, Mended, Outcome, Reason, Repair, Revoke, Sender, TrailEntry
from gatekeeper.networks import show_source
from gatekeeper.packet import ECHOES, UDP, Header, sender, triage
from gatekeeper.problems import Problem

_LOG = logging.getLogger("gatekeeper")
_GRANTS_AT_ONCE = 100
_NOTED_AT_ONCE = 100


class Observer:
    """Counts everything, and logs what is worth a line."""

    def __init__(self, *, is_trial: bool = False, on_refused: Callable[[Decision, bytes], None] | None = None) -> None:
        """``is_trial``: what would be refused or cut is not; the words say so. ``on_refused`` is told of packets."""
        self._is_trial = is_trial
        self._on_refused = on_refused
        self._counts: Counter[str] = Counter()
        self._refused: Counter[Reason] = Counter()
        """The same, of packets: apart, so that nothing need be written for each one of a flood."""
        self._senders: Heavy[tuple[bytes, Reason]] = Heavy()
        # Two budgets, so that a flood of strangers does not hide why a client was refused.
        self._strangers, self._clients = Budget(), Budget()
        self._noted: list[TrailEntry] = []
        """Refusals of clients that we know, for the audit trail."""
        self.on_change: Callable[[str, Outcome, float], None] = lambda *_: None
        """Told of each change of the grants, by the name that the log has for it, and when it was."""

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        self._counts[name] += number

    def take_counts(self) -> dict[str, int]:
        """Return what was counted since this was last called."""
        taken, self._counts = self._counts, Counter()
        refused, self._refused = self._refused, Counter()
        for reason, number in refused.items():
            taken[f"{self._would}{reason}"] += number
        return dict(taken)

    def note(self, entries: Iterable[TrailEntry]) -> None:
        """Keep these for the trail, as far as there is room: a moment's worth."""
        self._noted += [*entries][: _NOTED_AT_ONCE - len(self._noted)]

    def take_noted(self) -> list[TrailEntry]:
        """Return what was kept since this was last called."""
        taken, self._noted = self._noted, []
        return taken

    def take_senders(self) -> dict[Sender, int]:
        """Return who was refused most, why and how often, since this was last called (``packet.sender``)."""
        return {
            (source, f"{self._would}{reason}"): number
            for (source, reason), number in self._senders.take().items()
            if len(source) in {4, 8}
        }

    def refused(self, decision: Decision, raw: bytes) -> None:
        """Note a packet that was dropped, or would have been."""
        self._senders.add((sender(raw), decision.reason))
        if self._on_refused is not None:
            self._on_refused(decision, raw)
        budget = self._budget(decision)
        if not budget.take():  # in a flood this is all that is done
            return
        fields: dict[str, object] = {}
        header = triage(raw)
        if not isinstance(header, Reason):
            fields["source"] = str(ip_address(header.source))
            fields["port"] = _port(header)
        self._log_refusal(decision, fields, budget)

    def refused_datagram(self, decision: Decision, fields: Mapping[str, object]) -> None:
        """Note a datagram that a dry run would not act on."""
        budget = self._budget(decision)
        if budget.take():
            self._log_refusal(decision, fields, budget)

    def _budget(self, decision: Decision) -> Budget:
        self._refused[decision.reason] += 1
        # a replay is anybody's doing
        is_strangers = decision.client is None or decision.reason is Reason.REPLAYED
        return self._strangers if is_strangers else self._clients

    @property
    def _would(self) -> str:
        return "would-" if self._is_trial else ""

    def _log_refusal(self, decision: Decision, fields: Mapping[str, object], budget: Budget) -> None:
        words: dict[str, object] = {"reason": decision.reason.value}
        if decision.client:
            words["client"] = decision.client
        words |= fields
        if decision.note:
            words["note"] = decision.note
        if budget.unshown:
            words["not_shown"] = budget.unshown
            budget.unshown = 0
        event("would-refuse" if self._is_trial else "refused", words)
        if budget is self._clients:
            name = f"{self._would}{decision.reason}"
            source = str(words["source"]) if "source" in words else None
            note = " ".join(str(words[key]) for key in ("port", "note") if key in words) or None
            self.note([TrailEntry(time.time(), name, decision.client, source, note=note)])

    def sum_up(self) -> None:
        """Say how many lines of a flood were not shown, where no line behind them has said it yet."""
        for budget in (self._strangers, self._clients):
            if number := budget.take_rest():
                words = {"not_shown": number, "note": "more than the log takes; `gatekeeper status` counts all"}
                event("would-refuse" if self._is_trial else "refused", words)

    def carried_out(self, decision: Decision, outcome: Outcome, *, now: float) -> None:
        """Note what became of a knock."""
        if outcome.refused is not None:  # the store knew better than the gate's memory
            refusal = replace(decision, reason=outcome.refused)
            budget = self._budget(refusal)
            if budget.take():
                self._log_refusal(refusal, {"source": _whose(decision)}, budget)
            return
        self._counts[decision.reason] += 1
        if outcome.error is not None:
            self._counts[Reason.NOT_APPLIED] += 1
        if outcome.admitted and outcome.ended:
            self.changed("crowded-out", Outcome(ended=outcome.ended), now=now)
            outcome = replace(outcome, ended=())
        whose = {"client": decision.client, "source": _whose(decision)}
        self.changed(decision.reason.value, outcome, now=now, whose=whose)
        if not outcome.admitted and not outcome.ended and outcome.error is None:
            event(decision.reason.value, whose | {"note": "nothing was open"})

    def changed(self, name: str, outcome: Outcome, *, now: float, whose: Mapping[str, object] | None = None) -> None:
        """Log a change of the grants: a line for each (a sum, if there are many), and one for what was refused."""
        self.on_change(name, outcome, now)
        grants = (*outcome.admitted, *outcome.ended)
        if len(grants) > _GRANTS_AT_ONCE:
            event(name, {"grants": len(grants)})
        else:
            for grant in grants:
                event(name, grant_fields(grant, now=now))
        if outcome.cut:
            event(f"{self._would}cut", {"connections": outcome.cut, **(whose or {})})
        if outcome.error is not None:
            event("not-applied", {"error": outcome.error, **(whose or {})}, level=logging.ERROR)

    def repaired(self, repair: Repair) -> None:
        """Log what others did to the ruleset, and what became of it."""
        words: dict[str, object] = {"missing": ", ".join(repair.missing)}
        if repair.error is not None:
            self._counts["repair-failed"] += 1
            event("repair-failed", words | {"error": repair.error, "note": "tried again"}, level=logging.ERROR)
            return
        self._counts["repaired"] += 1
        who = ", ".join(repair.by) or "unknown"
        words |= {"exposed": f"{repair.exposed * 1000:.0f}ms", "took": f"{repair.took * 1000:.0f}ms", "by": who}
        event("repaired", words, level=logging.WARNING)
        if repair.fight:
            note = "somebody undoes each repair, so they wait now, at most 5s; have it leave GKEEPER-* and mangle alone"
            event("fighting", {"with": who, "note": note}, level=logging.ERROR)

    def mended(self, mended: Mended) -> None:
        """Log whom others had shut out or let in."""
        number = len(mended.put) + len(mended.removed) + len(mended.networks)
        if number:
            self._counts["mended"] += number
        for name, members in (("shut-out", mended.put), ("stray", mended.removed)):
            if len(members) > _GRANTS_AT_ONCE:
                event("mended", {"was": name, "members": len(members)}, level=logging.WARNING)
                continue
            for service, source in members:
                fields = {"was": name, "source": show_source(source), "service": service}
                event("mended", fields, level=logging.WARNING)
        for one in mended.networks:
            event("mended", {"was": "wrong", "set": one}, level=logging.WARNING)
        if mended.error is not None:
            event("not-applied", {"error": mended.error}, level=logging.ERROR)


def _port(header: Header) -> str:
    if header.protocol in ECHOES:
        return "icmp"
    return f"{'udp' if header.protocol == UDP else 'tcp'}/{header.destination_port}"


def _whose(decision: Decision) -> str:
    effect = decision.effect
    if isinstance(effect, Revoke):
        return show_source(effect.source)
    return show_source(effect.grants[0].source) if effect is not None and effect.grants else "?"


def grant_fields(grant: Grant, *, now: float) -> dict[str, object]:
    """Return what a log line says of a grant."""
    left = "until closed" if grant.expires_at is None else f"{max(0.0, grant.expires_at - now):.0f}s"
    source = show_source(grant.source)
    return {"client": grant.client, "source": source, "service": grant.service, "ttl": left}


def event(name: str, fields: Mapping[str, object], *, level: int = logging.INFO) -> None:
    """Log one event with its fields."""
    _LOG.log(level, "%s", name, extra={"fields": dict(fields)})


def message(text: str, *, level: int = logging.INFO) -> None:
    """Log a sentence."""
    _LOG.log(level, "%s", text)


def warnings(problems: Iterable[Problem]) -> None:
    """Log what is legal but unwise in the rules."""
    for problem in problems:
        message(f"{problem}" + (f" ({problem.hint})" if problem.hint else ""), level=logging.WARNING)
