"""``gatekeeper load``: the closed ruleset and the live grants, and then it ends. What ``gatekeeper run`` begins with.

For the early unit, which runs before the network comes up: from there on the ports are closed, and whoever has a
grant can connect, though nobody listens for knocks yet. It needs nothing of the network, and no queue.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gatekeeper import __version__, clock, lockout, observe, progress, rules, units
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import GatekeeperError, UsageError
from gatekeeper.firewall import backends, fallback
from gatekeeper.firewall.members import RuleMembers, SetMembers
from gatekeeper.model import Outcome
from gatekeeper.settings import Rules
from gatekeeper.store.lock import ChangeLock, RunLock
from gatekeeper.store.owner import open_or_make
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.store.trail import Trail

_CAP_NET_ADMIN = 12


def load(rules_file: Path, state_dir: Path) -> None:
    """Close the ports, and let in whoever has a grant; refuse where ``gatekeeper run`` is up, which keeps both.

    Raises:
        GatekeeperError: the rules cannot be used, and nothing was changed; or the ports are closed, and the grants
            could not be restored.
    """
    the_rules, problems = rules.load(rules_file)
    observe.warnings(problems)
    require_net_admin()
    with contextlib.closing(RunLock.of_namespace()):
        with lockout.looking(the_rules, grant_me=False) as present:  # at a boot, nobody; but it may be run by hand
            backend, variant, warnings = backends.load(the_rules)
        for words in warnings + present.warnings:
            observe.message(words, level=logging.WARNING)
        keep_for_boot(the_rules, state_dir / units.FALLBACK, variant, backend)
        with (
            contextlib.closing(backend),
            closed_if_it_fails(the_rules, backend),
            progress.waiting("restoring the grants"),
        ):
            number = _let_in(the_rules, state_dir, backend, present)
    place = f"iptables {variant}, {backend.name}"
    observe.message(f"gatekeeper {__version__} has loaded its ruleset; {place}; live grants: {number}")


def _let_in(the_rules: Rules, state_dir: Path, backend: backends.KernelBackend, present: lockout.Present) -> int:
    """Restore the grants; return how many."""
    if not backend.keeps_time:  # nobody would end them if run did not come up
        backend.replace({name: {} for name in the_rules.services})
        observe.message("without ipset a grant ends only while run is up: grants come back with it")
        return 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(RunLock.of_state(state_dir)))
        store = stack.enter_context(
            contextlib.closing(SqliteStore(state_dir, skew=the_rules.skew, trail_of=Trail(the_rules.trail)))
        )
        lock = stack.enter_context(contextlib.closing(ChangeLock(state_dir)))
        enforcer = Enforcer(the_rules, store, backend, lock=lock)
        restore(enforcer, observe.Observer())
        present.let_in(enforcer)
        return len(enforcer.allowlist)


def keep_for_boot(the_rules: Rules, path: Path, variant: str, backend: backends.KernelBackend) -> None:
    """Leave the closed ruleset behind, at ``path``, for a boot at which the rules, or this program, cannot be used."""
    members = SetMembers() if backend.keeps_time else RuleMembers()
    state_dir = path.parent
    temporary = path.with_suffix(".new")
    try:
        text = fallback.script(the_rules, variant, members)
        if path.exists() and path.read_text() == text:
            return
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with open(open_or_make(temporary), "w") as file:  # noqa: PTH123  (a descriptor)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # what matters now is in the kernel
        words = f"{path} could not be written: if rules.yaml is broken at the next boot, the ports are open ({error})"
        observe.message(words, level=logging.WARNING)


@contextlib.contextmanager
def closed_if_it_fails(the_rules: Rules, backend: backends.KernelBackend) -> Iterator[None]:
    """Let nobody stay in for ever, where the kernel keeps no time and we cannot."""
    try:
        yield
    except GatekeeperError:
        if not backend.keeps_time:
            backend.replace({name: {} for name in the_rules.services})
        raise


def restore(enforcer: Enforcer, observer: observe.Observer) -> None:
    """Make the kernel what the store says, and log what that changed."""
    now = time.time()
    outcome = enforcer.follow_clock(clock.reading(), now=now)
    observer.changed("restored", Outcome(admitted=outcome.admitted), now=now)
    observer.changed("ended", Outcome(ended=outcome.ended, cut=outcome.cut, error=outcome.error), now=now)


def require_net_admin() -> None:
    """Refuse whoever may not change the firewall.

    Raises:
        UsageError: we may not.
    """
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if not effective >> _CAP_NET_ADMIN & 1:
        hint = "run it as root or with sudo, or try `gatekeeper run --dry-run`, which touches no firewall"
        raise UsageError("guarding ports needs the right to change the firewall (CAP_NET_ADMIN)", hint)
