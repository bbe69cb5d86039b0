"""The clock: whether something keeps it right, and whether it stands behind what was written already."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

from gatekeeper import duration
from gatekeeper.doctor.finding import CannotLookError, Finding, note, ok, warning, wrong
from gatekeeper.doctor.scene import Scene
from gatekeeper.settings import Client, Service
from gatekeeper.store.sqlite import FILE

_TIMEX_SIZE = 512
"""More than ``struct timex`` has on any platform (linux/timex.h); all zero: it only reads."""
_TIME_ERROR = 5
_TOLERANCE = 60.0
"""Seconds by which a file may seem to be from the future."""


def check(scene: Scene) -> Iterator[Finding]:
    """Ask the kernel, as timedatectl does; and compare with the times of files."""
    timed = scene.rules is not None and any(one.keys or one.fwknop for one in scene.rules.clients.values())
    skew = 120 if scene.rules is None else scene.rules.skew
    if is_synchronised():
        yield ok("the clock is synchronised")
    elif timed:
        words = f"nothing keeps the clock right: when it is off by {duration.show(skew)}, knocks are refused"
        yield warning(words, "install chrony or systemd-timesyncd (a virtual machine's host may do it unseen)")
    else:
        yield note("nothing keeps the clock right (or a virtual machine's host does it unseen)")
    for path in (scene.state_dir / FILE, scene.rules_file):
        written = _written(path)
        if written is not None and written > scene.now + _TOLERANCE:
            ahead = duration.show(int(written - scene.now))
            hint = "set the clock; until then knocks are refused, and grants end late"
            yield wrong(f"the clock stands {ahead} before the moment when {path.name} was written", hint)
    named: list[Service | Client] = (
        [] if scene.rules is None else [*scene.rules.services.values(), *scene.rules.clients.values()]
    )
    if any(one.hours for one in named):
        zone = time.strftime("%Z")
        yield ok(f"the time zones that `when:` names are known here (this machine's own is {zone})")


def is_synchronised() -> bool:
    """Ask the kernel whether something keeps its clock right: adjtimex(2), which answers everybody.

    Raises:
        CannotLookError: it cannot be asked.
    """
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError) as error:
        raise CannotLookError(f"adjtimex: {error}") from error
    state = adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
    if state < 0:
        raise CannotLookError("adjtimex was refused (a container's system call filter may do that)")
    return bool(state != _TIME_ERROR)


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None  # the check of files says so
