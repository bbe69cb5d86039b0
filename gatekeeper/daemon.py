"""``gatekeeper run``: puts everything in place, in the order that never opens, and takes nothing down.

1. rules.yaml is read, and no other gatekeeper may be here: otherwise nothing is touched.
2. The closed ruleset is loaded: from here on the ports are closed, whatever fails next. What was open lives on.
3. The state directory is taken; the keeper opens the store and restores the grants; who would be locked out gets one.
4. The queues are bound, the workers begin, and the line that ends in ``ready`` is logged.

From then on it goes over to other rules as it is told (reloading.py).

When it ends, the ruleset stays: closed stays closed, and open stays open until its time is up.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gatekeeper import __version__, lockout, noting, observe, serverkeys, units
from gatekeeper.confirm.probation import probation
from gatekeeper.errors import QueueError
from gatekeeper.filewatch import FileWatch
from gatekeeper.firewall import backends, guardian, lanes, nfqueue, tools
from gatekeeper.knocks import enabled
from gatekeeper.load import closed_if_it_fails, keep_for_boot, require_net_admin
from gatekeeper.notify import Notifier
from gatekeeper.packet import warm_up
from gatekeeper.processes.hangup import Hangup
from gatekeeper.processes.plan import Plan
from gatekeeper.processes.supervisor import Calls, Supervisor
from gatekeeper.recording import ring
from gatekeeper.recording.ring import Recording
from gatekeeper.reloading import Reloading, Source
from gatekeeper.settings import Rules, Via, show_ports
from gatekeeper.store.lock import RunLock


@dataclass(frozen=True, slots=True)
class How:
    """What the command line says of a run."""

    log_format: str = "auto"
    only_observe: bool = False
    """Whatever the rules say."""
    grant_me: bool = True
    """Whether the address of the session from which it is started gets a grant, if it needs one."""
    recording: Recording | None = None
    """Where packets that are refused are recorded."""
    confirm_within: int | None = None
    """Seconds until everything is put back as it was, unless it is confirmed; ``None``: it stays."""


def run(rules_file: Path, state_dir: Path, how: How) -> None:
    """Guard the services of a rules file until SIGTERM or SIGINT."""
    hangup = Hangup()
    source = Source(rules_file, FileWatch(), how.only_observe)
    the_rules, problems = source.read()
    observe.warnings(problems)
    require_net_admin()
    if how.recording is not None:
        ring.check(how.recording)
    notifier = Notifier.from_environment(os.environ, pid=os.getpid())
    with contextlib.ExitStack() as locks:
        locks.enter_context(contextlib.closing(RunLock.of_namespace()))
        _refuse_taken_queues(the_rules)
        fallback, draft = state_dir.absolute() / units.FALLBACK, state_dir.absolute() / f"{units.FALLBACK}.unconfirmed"
        undo, keep = ["rm", "-f", str(draft)], ["mv", "-f", str(draft), str(fallback)]
        unconfirmed = locks.enter_context(probation(how.confirm_within, undo=[undo], keep=[keep]))
        with lockout.looking(the_rules, grant_me=how.grant_me) as present:
            backend, variant, warnings = backends.load(the_rules)
            learned = guardian.learn(the_rules, tools.Iptables(variant), has_rules=not backend.keeps_time)
        for words in warnings + present.warnings:
            observe.message(words, level=logging.WARNING)
        if not how.only_observe:
            keep_for_boot(the_rules, fallback if how.confirm_within is None else draft, variant, backend)

        def keep_too(plan: Plan) -> None:
            if not how.only_observe:
                waits = how.confirm_within is not None and not unconfirmed.is_over()
                keep_for_boot(plan.rules, draft if waits else fallback, plan.variant, plan.backend)

        with closed_if_it_fails(the_rules, backend):
            locks.enter_context(contextlib.closing(RunLock.of_state(state_dir)))
            plan = Plan(
                rules=the_rules,
                state_dir=state_dir,
                log_format=how.log_format,
                variant=variant,
                backend=backend,
                learned=learned,
                formats=enabled(the_rules, serverkeys.load(the_rules, state_dir), now=time.time()),
                present=present,
                unconfirmed=unconfirmed,
                since=time.time(),
                recording=how.recording,
            )
            warm_up()
            gc.collect()
            gc.freeze()  # what is here now stays: looking through it again would stop packets for some 10 ms
            reloading = Reloading(source, hangup, keep_too)
            on_ready = partial(_say_ready, reloading, notifier)
            Supervisor(plan, Calls(on_ready=on_ready, on_life=notifier.beat, on_look=reloading.look)).run()
        notifier.stopping("the ruleset stays")
        if unconfirmed.is_over():  # otherwise the guard has the last word
            observe.message(f"stopped; the ruleset stays: {_what_stays(plan)}")
        elif (complaint := noting.note(state_dir, "unconfirmed", "the earlier ruleset is put back")) is not None:
            observe.message(complaint, level=logging.WARNING)


def _what_stays(plan: Plan) -> str:
    if plan.observes:
        return "nothing is dropped"
    if plan.backend.keeps_time:
        return "closed stays closed, open stays open until its time is up"
    return "closed stays closed, and open stays open until run is back, for nobody else ends it"


def _say_ready(reloading: Reloading, notifier: Notifier, plan: Plan, note: str) -> None:
    is_start = reloading.has_begun(plan, note)
    the_rules = plan.rules
    services = ", ".join(f"{one.name} ({show_ports(one)})" for one in the_rules.services.values())
    ways = [f"udp/{port}" for port in the_rules.knock_ports if Via.UDP in the_rules.via]
    ways += [way.value for way in (Via.ICMP, Via.SYN) if way in the_rules.via]
    ways += ["port sequences"] if the_rules.has_sequences else []
    does = "only observes (nothing is dropped)" if plan.observes else "guards"
    crew = f"{the_rules.workers} workers" if the_rules.workers > 1 else "1 worker"
    place = f"{crew}, queues from {the_rules.firewall.queue}, iptables {plan.variant}, {plan.backend.name}"
    what = f"gatekeeper {__version__} {does} {services}; knocks by {', '.join(ways)}"
    if is_start:
        observe.message(f"{what}; {place}; {note}; ready")
        notifier.ready(what)
    else:
        notifier.status(what)


def _refuse_taken_queues(the_rules: Rules) -> None:
    for number in lanes.all_numbers(the_rules):
        if (owner := nfqueue.owner(number)) is not None:
            hint = "stop that process, or choose other queues in the rules: firewall: {queue: N}"
            raise QueueError(f"queue {number} is taken by {owner}", hint)
