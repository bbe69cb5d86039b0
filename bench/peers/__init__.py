"""The contestants: a file for each, and each as it is shipped and as far tuned as its manual allows."""

from __future__ import annotations

from bench.bed import Bed
from bench.peers.contestant import Contestant
from bench.peers.fwknopd_pcap import FwknopdPcap
from bench.peers.fwknopd_udp import FwknopdUdp
from bench.peers.gatekeeper import Gatekeeper
from bench.peers.knockd import Knockd

CONTESTANTS: dict[str, tuple[type[Contestant], bool]] = {
    "gatekeeper": (Gatekeeper, False),
    "fwknopd pcap": (FwknopdPcap, False),
    "fwknopd pcap, tuned": (FwknopdPcap, True),
    "fwknopd UDP": (FwknopdUdp, False),
    "fwknopd UDP, tuned": (FwknopdUdp, True),
    "knockd": (Knockd, False),
    "knockd, tuned": (Knockd, True),
}
"""Each by the name that the report has for it. (gatekeeper is measured as it comes; there is nothing to tune.)"""


def make(name: str, bed: Bed, *, clients: int = 1) -> Contestant:
    """Make a contestant that is configured, and has not been started."""
    kind, is_tuned = CONTESTANTS[name]
    return kind(bed, is_tuned=is_tuned, clients=clients)
