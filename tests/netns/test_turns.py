"""A lane's turn ends by time as well: some packets cost a look at a thousand keys, and other lanes wait."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from netfilterqueue import Packet

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from gatekeeper.firewall.nfqueue import Left
from gatekeeper.inlet import Inlet
from tests.netns.site import SERVER, Site, wait_until

QUEUE = 5000


def a_second_at_each_look() -> Callable[[], float]:
    """Make a clock that needs nobody to wait."""
    return itertools.count(0.0, 1.0).__next__


@pytest.mark.parametrize(("budget", "seconds", "taken"), [(64, 4, 3), (2, 4, 2), (64, 100, 10)])
def test_a_turn_takes_so_many_packets_and_none_when_its_time_is_over(
    site: Site, budget: int, seconds: float, taken: int
) -> None:
    site.shell("iptables", "-t", "mangle", "-A", "INPUT", "-p", "udp", "-j", "NFQUEUE", "--queue-num", str(QUEUE))
    with inside(site.server):
        inlet = Inlet(QUEUE, clock=a_second_at_each_look())
    seen: list[bytes] = []

    def look(packet: Packet) -> None:
        seen.append(packet.get_payload())
        packet.drop()

    try:
        inlet.serve(look, left=Left.DROP)
        for number in range(10):
            probe.send(site.client, SERVER[4], b"%d" % number)
        wait_until(lambda: site.queued() >= 10)
        inlet.receive(budget, seconds)
        assert len(seen) == taken
        while len(seen) < 10:
            inlet.receive(budget, seconds)
        assert [packet[-1:] for packet in seen] == [b"%d" % number for number in range(10)], "what was left comes next"
    finally:
        inlet.close()
