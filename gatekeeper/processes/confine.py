"""Takes from worker and exporter what they do not need any more: files, programs, sockets, other processes.

A system call filter of the kernel's (seccomp(2)), made by libseccomp, which every systemd machine has. What is not
in the list fails with EPERM and does not kill: a call that nobody foresaw must not shut the owner out. We call the
library ourselves: pyseccomp, its binding on PyPI, has had no release since 2021, and Debian's is not on PyPI.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from gatekeeper.errors import GatekeeperError

_ALLOWED = (
    # packets and messages, by sockets that are open already
    *("read", "write", "readv", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg", "recvmmsg", "sendmmsg"),
    *("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "close"),
    *("getsockopt", "getsockname", "fstat", "lseek"),
    # memory, locks, time, chance
    *("brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex", "futex_waitv", "sched_yield", "membarrier"),
    *("rseq", "set_robust_list", "get_robust_list", "getrandom"),
    *("clock_gettime", "clock_getres", "gettimeofday", "time", "clock_nanosleep", "nanosleep", "restart_syscall"),
    # signals, to itself, and the end
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "sigreturn", "getpid", "gettid"),
    *("exit", "exit_group"),
)
_ALLOW = 0x7FFF_0000
_REFUSE = 0x0005_0000 | errno.EPERM
_ALL_THREADS = 4  # SCMP_FLTATR_CTL_TSYNC
_NO_SUCH_CALL = -1
_CAPABILITY_VERSION = 0x2008_0522  # linux/capability.h
_SET_NO_NEW_PRIVS = 38


def confine(more: Sequence[str] = (), *, who: str = "worker") -> None:
    """Let this process, all its threads, make the calls of the list, and some ``more``, only: for good.

    Raises:
        GatekeeperError: there is no libseccomp, or the kernel has no such filters.
    """
    hint = "apt-get install libseccomp2"
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise GatekeeperError(f"the {who} is not confined: no libseccomp here", hint) from error
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE)))
    if not context.value:
        raise GatekeeperError(f"the {who} is not confined: libseccomp cannot make a filter")
    try:
        left_out = library.seccomp_attr_set(context, ctypes.c_int(_ALL_THREADS), ctypes.c_uint32(1))
        for name in (*_ALLOWED, *more):
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != _NO_SUCH_CALL:  # an older library does not know the newest calls
                library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), ctypes.c_int(number), ctypes.c_uint(0))
        failed = library.seccomp_load(context)
    finally:
        library.seccomp_release(context)
    if failed:
        raise GatekeeperError(f"the {who} is not confined: {errno.errorcode.get(-failed, failed)} (seccomp)")
    if left_out:  # seccomp(2) itself is forbidden here, and prctl(2) does it for the thread that calls
        hint = "whoever forbids seccomp(2) here (a unit's SystemCallFilter=, a container) should allow it"
        raise GatekeeperError(f"only the main thread of the {who} is confined", hint)


def step_back() -> None:
    """Let others have the processor first, and memory for longer: this process is not one that the door needs."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("0")
    with contextlib.suppress(OSError):  # where the unit's filter forbids it
        os.setpriority(os.PRIO_PROCESS, 0, 10)


def give_up_capabilities() -> None:
    """Give up all capabilities, for good: what root, or the service's user, may do besides others (capset(2))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    library = ctypes.CDLL(None)
    library.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    library.capset(header, (ctypes.c_uint32 * 6)())
