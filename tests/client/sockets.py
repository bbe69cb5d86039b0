"""Sockets for tests without root: what asks for a ping socket or a raw one is written down, and may be refused."""

from __future__ import annotations

import socket
from typing import Any, ClassVar

from gatekeeper.client.packets import ICMP, ICMPV6, TCP

DGRAM, RAW = socket.SOCK_DGRAM, socket.SOCK_RAW


class Recorder(socket.socket):
    """A socket that sends nothing if it is a ping socket or a raw one. For loopback: it is a UDP socket inside."""

    asked: ClassVar[list[tuple[int, int, int]]]
    """Family, type and protocol of those that were asked for."""
    sent: ClassVar[list[tuple[str, str, bytes]]]
    """From where, to where, and what."""
    refused: ClassVar[dict[int, OSError]]
    """By type."""
    held: ClassVar[set[int]]
    """TCP ports that were bound when something was sent."""
    bound: ClassVar[list[Recorder]]

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:  # noqa: A002
        self.is_recorded = fileno is None and proto in {ICMP, ICMPV6, TCP}
        if self.is_recorded:
            Recorder.asked.append((family, type, proto))
            if type in Recorder.refused:
                raise Recorder.refused[type]
            type, proto = socket.SOCK_DGRAM, 0  # noqa: A001
        super().__init__(family, type, proto, fileno)

    @classmethod
    def reset(cls) -> None:
        """Forget what was."""
        cls.asked, cls.sent, cls.refused, cls.held, cls.bound = [], [], {}, set(), []

    def bind(self, address: Any) -> None:
        """Bind it, and remember it."""
        super().bind(address)
        Recorder.bound.append(self)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send it, or write it down."""
        if not self.is_recorded:
            return super().send(data, flags)
        streams = [one for one in Recorder.bound if one.fileno() != -1 and one.type == socket.SOCK_STREAM]
        Recorder.held |= {one.getsockname()[1] for one in streams}
        Recorder.sent.append((self.getsockname()[0], self.peer, bytes(data)))
        return len(data)

    def connect(self, address: Any) -> None:
        """Connect it; a raw socket knows no port."""
        super().connect((address[0], 9) if self.is_recorded else address)
        self.peer = str(address[0])
        if self.is_recorded:
            assert address[1] == 0
