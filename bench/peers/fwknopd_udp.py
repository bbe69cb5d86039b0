"""fwknopd as a UDP server."""

from __future__ import annotations

from bench.bed import KNOCK_PORT
from bench.peers.fwknopd import Fwknopd


class FwknopdUdp(Fwknopd):
    """Has a socket on the knock port."""

    title = "fwknopd UDP"
    files = "fwknopd-udp"
    started = "Kicking off UDP server"

    def open_knock_port(self) -> None:
        """Let its socket hear knocks."""
        self.bed.run("iptables", "-A", "INPUT", "-p", "udp", "--dport", str(KNOCK_PORT), "-j", "ACCEPT")
