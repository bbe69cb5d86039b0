"""Who has the queues, whether they keep up, and whether connection tracking has room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gatekeeper.doctor.finding import CannotLookError, Finding, note, ok, warning, wrong
from gatekeeper.doctor.scene import Scene, read
from gatekeeper.errors import StoreError
from gatekeeper.firewall import lanes
from gatekeeper.firewall.nfqueue import PROC, Queue, holder, parse
from gatekeeper.settings import Mode
from gatekeeper.store.lock import runner

_NETFILTER = Path("/proc/sys/net/netfilter")
_MANY_WAIT = 512


def check(scene: Scene) -> Iterator[Finding]:
    """Look whether `run` is up and has its queues."""
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
        yield from judge(parse(read(PROC) or ""), lanes.all_numbers(scene.rules), pid)


def judge(
    queues: list[Queue], numbers: Sequence[int], pid: int | None, whose: Callable[[int], int | None] = holder
) -> Iterator[Finding]:
    """Say whose our queues are (``pid``: of `run`, if it is up), and what they lost."""
    there = {one.number: one for one in queues}
    by_number = {number: there[number] for number in numbers if number in there}
    missing = [number for number in numbers if number not in by_number]
    if missing and pid is not None:
        hint = "restart `gatekeeper run`, and look at its log"
        yield wrong(f"`gatekeeper run` is up, but nobody has {_name_queues(missing)}: nobody new gets in", hint)
    good: list[int] = []
    for number, ours in by_number.items():
        found = _judge_owner(number, whose(ours.port), pid)
        if found is None:
            good.append(number)
        else:
            yield found
    if good:
        yield ok(f"`run` has {_name_queues(good)}")
    lost = [finding for ours in by_number.values() for finding in _judge_losses(ours)]
    yield from lost
    if by_number and not lost:
        yield ok("no queue of `run`'s has dropped anything since it started")


def _judge_owner(number: int, owner: int | None, pid: int | None) -> Finding | None:
    """Say what is wrong with who has a queue."""
    if owner is None:
        if pid is not None:  # we may not look, and it is likely to be run's
            return None
        hint = "stop it, or choose other queues in the rules: firewall: {queue: N}"
        return wrong(f"queue {number} is taken by another process, and `run` is not up", hint)
    if pid is None or (pid and not _descends(owner, pid)):
        hint = "stop that process, or choose other queues in the rules: firewall: {queue: N}"
        return wrong(f"queue {number} is taken by process {owner} ({_name(owner)}), which is not `run`", hint)
    return None


def _judge_losses(ours: Queue) -> Iterator[Finding]:
    if ours.waiting > _MANY_WAIT:
        hint = "a flood, or a process that hangs: `gatekeeper status` shows what packets met; restart `run` if it hangs"
        yield warning(f"{ours.waiting} packets wait in queue {ours.number}", hint)
    if ours.dropped_full:
        hint = "a flood came faster than it was looked at; knocks may have been among them, and clients knock again"
        words = f"{ours.dropped_full} packets were dropped since `run` started, for queue {ours.number} was full"
        yield warning(words, hint)
    if ours.dropped_unsent:
        now = (read("/proc/sys/net/core/rmem_max") or "?").strip()
        hint = f"let sockets have longer buffers (sysctl net.core.rmem_max, now {now}); clients knock again"
        words = f"{ours.dropped_unsent} packets were dropped since `run` started, for the socket buffer of queue"
        yield warning(f"{words} {ours.number} was full", hint)


def _name_queues(numbers: Sequence[int]) -> str:
    """Write several numbers, in their order, those of a row as a row."""
    rows: list[tuple[int, int]] = []
    for number in numbers:
        if rows and rows[-1][1] == number - 1:
            rows[-1] = (rows[-1][0], number)
        else:
            rows.append((number, number))
    words = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in rows)
    return f"queue{'s' if len(numbers) > 1 else ''} {words}"


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
