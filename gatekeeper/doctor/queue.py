"""Who has the queue, whether it keeps up, and whether connection tracking has room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gatekeeper.doctor.finding import CannotLookError, Finding, note, ok, warning, wrong
from gatekeeper.doctor.scene import Scene, read
from gatekeeper.errors import StoreError
from gatekeeper.settings import Mode
from gatekeeper.store.lock import runner

_QUEUES = "/proc/net/netfilter/nfnetlink_queue"
_NETFILTER = Path("/proc/sys/net/netfilter")
_MANY_WAIT = 512


class Queue(NamedTuple):
    """One row of nfnetlink_queue (linux/net/netfilter/nfnetlink_queue.c, seq_show)."""

    number: int
    port: int
    """The netlink port of its owner: mostly the process number."""
    waiting: int
    dropped_full: int
    """Packets that came when as many waited as may."""
    dropped_unsent: int
    """Packets that did not fit into the socket buffer of the owner."""


def parse(text: str) -> list[Queue]:
    """Read /proc/net/netfilter/nfnetlink_queue."""
    rows = (line.split() for line in text.splitlines())
    return [Queue(*(int(row[place]) for place in (0, 1, 2, 5, 6))) for row in rows if len(row) >= 7]


def check(scene: Scene) -> Iterator[Finding]:
    """Look whether `run` is up and has its queue."""
    try:
        pid = runner(scene.state_dir)
    except StoreError as error:
        raise CannotLookError(error.message, needs_root=not scene.is_root) from error
    if pid is None and scene.rules is not None:
        words = "`gatekeeper run` is not up: no knock opens anything"
        if scene.rules.mode is Mode.OBSERVE:
            words = "`gatekeeper run` is not up: nothing is observed"
        yield wrong(words, "start it: systemctl start gatekeeper, or `gatekeeper run`")
    elif pid is not None:
        yield ok(f"`gatekeeper run` is up (process {pid})")
    if scene.rules is not None:
        yield from judge(parse(read(_QUEUES) or ""), scene.rules.firewall.queue, pid)


def judge(queues: list[Queue], number: int, pid: int | None) -> Iterator[Finding]:
    """Say whose the queue is (``pid``: of `run`, if it is up), and what it lost."""
    ours = next((one for one in queues if one.number == number), None)
    if ours is None:
        if pid is not None:
            hint = "restart `gatekeeper run`, and look at its log"
            yield wrong(f"`gatekeeper run` is up, but nobody has queue {number}: nobody new gets in", hint)
        return
    is_known = Path("/proc", str(ours.port)).exists()
    if pid is not None and (pid == 0 or not is_known):
        yield ok(f"queue {number} has an owner, and `run` is up")
    elif not is_known:
        hint = "stop it, or choose another queue in the rules: firewall: {queue: N}"
        yield wrong(f"queue {number} is taken by another process, and `run` is not up", hint)
    elif pid is None or not _descends(ours.port, pid):
        hint = "stop that process, or choose another queue in the rules: firewall: {queue: N}"
        yield wrong(f"queue {number} is taken by process {ours.port} ({_name(ours.port)}), which is not `run`", hint)
    else:
        yield ok(f"queue {number} is `run`'s")
    if ours.waiting > _MANY_WAIT:
        hint = "a flood, or a process that hangs: `gatekeeper status` shows what packets met; restart `run` if it hangs"
        yield warning(f"{ours.waiting} packets wait in queue {number}", hint)
    if ours.dropped_full:
        hint = "a flood came faster than it was looked at; knocks may have been among them, and clients knock again"
        yield warning(
            f"{ours.dropped_full} packets were dropped since `run` started, for queue {number} was full", hint
        )
    if ours.dropped_unsent:
        now = (read("/proc/sys/net/core/rmem_max") or "?").strip()
        hint = f"let sockets have longer buffers (sysctl net.core.rmem_max, now {now}); clients knock again"
        words = f"{ours.dropped_unsent} packets were dropped since `run` started, for its socket buffer was full"
        yield warning(words, hint)
    if not ours.dropped_full and not ours.dropped_unsent:
        yield ok(f"queue {number} has dropped nothing since `run` started")


def tracking(_scene: Scene) -> Iterator[Finding]:
    """Look whether connection tracking has room, and takes up connections in their midst."""
    count, most = (read(_NETFILTER / name) for name in ("nf_conntrack_count", "nf_conntrack_max"))
    if count is None or most is None:
        yield note("connection tracking is not on in this network namespace")
        return
    if int(most) and int(count) > 0.9 * int(most):
        hint = "when it is full, new connections are dropped, of all: raise net.netfilter.nf_conntrack_max (sysctl)"
        yield warning(f"the table of tracked connections is nearly full: {int(count)} of {int(most)}", hint)
    else:
        yield ok(f"the table of tracked connections has room: {int(count)} of {int(most)}")
    if (read(_NETFILTER / "nf_conntrack_tcp_loose") or "1").strip() == "0":
        words = "connection tracking does not take up connections in their midst (nf_conntrack_tcp_loose is 0)"
        yield note(words, "those that run when gatekeeper first starts may stop then")


def _descends(pid: int, ancestor: int) -> bool:
    """Whether a process is another, or was started by it."""
    return ancestor in ancestry(pid)


def ancestry(pid: int) -> list[int]:
    """List a process, its parent, and so on up."""
    found: list[int] = []
    while pid > 0 and pid not in found:
        found.append(pid)
        try:
            stat = Path("/proc", str(pid), "stat").read_text(errors="replace")
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


def _name(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return "?"


def own_ancestry() -> list[int]:
    """List this process, its parent, and so on up."""
    return ancestry(os.getpid())
