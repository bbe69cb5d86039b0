"""How people end a probation: ``gatekeeper confirm``, ``gatekeeper confirm --revert``, and ``flush``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gatekeeper import stopping
from gatekeeper.confirm import asking, plan
from gatekeeper.confirm.asking import State
from gatekeeper.confirm.commands import carry_out
from gatekeeper.errors import GatekeeperError, StoreError, UsageError
from gatekeeper.firewall import snapshot
from gatekeeper.store.lock import holder, of_this_namespace

_PATIENCE = 60.0
"""Seconds that the guard may take for its next word: it stops ``run`` and calls tools."""


def confirm() -> tuple[str, str | None]:
    """Let the ruleset stay; return what to say, and what to beware of.

    Raises:
        UsageError: nothing waits to be confirmed, or it is too late.
        GatekeeperError: it is not known whether the ruleset stays.
    """
    answers = asking.ask("confirm", patience=_PATIENCE)
    word = None if answers is None else next(answers, None)
    if word is not None and word.state is State.CONFIRMED:
        return f"confirmed with {word.left} s left: the ruleset stays", _caution()
    if word is not None:
        raise UsageError(f"it is too late: {word.text}", "the ruleset is being put back as it was")
    the_plan = plan.read()
    if the_plan is None:
        raise _nothing()
    if answers is not None:
        hint = "type it again; `gatekeeper flush --stop` opens the ports"
        raise GatekeeperError("the guard of --confirm is there, and says nothing: the ruleset may be put back", hint)
    complaints = carry_out(the_plan.keep)
    plan.forget("confirmed after the guard had been killed")
    return "confirmed: the ruleset stays", "; ".join(complaints) or _caution()


def revert() -> Iterator[str]:
    """Put the earlier ruleset back now; say what is done.

    Raises:
        UsageError: nothing waits to be confirmed.
        GatekeeperError: it could not be put back.
    """
    answers = asking.ask("revert", patience=_PATIENCE)
    if answers is None:
        yield from _revert_without_guard()
        return
    word = None
    for word in answers:
        if word.state is State.FAILED:
            break
        yield word.text
    if word is None or word.state is not State.RETURNED:
        words = "the guard of --confirm did not say that the ruleset is put back"
        raise GatekeeperError(words, "`gatekeeper flush --stop` opens the ports")


def _revert_without_guard() -> Iterator[str]:
    the_plan = plan.read()
    if the_plan is None:
        raise _nothing()
    lock = of_this_namespace("lock")
    if holder(lock) is not None:
        stopping.stop(lock)
    yield from carry_out(the_plan.undo)
    snapshot.put_back(the_plan.before)
    plan.forget("the ruleset was put back by `gatekeeper confirm --revert`, for the guard had been killed")
    yield "the ruleset is put back as it was; its guard had been killed"


def call_off() -> bool:
    """End a probation without putting anything back: somebody takes everything out. Returns whether there was one."""
    with contextlib.suppress(StoreError):  # whoever answers there, this takes everything out
        answers = asking.ask("call off", patience=_PATIENCE)
        if answers is not None and next(answers, None) is not None:
            return True
    if plan.plan_file().exists():
        plan.forget("called off by `gatekeeper flush`")
        return True
    return False


def _caution() -> str | None:
    if holder(of_this_namespace("lock")) is None:
        return "run is not up: nobody answers knocks until it is started again"
    return None


def _nothing() -> UsageError:
    last = plan.last()
    hint = f"the last one ended so: {last}" if last else "`gatekeeper run --confirm 60` loads a ruleset that does"
    return UsageError("no ruleset waits to be confirmed", hint)
