"""Which NFQUEUEs there are: a lane for each kind of packet, and in each lane a queue for each worker. Pure.

Apart, so that a flood of one kind does not stand in front of another: what the kernel has seen to bear a door tag, what
formats without a tag need to have looked at, and what strangers send to protected ports.
"""

from __future__ import annotations

from enum import IntEnum

from gatekeeper.settings import Rules

MAX_WORKERS = 16


class Lane(IntEnum):
    """A kind of packet. The number is its place behind ``firewall: queue``, in steps of ``MAX_WORKERS``."""

    KNOCKS = 0
    """Datagrams to a knock port that bear a door tag; and, where the kernel looks for none, all of them."""
    STRANGERS = 1
    """What is sent to protected ports without a grant."""
    OTHERS = 2
    """What may be a knock of a format that has no tag: datagrams, echo requests, steps of sequences."""


TAKEN = len(Lane) * MAX_WORKERS
"""Numbers from ``firewall: queue`` on that are ours, or will be with more workers."""
_MOST_BY_ITSELF = 4


def workers_for(processors: int) -> int:
    """Say how many workers ``workers: auto`` is: the kernel's own part of a flood takes the other half of a machine."""
    return max(1, min(processors // 2, _MOST_BY_ITSELF))


def all_numbers(rules: Rules) -> list[int]:
    """Name all queues that packets are sent to."""
    return [one for lane in Lane for one in numbers(rules, lane)]


def numbers(rules: Rules, lane: Lane) -> range:
    """Name the queues of a lane, one for each worker."""
    first = rules.firewall.queue + lane * MAX_WORKERS
    return range(first, first + rules.workers)


def number(rules: Rules, lane: Lane, worker: int) -> int:
    """Name the queue that a worker (from 0) has in a lane."""
    return numbers(rules, lane)[worker]


def target(rules: Rules, lane: Lane, *, is_spread: bool = True) -> str:
    """Write the part of an iptables rule that queues to a lane, without ``--queue-bypass``.

    Not ``is_spread``: to its first queue alone. For IPv4 the kernel picks a queue by the protocol as well.
    """
    those = numbers(rules, lane)
    if len(those) == 1 or not is_spread:
        return f"-j NFQUEUE --queue-num {those[0]}"
    return f"-j NFQUEUE --queue-balance {those[0]}:{those[-1]}"
