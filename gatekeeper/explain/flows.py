"""Connections that were let in, as the kernel keeps them by its marks: they live on when their grant ends. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

from gatekeeper.networks import Source
from gatekeeper.packet import Header

_MOST = 65_536
"""Beyond it, the one that has been silent for longest is forgotten."""


class Flow(NamedTuple):
    """Who speaks with whom. Addresses are packed."""

    service: str
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


def flow_of(service: str, header: Header) -> Flow:
    """Name the flow of a packet to a service."""
    return Flow(service, header.source, header.source_port, header.destination, header.destination_port)


class Flows:
    """Those that were let in: open, or cut since."""

    def __init__(self) -> None:
        self._is_open: OrderedDict[Flow, bool] = OrderedDict()

    def let_in(self, flow: Flow) -> None:
        """Note that a flow was let in."""
        self._is_open[flow] = True
        self._is_open.move_to_end(flow)
        if len(self._is_open) > _MOST:
            self._is_open.popitem(last=False)

    def is_open(self, flow: Flow) -> bool | None:
        """Whether a flow that was let in is open; ``None``: none was seen to be let in."""
        found = self._is_open.get(flow)
        if found is not None:
            self._is_open.move_to_end(flow)
        return found

    def cut(self, service: str, source: Source, *, spare: Callable[[bytes], bool]) -> None:
        """Cut the flows of a source to a service, but for addresses (packed) to ``spare``."""
        for flow in self._is_open:
            if flow.service == service and ip_address(flow.source) in source and not spare(flow.source):
                self._is_open[flow] = False
