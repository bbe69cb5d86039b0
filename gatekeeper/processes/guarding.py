"""The guardian as a process: it repairs the ruleset when others change it, and needs neither store nor disk for that.

So it works on while the keeper waits for a disk, or cannot begin because its store is damaged. Where members may have
been lost, it says so to the supervisor, and the keeper puts them back.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Sequence
from functools import partial
from types import FrameType

from gatekeeper import observe
from gatekeeper.firewall import tools
from gatekeeper.firewall.guardian import Guardian
from gatekeeper.model import Repair, Tags
from gatekeeper.processes.child import LIFE_EVERY, READY, REPAIRED, Control
from gatekeeper.processes.plan import Plan
from gatekeeper.protocols import KnockFormat


def guard(plan: Plan, control: Control) -> None:
    """Watch over the ruleset until the supervisor says ``stop`` or is gone.

    Raises:
        FirewallError: the kernel cannot be watched.
    """
    one = _Guarding(plan, control)
    one.run()


class _Guarding:
    """The guardian's thread, and a loop that listens to the supervisor."""

    def __init__(self, plan: Plan, control: Control) -> None:
        variant, has_rules = tools.Iptables(plan.variant), not plan.backend.keeps_time
        self._control = control
        self._observer = observe.Observer(is_trial=plan.observes)
        tags_at = partial(_tags_at, plan.formats) if plan.rules.has_tagged and not plan.observes else None
        self._guardian = Guardian(plan.rules, variant, has_rules=has_rules, learned=plan.learned, tags_at=tags_at)
        self._guardian.on_repair, self._guardian.on_failure = self._note_repair, self._note_failure
        self._failure: BaseException | None = None
        self._stopping = False
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def run(self) -> None:
        """Wait for the end."""
        if self._guardian.is_whole:  # or it has to mend first what tags lead to
            self._guardian.renew_tags()
        self._guardian.start()
        self._control.say(READY)
        while not self._stopping:
            supervisor = self._control.socket.fileno()
            heard, _, _ = select.select([supervisor, self._woken], [], [], LIFE_EVERY)
            self._stopping = self._stopping or supervisor in heard  # it says one thing only, or is gone
            self._control.show_life()
        self._guardian.stop()
        if self._failure is not None:
            raise self._failure

    def _note_repair(self, repair: Repair) -> None:
        self._observer.repaired(repair)
        counts = self._observer.take_counts()
        self._control.say(REPAIRED + b" ".join([b"refill" if repair.refill else b"", *map(str.encode, counts)]))

    def _note_failure(self, error: BaseException) -> None:
        self._failure = error
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True


def _tags_at(formats: Sequence[KnockFormat], now: float) -> Tags:
    """Put together what all formats say."""
    each = [tags for one in formats if (tags := one.tags(now=now)) is not None]
    known = tuple(tag for tags in each for tag in tags.known)
    return Tags(known, max(tags.since for tags in each), min(tags.until for tags in each))
