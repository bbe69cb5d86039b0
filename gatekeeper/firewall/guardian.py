"""Keeps the ruleset as it was loaded: notices by itself what others do to it, repairs it, and says so.

It needs no store and no lock that a hanging disk can hold. What it loads is closed but for what sets have; where
members may have been lost, ``Repair.refill`` says so, and whoever hears of the repair puts them back.

A repair is quick first: only what is amiss. In nf_tables it is put back in the kernel's own bytes, in one step; or else
by iptables-restore, one table after the other (two at once would be slower: nf_tables takes back the one of two changes
that loses the race, and that waits for all CPUs). If that does not give exactly what was there, the whole is loaded
anew, as at the start.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import apply, expected, ruleset, sets, tools
from gatekeeper.firewall import tags as door
from gatekeeper.firewall.expected import Fault
from gatekeeper.firewall.ipset import Ipset
from gatekeeper.firewall.looks import Look
from gatekeeper.firewall.members import RuleMembers, SetMembers
from gatekeeper.firewall.names import TAGS
from gatekeeper.firewall.watches import running_firewalls, watch
from gatekeeper.model import Repair, Tags
from gatekeeper.settings import Rules

_MANY, _WITHIN = 5, 10.0
"""So many repairs within so many seconds are a fight."""
_AT_ONCE = 0.4
"""Repairs within so many seconds count as one: a script may do several things."""
_PAUSES = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds that the next repairs wait in a fight."""
_QUIET = 60.0
"""Seconds without a repair after which a fight is over."""
_RETRIES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds until a repair that failed is tried again."""
_REST = 4.0
"""A look at what was in order is followed by a rest, so many times as long, so that others cannot keep us busy."""
_LONGEST_REST = 0.5
_AT_ONCE_BEHIND_A_REST = 0.005
_QUICK_TRIES = 4
TagsAt = Callable[[float], Tags]
Learned = Mapping[int, expected.Expected]
"""What should be there, by IP version, and what the kernel made of it."""
_PRIORITY = -15
"""Of this thread, and of the tools that it runs: it has next to nothing to do, but that at once."""


class Guardian(threading.Thread):
    """Watches over the ruleset of one variant of iptables. Made right after it was loaded, started when that suits."""

    def __init__(
        self,
        rules: Rules,
        variant: tools.Iptables,
        *,
        has_rules: bool,
        learned: Learned | None = None,
        tags_at: TagsAt | None = None,
    ) -> None:
        """``has_rules``: grants are rules, and not members of sets.

        ``tags_at`` tells the tags of a time. Where all ``is_whole``, ``renew_tags`` must be called before ``start``.
        ``learned``: what was learned right after loading; without it, that is what is there now.

        Raises:
            FirewallError: the kernel cannot be watched.
        """
        super().__init__(name="guardian", daemon=True)
        self._rules, self._variant = rules, variant
        self._members = RuleMembers() if has_rules else SetMembers()
        self._tags_at, self._known = tags_at, Tags((), 0.0, 0.0)
        # Until we have put tags there ourselves, those of an earlier run may stand there.
        member_chains = [TAGS, *(chain for name in rules.services for chain in self._members.chains(name))]
        self._expected = {
            version: expected.read(ruleset.iptables_text(rules, version, self._members), member_chains=member_chains)
            for version in tools.ip_versions()
        }
        self._tables = next(iter(self._expected.values())).tables
        self._watch = watch(variant.variant, self._tables, tuple(self._expected))
        self._sets = None if has_rules else Ipset()
        self._is_stopping = threading.Event()
        self._parent = os.getppid()
        self._last_good = time.monotonic()
        self._repairs: deque[float] = deque(maxlen=_MANY)
        self._last_repair = 0.0
        self._pauses = 0
        self._failed: Repair | None = None
        self._failures = 0
        self._owes_refill = False
        self._indices: dict[str, int] = {}
        self.on_repair: Callable[[Repair], None] = _ignore
        self.on_failure: Callable[[BaseException], None] = _ignore
        if learned is None:
            self._learn()
        else:  # what somebody changed while nobody watched must not become what should be
            self._expected = dict(learned)
            if self.is_whole:
                self._learn()

    @property
    def learned(self) -> Learned:
        """What should be there, for the guardian that follows this one."""
        return self._expected

    @property
    def is_whole(self) -> bool:
        """Whether nothing is amiss at this moment."""
        return not self._faults(self._watch.looks())

    def stop(self, *, patience: float = 0.3) -> None:
        """End; wait at most ``patience`` seconds for a repair that is being made."""
        self._is_stopping.set()
        self._watch.wake()
        if self.is_alive():
            self.join(patience)
        if not self.is_alive():
            self._watch.close()
            if self._sets is not None:
                self._sets.close()

    def run(self) -> None:
        """Watch until ``stop``."""
        with contextlib.suppress(OSError):  # without CAP_SYS_NICE it is as slow as everybody on a busy machine
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PRIORITY)
        try:
            rest = 0.0
            is_due = True
            while not self._is_stopping.wait(rest):
                try:
                    rested = time.monotonic() if rest else 0.0
                    if is_due or self._watch.wait():
                        rest = self._check(rested=rested)
                    else:
                        self.renew_tags()
                        self._last_good = time.monotonic()
                        rest = 0.0
                except FirewallError as error:
                    rest = self._fail(("the rules cannot be looked at",), time.monotonic(), error)
                is_due = self._failed is not None
        except BaseException as error:
            self.on_failure(error)
            raise

    def renew_tags(self) -> None:
        """Have the kernel know the tags of this time, if it does not: their time has come, or the clock was set.

        Raises:
            FirewallError: that failed. The earlier ones stay.
        """
        if self._tags_at is None or self._known.hold(time.time()):
            return
        tags = self._tags_at(time.time())
        place = ("raw", TAGS)
        for version in self._expected:
            self._variant.restore(version, door.text(tags.known, version))
        looks = self._watch.looks()
        for version, one in self._expected.items():
            lines = list(door.lines(tags.known, version))
            if not door.are_in(looks[version].get(place, ()), tags.known, len(lines)):
                raise FirewallError("the tags of this time are not there: somebody changes the ruleset at this moment")
            self._expected[version] = one.renewed(place, lines, looks[version])
        self._known = tags

    def _learn(self) -> bool:
        """Take what is there as what should be, if it is what the text says, by places and numbers of rules."""
        looks = self._watch.looks()
        if any(one.differs(looks[version]) for version, one in self._expected.items()):
            return False
        self._expected = {version: one.learned(looks[version]) for version, one in self._expected.items()}
        self._watch.learn(next(iter(self._expected.values())).bases)
        self._indices = self._set_indices()
        self._last_good = time.monotonic()
        return True

    def _check(self, *, rested: float) -> float:
        """Look, and repair what is amiss; return for how many seconds to rest.

        ``rested``: when the last rest ended (monotonic); 0.0: there was none.
        """
        began = time.monotonic()
        looks = self._watch.looks()
        faults = self._faults(looks)
        if not faults:
            self.renew_tags()  # not before: what they lead to may be what is amiss
            self._is_in_order()
            return min(_LONGEST_REST, (time.monotonic() - began) * _REST)
        told = self._watch.noticed()
        # news that waited for the end of a rest is older than it seems
        since = self._last_good if told is None or told - rested < _AT_ONCE_BEHIND_A_REST else told
        is_fight = self._is_fight()
        if is_fight:
            self._is_stopping.wait(_PAUSES[min(self._pauses, len(_PAUSES)) - 1])
            if self._is_stopping.is_set():
                return 0.0
            looks = self._watch.looks()
            faults = self._faults(looks)
            if not faults:
                self._is_in_order()
                return 0.0
        if os.getppid() != self._parent:  # whoever killed `run` may be taking everything out: do not put it back
            self._is_stopping.set()
            return 0.0
        amiss = self._in_words(faults)
        try:
            self._repair(looks, faults)
        except FirewallError as error:
            return self._fail(amiss, began, error)
        now = time.monotonic()
        by = self._watch.doers() or running_firewalls()
        self._watch.noticed()
        if not self._repairs or now - self._repairs[-1] > _AT_ONCE:
            self._repairs.append(now)
        self._last_repair = now
        self._failed, self._failures = None, 0
        self._last_good = now
        begins = is_fight and self._pauses == 1
        refill, self._owes_refill = self._owes_refill, False
        self.on_repair(Repair(amiss, now - began, now - since, tuple(by), refill=refill, fight=begins))
        self.renew_tags()
        return 0.0

    def _in_words(self, faults: Mapping[int, Sequence[Fault]]) -> tuple[str, ...]:
        return tuple(
            words
            for version, its in faults.items()
            for words in expected.summed_up(its, self._expected[version], version)
        )

    def _is_in_order(self) -> None:
        self._last_good = time.monotonic()
        self._watch.noticed()
        self._watch.doers()
        self._failed, self._failures = None, 0

    def _is_fight(self) -> bool:
        """Tell whether somebody undoes our repairs; count how often we have waited for that."""
        now = time.monotonic()
        if now - self._last_repair > _QUIET:
            self._repairs.clear()
            self._pauses = 0
        if self._pauses or (len(self._repairs) == _MANY and now - self._repairs[0] < _WITHIN):
            self._pauses += 1
        return self._pauses > 0

    def _fail(self, amiss: Sequence[str], began: float, error: FirewallError) -> float:
        words = f"{error.message} ({error.hint})" if error.hint else error.message
        now = time.monotonic()
        failed = Repair(tuple(amiss), now - began, now - self._last_good, (), error=words)
        if self._failed is None or self._failed.error != failed.error:
            self.on_repair(failed)
        self._failed = failed
        self._failures += 1
        return _RETRIES[min(self._failures, len(_RETRIES)) - 1]

    def _faults(self, looks: Mapping[int, Look]) -> dict[int, list[Fault]]:
        found = {version: one.faults(looks[version]) for version, one in self._expected.items()}
        return {version: faults for version, faults in found.items() if faults}

    # -- repairing

    def _repair(self, looks: Mapping[int, Look], faults: Mapping[int, Sequence[Fault]]) -> None:
        """Make it what it should be, and note whether members may have been lost, also if it fails half-way."""
        for _ in range(_QUICK_TRIES):  # while one thing is mended, another may be broken
            self._owes_refill = self._make_sets() or self._has_lost_members(faults) or self._owes_refill
            if not self._repair_quickly(looks, faults):
                break
            looks, before = self._watch.looks(), faults
            faults = self._faults(looks)
            if not faults:
                return
            if faults == before:
                break
        self._owes_refill = True
        self._repair_wholly()

    def _has_lost_members(self, faults: Mapping[int, Sequence[Fault]]) -> bool:
        return any(fault.place in self._expected[version].members for version, its in faults.items() for fault in its)

    def _repair_quickly(self, looks: Mapping[int, Look], faults: Mapping[int, Sequence[Fault]]) -> bool:
        """Mend what is amiss and nothing else; say whether that could be done."""
        try:
            if self._put_back(looks, faults):
                return True
        except FirewallError:  # iptables may do better, or says what is wrong
            looks = self._watch.looks()
        texts: list[tuple[int, str]] = []
        for table in self._tables:
            for version, its in faults.items():
                if any(fault.place[0] == table for fault in its):
                    text = self._expected[version].repair_text(its, looks[version], table)
                    if text is None:
                        return False
                    texts.append((version, text))
        try:
            for version, text in texts:
                self._variant.restore(version, text)
        except FirewallError:  # the whole way may do better, or says what is wrong
            return False
        return True

    def _put_back(self, looks: Mapping[int, Look], faults: Mapping[int, Sequence[Fault]]) -> bool:
        """Put back the kernel's own bytes, where they still mean the same: rules know sets by numbers."""
        if not all(one.seen for one in self._expected.values()):
            return False
        if self._sets is not None and (
            self._set_indices() != self._indices or self._indices.keys() != sets.names_of(self._rules)
        ):
            return False
        return self._watch.put_back(
            [
                (version, self._expected[version].change(its, looks[version], table))
                for version, its in faults.items()
                for table in self._tables
                if any(fault.place[0] == table for fault in its)
            ]
        )

    def _set_indices(self) -> dict[str, int]:
        if self._sets is None:
            return {}
        ours = sets.names_of(self._rules)
        return {name: index for name, index in self._sets.indices().items() if name in ours}

    def _repair_wholly(self) -> None:
        if self._sets is not None:  # whatever the last look said: somebody may be taking them out at this moment
            tools.restore_sets(sets.create_text(self._rules))
        for version in self._expected:
            before = self._variant.save(version)
            whole = apply.whole_text(self._rules, version, self._members, before, known_tags=self._known.known)
            for text in expected.by_table(whole, self._tables):
                self._variant.restore(version, text)
        if not self._learn():
            raise FirewallError("what was loaded is not what is there: somebody changes it at this moment")

    def _make_sets(self) -> bool:
        """Make the sets that the rules need and that are gone; return whether any were."""
        if self._sets is None or sets.names_of(self._rules) <= self._sets.sizes().keys():
            return False
        tools.restore_sets(sets.create_text(self._rules))
        return True


def learn(rules: Rules, variant: tools.Iptables, *, has_rules: bool) -> Learned:
    """Learn what the kernel made of what was loaded just now.

    Raises:
        FirewallError: the kernel cannot be watched.
    """
    one = Guardian(rules, variant, has_rules=has_rules)
    one.stop()
    return one.learned


def _ignore(_: object) -> None:
    pass
