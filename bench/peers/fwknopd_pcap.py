"""fwknopd as Debian runs it: it hears knocks by libpcap, and its firewall drops them."""

from __future__ import annotations

from bench.peers.fwknopd import Fwknopd


class FwknopdPcap(Fwknopd):
    """Listens on the interface."""

    title = "fwknopd pcap"
    files = "fwknopd-pcap"
    started = "Starting fwknopd main event loop"

    def open_knock_port(self) -> None:
        """Do nothing: what libpcap sees need not get through."""
