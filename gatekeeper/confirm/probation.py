"""What ``run`` does about ``--confirm``: starts the guard before it loads anything, listens, and leaves."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gatekeeper
from gatekeeper import observe
from gatekeeper.confirm import asking, plan
from gatekeeper.confirm.asking import LAST, State, Word
from gatekeeper.errors import GatekeeperError, UsageError
from gatekeeper.firewall import snapshot
from gatekeeper.stopping import SYSTEMD

_LONGEST = 3600.0
UNIT = "gatekeeper-confirm"
_START = 10.0
"""Seconds in which the guard must be up."""
_PATIENCE = 30.0
"""Seconds that a run which was stopped waits for the next word of the guard."""

_DIED = "the guard of --confirm was killed: `gatekeeper confirm` keeps the ruleset; with --revert it puts it back"


class Probation:
    """A ruleset that is not confirmed yet."""

    def __init__(self, *, is_ours: bool) -> None:
        """``is_ours``: whether it is over when we stop."""
        self._is_ours = is_ours
        self._said: set[str] = set()
        """We are told twice: as who watches, and as who leaves."""

    def watch(self) -> None:
        """Log how long there is to confirm, and then, from a thread, how it ends. Call it when grants are in place."""
        with contextlib.suppress(GatekeeperError):  # the keeper of a namespace that is not ours to speak to
            answers = asking.ask("watch", patience=_LONGEST * 2)
            if answers is not None and (first := next(answers, None)) is not None and first.state is State.WAITING:
                words = f"unless `gatekeeper confirm` comes within {first.left} s, the ruleset is put back as it was"
                observe.message(words, level=logging.WARNING)
                threading.Thread(target=self._listen, args=(answers,), name="confirm", daemon=True).start()

    def _listen(self, answers: Iterator[Word]) -> None:
        word = None
        for word in answers:
            self._log(word)
        if (word is None or word.state not in LAST) and plan.plan_file().exists():
            observe.message(_DIED, level=logging.ERROR)

    def is_over(self) -> bool:
        """Whether what is there now stays when we stop."""
        word = None
        with contextlib.suppress(GatekeeperError):
            word = asking.status()
        return word is None or (word.state is State.WAITING and not self._is_ours)

    def leave(self) -> None:
        """Have the ruleset put back, if nobody has confirmed it. Call it when nothing of ours changes it any more."""
        if not self._is_ours:
            return
        try:
            answers = asking.ask("leave", patience=_PATIENCE)
            if answers is None and plan.plan_file().exists():
                observe.message(_DIED, level=logging.ERROR)
            for word in answers or ():
                self._log(word)
        except GatekeeperError as error:
            observe.message(error.message, level=logging.ERROR)

    def _log(self, word: Word) -> None:
        if word.state in LAST:
            self._is_ours = False
        if word.text not in self._said:
            self._said.add(word.text)
            observe.message(word.text, level=logging.INFO if word.state is State.CONFIRMED else logging.WARNING)


@contextlib.contextmanager
def probation(
    seconds: int | None, *, undo: Sequence[Sequence[str]] = (), keep: Sequence[Sequence[str]] = ()
) -> Iterator[Probation]:
    """Put what is loaded inside on probation for so many seconds; however that ends, it is over at the end.

    ``undo``, ``keep``: as ``begin`` has them.

    ``None``: what is loaded stays; unless it joins a probation that somebody else has begun in this namespace.

    Raises:
        GatekeeperError: there is one already, or the guard did not start. Nothing was touched.
    """
    if seconds is not None:
        begin(seconds, undo=undo, keep=keep)
    one = Probation(is_ours=seconds is not None)
    try:
        yield one
    finally:
        one.leave()


def begin(seconds: int, *, undo: Sequence[Sequence[str]] = (), keep: Sequence[Sequence[str]] = ()) -> None:
    """Note what is in the kernel, and start the guard; it outlives us.

    ``undo`` has commands (argument lists) that it runs before it puts the ruleset back; ``keep``: when that stays.

    Raises:
        GatekeeperError: there is one already, or the guard did not start.
    """
    deadline = snapshot.boottime() + seconds
    the_plan = plan.Plan(seconds, deadline, snapshot.take(), _frozen(undo), _frozen(keep))
    try:
        path = plan.write(the_plan)
    except FileExistsError:
        _refuse_second()
    try:
        _start()
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _frozen(commands: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(argv) for argv in commands)


def _refuse_second() -> None:
    there = asking.status()
    hint = "`gatekeeper confirm` keeps the ruleset that is there; with --revert it puts the earlier one back"
    if there is not None:
        raise UsageError(f"a ruleset waits to be confirmed already ({there.left} s are left)", hint)
    raise UsageError("an earlier --confirm was never ended, for its guard was killed", hint)


def _start() -> None:
    """Start the guard where neither our terminal's end nor ours reaches it, and wait until it listens."""
    package = Path(gatekeeper.__file__).parent.parent
    program = [sys.executable, "-P", "-m", "gatekeeper.confirm.guard"]
    said = ""
    if _systemd_would_be_here():
        runner = ["systemd-run", f"--unit={UNIT}", "--collect", "--quiet", f"--setenv=PYTHONPATH={package}"]
        said = _launch([*runner, "--description=gatekeeper: waits for gatekeeper confirm", *program])
        if not said and _is_up():
            return
        observe.message(f"systemd-run failed ({said}): the guard is a process of this session", level=logging.WARNING)
    said = _launch([*program, "detach"], {**os.environ, "PYTHONPATH": str(package)})
    if said or not _is_up():
        raise GatekeeperError(f"the guard of --confirm did not start: {said or 'it does not answer'}")


def _systemd_would_be_here() -> bool:
    """Whether systemd is there, and what it starts is in our network namespace."""
    if not SYSTEMD.exists() or shutil.which("systemd-run") is None:
        return False
    try:
        return os.path.samestat(Path("/proc/1/ns/net").stat(), Path("/proc/self/ns/net").stat())
    except OSError:
        return False


def _launch(argv: list[str], environment: dict[str, str] | None = None) -> str:
    """Start the guard; return what it complains of. Its standard error ends when it is up, or has failed."""
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment,
            start_new_session=True,
        ) as process:
            _, said = process.communicate(timeout=_START)
            return said.strip() or (f"exit status {process.returncode}" if process.returncode else "")
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def _is_up() -> bool:
    deadline = time.monotonic() + _START
    while asking.status() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
