"""``gatekeeper run``: puts everything in place, in the order that never opens, and takes nothing down.

1. rules.yaml is read, and no other gatekeeper may be here: otherwise nothing is touched.
2. The closed ruleset is loaded: from here on the ports are closed, whatever fails next.
3. The state directory is taken, the store is opened and the grants are restored.
4. The queue is bound, and the line that ends in ``ready`` is logged.

When it ends, the ruleset stays: closed stays closed, and open stays open until its time is up.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from netfilterqueue import NetfilterQueue

from gatekeeper import __version__, observe, rules, serverkeys
from gatekeeper.answers import Answers
from gatekeeper.commits import Commits
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import FirewallError, GatekeeperError, QueueError, UsageError
from gatekeeper.firewall import backends, nfqueue, tools
from gatekeeper.firewall.conntrack import MarkedFlows
from gatekeeper.firewall.guardian import Guardian
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.model import Outcome, Repair
from gatekeeper.packet import warm_up
from gatekeeper.refusals import Refusals
from gatekeeper.settings import Mode, Refuse, Rules, Via, show_ports
from gatekeeper.store.lock import ChangeLock, RunLock
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.worker import Manners, Worker

_CAP_NET_ADMIN = 12
_STOP_PATIENCE = 0.8
"""Seconds that a stop waits for knocks in hand; a stop takes less than one."""
_SWITCH_INTERVAL = 0.0005
"""Seconds after which Python lets the other thread run: the packet loop should not wait longer for it."""


def run(rules_file: Path, state_dir: Path, *, only_observe: bool = False) -> None:
    """Guard the services of a rules file until SIGTERM or SIGINT; or ``only_observe``, whatever the rules say."""
    the_rules, problems = rules.load(rules_file)
    if only_observe:
        the_rules = replace(the_rules, mode=Mode.OBSERVE)
    observe.warnings(problems)
    _require_net_admin()
    with contextlib.ExitStack() as locks:
        locks.enter_context(contextlib.closing(RunLock.of_namespace()))
        _refuse_taken_queue(the_rules.firewall.queue)
        queue = NetfilterQueue()  # before any other netlink socket: then the kernel shows our process number for it
        backend, variant, warnings = backends.load(the_rules)
        for words in warnings:
            observe.message(words, level=logging.WARNING)
        _serve(the_rules, state_dir, backend, queue, variant)


def _serve(
    the_rules: Rules, state_dir: Path, backend: backends.KernelBackend, queue: NetfilterQueue, variant: str
) -> None:
    observes = the_rules.mode is Mode.OBSERVE
    observer = observe.Observer(is_trial=observes)
    with contextlib.ExitStack() as stack:
        with _closed_if_it_fails(the_rules, backend):
            guardian = Guardian(the_rules, tools.Iptables(variant), has_rules=not backend.keeps_time)
            stack.enter_context(contextlib.closing(RunLock.of_state(state_dir)))
            server_keys = serverkeys.load(the_rules, state_dir)
            store = SqliteStore(state_dir, skew=the_rules.skew)
            enforcer = Enforcer(the_rules, store, backend, lock=ChangeLock(state_dir))
            _restore(enforcer, observer)
            warm_up()
            sys.setswitchinterval(_SWITCH_INTERVAL)
            formats = enabled(the_rules, server_keys, now=time.time())
            commits = Commits(enforcer, store, observer, formats=formats, answers=_answers(the_rules))
            gate = Gate(the_rules, formats, enforcer.allowlist, replays=enforcer.replays)
            manners = Manners(mark=the_rules.firewall.mark, observes=observes, refuse=_refuse(the_rules))
            worker = Worker(queue, gate, observer, commits.submit, manners)
            worker.bind(the_rules.firewall.queue)
        failures: list[BaseException] = []

        def give_up(error: BaseException) -> None:
            failures.append(error)
            worker.stop()

        commits.on_finished, commits.on_failure = worker.finished, give_up
        gc.collect()
        gc.freeze()  # what is here now stays: looking through it again would stop packets for some 10 ms
        _on_stop_signals(worker)
        commits.start()

        def repaired(repair: Repair) -> None:
            observer.repaired(repair)
            if repair.refill:
                commits.refill()

        guardian.on_repair, guardian.on_failure = repaired, give_up
        guardian.start()
        place = f"queue {the_rules.firewall.queue}, iptables {variant}, {backend.name}"
        observe.message(f"{_ready_line(the_rules)}; {place}; live grants: {len(enforcer.allowlist)}; ready")
        worker.run()
        guardian.stop()
        commits.stop(patience=_STOP_PATIENCE)
        if failures:
            raise failures[0]
        if not commits.is_alive():  # otherwise the disk or a lock holds it up, and both end with the process
            store.close()
            backend.close()
    observe.message(f"stopped; the ruleset stays: {_what_stays(the_rules, backend)}")


@contextlib.contextmanager
def _closed_if_it_fails(the_rules: Rules, backend: backends.KernelBackend) -> Iterator[None]:
    """Let nobody stay in for ever, where the kernel keeps no time and we cannot."""
    try:
        yield
    except GatekeeperError:
        if not backend.keeps_time:
            backend.replace({name: {} for name in the_rules.services})
        raise


def _what_stays(the_rules: Rules, backend: backends.KernelBackend) -> str:
    if the_rules.mode is Mode.OBSERVE:
        return "nothing is dropped"
    if backend.keeps_time:
        return "closed stays closed, open stays open until its time is up"
    return "closed stays closed, and open stays open until run is back, for nobody else ends it"


def _answers(the_rules: Rules) -> Answers | None:
    """Make ready to answer. A port that is taken is no reason not to guard: any local user can take it."""
    if not the_rules.acknowledge or Via.UDP not in the_rules.via:
        return None
    try:
        return Answers(the_rules.knock_ports)
    except QueueError as error:
        observe.message(f"{error.message}: knocks are not answered ({error.hint})", level=logging.ERROR)
        return None


def _refuse(the_rules: Rules) -> Callable[[bytes], None] | None:
    """Make ready to refuse aloud. Where we may not, silence is as safe."""
    if the_rules.refuse is Refuse.SILENT or the_rules.mode is Mode.OBSERVE:
        return None
    try:
        mark = the_rules.firewall.mark
        return Refusals(mark=mark, is_kept=MarkedFlows(mark).has).send
    except FirewallError as error:
        observe.message(f"{error.message}: strangers meet silence ({error.hint})", level=logging.ERROR)
        return None


def _restore(enforcer: Enforcer, observer: observe.Observer) -> None:
    now = time.time()
    outcome = enforcer.restore(now=now)
    observer.changed("restored", Outcome(admitted=outcome.admitted), now=now)
    observer.changed("ended", Outcome(ended=outcome.ended, cut=outcome.cut), now=now)


def _ready_line(the_rules: Rules) -> str:
    services = ", ".join(f"{one.name} ({show_ports(one)})" for one in the_rules.services.values())
    ways = [f"udp/{port}" for port in the_rules.knock_ports if Via.UDP in the_rules.via]
    ways += [way.value for way in (Via.ICMP, Via.SYN) if way in the_rules.via]
    does = "only observes (nothing is dropped)" if the_rules.mode is Mode.OBSERVE else "guards"
    return f"gatekeeper {__version__} {does} {services}; knocks by {', '.join(ways)}"


def _on_stop_signals(worker: Worker) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # Otherwise one that comes just before the loop waits, or to another thread, goes unheard until a packet comes.
    signal.set_wakeup_fd(worker.wake_fd, warn_on_full_buffer=False)


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
