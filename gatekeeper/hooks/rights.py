"""Takes from the process that runs hooks what they must not have: root, capabilities, and ways to get more.

A hook is the administrator's program, but it has no business with the firewall; and what it is told (an address, a
name) comes from outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import resource
import signal
from pathlib import Path

from gatekeeper.errors import GatekeeperError

_SET_PDEATHSIG = 1  # linux/prctl.h
_SET_NO_NEW_PRIVS = 38
_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_SET_CHILD_SUBREAPER = 36
_NOBODY = "nobody"
_TASKS = 96
"""Processes and threads that hooks may have, all together: what the unit may have (TasksMax=) is not theirs alone."""

_prctl = ctypes.CDLL(None).prctl


def give_up(user: str) -> str:
    """Become the service's user, if we are root, and hand no right on to a program; return as whom it runs.

    How many processes there may be is bounded as well: a script that has gone wild must not keep a worker from being
    replaced.

    Where there is no such user (gatekeeper was never installed as a service) it is nobody.

    Raises:
        GatekeeperError: it cannot be done. No hook must run then.
    """
    with contextlib.suppress(OSError):  # before another user has /proc/self
        Path("/proc/self/oom_score_adj").write_text("0")
    with contextlib.suppress(OSError):  # where the unit's filter forbids it
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    name = _become(user) if os.geteuid() == 0 else user  # by whatever name: the unit says who we are
    with contextlib.suppress(OSError, ValueError):
        most = _tasks() + _TASKS
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)  # which are handed on otherwise; older kernels have none
    if _prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise GatekeeperError("hooks are not run: the kernel has no no_new_privs")
    return name


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that has started it is gone (prctl(2))."""
    _prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _tasks() -> int:
    """Count the processes and threads of this user."""
    number = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == os.geteuid():
                number += len(list((process / "task").iterdir()))
    return number


def adopt_orphans() -> None:
    """Have what our children leave behind become ours, so that we can clear it up: until then it counts as there."""
    _prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _become(user: str) -> str:
    for name in (user, _NOBODY):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            continue
        try:
            os.setgroups(os.getgrouplist(name, entry.pw_gid))
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        except OSError as error:
            hint = "`gatekeeper install` writes units that allow it, where the rules have hooks"
            words = f"hooks are not run: we are root, and may not become {name}: {error.strerror}"
            raise GatekeeperError(words, hint) from error
        end_with_parent()  # which the kernel forgets with the old user
        return name
    raise GatekeeperError(f"hooks are not run: there is no user {user} here, nor {_NOBODY}", f"useradd --system {user}")
