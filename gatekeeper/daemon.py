"""``gatekeeper run``: puts everything in place, in the order that never opens, and takes nothing down.

1. rules.yaml is read, and no other gatekeeper may be here: otherwise nothing is touched.
2. The closed ruleset is loaded: from here on the ports are closed, whatever fails next. What was open lives on.
3. The state directory is taken; the keeper opens the store and restores the grants; who would be locked out gets one.
4. The worker binds the queue, and the line that ends in ``ready`` is logged.

When it ends, the ruleset stays: closed stays closed, and open stays open until its time is up.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gatekeeper import __version__, lockout, observe, rules, serverkeys
from gatekeeper.errors import GatekeeperError, QueueError, UsageError
from gatekeeper.firewall import backends, nfqueue
from gatekeeper.knocks import enabled
from gatekeeper.packet import warm_up
from gatekeeper.processes.plan import Plan
from gatekeeper.processes.supervisor import Supervisor
from gatekeeper.settings import Mode, Rules, Via, show_ports
from gatekeeper.store.lock import RunLock

_CAP_NET_ADMIN = 12


def run(
    rules_file: Path, state_dir: Path, *, log_format: str, only_observe: bool = False, grant_me: bool = True
) -> None:
    """Guard the services of a rules file until SIGTERM or SIGINT; or ``only_observe``, whatever the rules say.

    ``grant_me``: the address of the session from which this is started gets a grant, if it needs one.
    """
    the_rules, problems = rules.load(rules_file)
    if only_observe:
        the_rules = replace(the_rules, mode=Mode.OBSERVE)
    observe.warnings(problems)
    _require_net_admin()
    with contextlib.ExitStack() as locks:
        locks.enter_context(contextlib.closing(RunLock.of_namespace()))
        _refuse_taken_queue(the_rules.firewall.queue)
        with lockout.looking(the_rules, grant_me=grant_me) as present:
            backend, variant, warnings = backends.load(the_rules)
        for words in warnings + present.warnings:
            observe.message(words, level=logging.WARNING)
        with _closed_if_it_fails(the_rules, backend):
            locks.enter_context(contextlib.closing(RunLock.of_state(state_dir)))
            plan = Plan(
                rules=the_rules,
                state_dir=state_dir,
                log_format=log_format,
                variant=variant,
                backend=backend,
                present=present,
                formats=enabled(the_rules, serverkeys.load(the_rules, state_dir), now=time.time()),
            )
            warm_up()
            gc.collect()
            gc.freeze()  # what is here now stays: looking through it again would stop packets for some 10 ms
            Supervisor(plan, on_ready=lambda note: _say_ready(plan, note), on_life=lambda: None).run()
    observe.message(f"stopped; the ruleset stays: {_what_stays(plan)}")


@contextlib.contextmanager
def _closed_if_it_fails(the_rules: Rules, backend: backends.KernelBackend) -> Iterator[None]:
    """Let nobody stay in for ever, where the kernel keeps no time and we cannot."""
    try:
        yield
    except GatekeeperError:
        if not backend.keeps_time:
            backend.replace({name: {} for name in the_rules.services})
        raise


def _what_stays(plan: Plan) -> str:
    if plan.observes:
        return "nothing is dropped"
    if plan.backend.keeps_time:
        return "closed stays closed, open stays open until its time is up"
    return "closed stays closed, and open stays open until run is back, for nobody else ends it"


def _say_ready(plan: Plan, note: str) -> None:
    the_rules = plan.rules
    services = ", ".join(f"{one.name} ({show_ports(one)})" for one in the_rules.services.values())
    ways = [f"udp/{port}" for port in the_rules.knock_ports if Via.UDP in the_rules.via]
    ways += [way.value for way in (Via.ICMP, Via.SYN) if way in the_rules.via]
    does = "only observes (nothing is dropped)" if plan.observes else "guards"
    place = f"queue {the_rules.firewall.queue}, iptables {plan.variant}, {plan.backend.name}"
    what = f"gatekeeper {__version__} {does} {services}; knocks by {', '.join(ways)}"
    observe.message(f"{what}; {place}; {note}; ready")


def _require_net_admin() -> None:
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if not effective >> _CAP_NET_ADMIN & 1:
        hint = "run it as root or with sudo, or try `gatekeeper run --dry-run`, which touches no firewall"
        raise UsageError("guarding ports needs the right to change the firewall (CAP_NET_ADMIN)", hint)


def _refuse_taken_queue(number: int) -> None:
    owner = nfqueue.owner(number)
    if owner is not None:
        hint = "stop that process, or choose another queue in the rules: firewall: {queue: N}"
        raise QueueError(f"queue {number} is taken by {owner}", hint)
