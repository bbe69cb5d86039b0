"""The flood: sends the same packets over and over, as fast as it may, and says how many it has sent.

`python -m bench.sender`, with one line of JSON and then the packets on standard input. It puts whole IP packets on an
interface (AF_PACKET), 64 with a system call (sendmmsg(2)), which Python has no word for. It ends by itself: after so
many seconds, after so many packets, or with SIGTERM; and prints what it has done.
"""

from __future__ import annotations

import ctypes
import errno
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Protocol

MOST_SECONDS, MOST_PACKETS = 30.0, 20_000_000
_BATCH = 64
_IPV4 = 0x0800
_QDISC_BYPASS = 20  # linux/if_packet.h
_SOL_PACKET = 263


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """A struct mmsghdr of 64 bits: sendmmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_uint32),
        ("sent", ctypes.c_uint32),
    )


class Sender:
    """Packets that are ready to be sent, in a ring."""

    def __init__(self, interface: str, neighbour: bytes, packets: Sequence[bytes]) -> None:
        # The ring is as long as a batch at least, and begins anew at its end.
        whole = list(packets) * -(-_BATCH // len(packets))
        self.length = len(whole)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.socket.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        index = socket.if_nametoindex(interface)
        self._to = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(_IPV4), index, 0, 0, 6, neighbour)
        self._name = ctypes.create_string_buffer(self._to, len(self._to))
        self._vectors = (_Vector * self.length)(*(_Vector(one, len(one)) for one in whole))
        self._whole = whole  # c_char_p keeps no reference of its own
        self._messages = (_Message * self.length)()
        for vector, message in zip(self._vectors, self._messages, strict=True):
            message.name, message.name_length = ctypes.addressof(self._name), len(self._to)
            message.vectors, message.count = ctypes.pointer(vector), 1
        self._send = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._place = 0

    def send(self, most: int) -> int:
        """Send the next packets, up to so many; return how many it were."""
        count = min(most, self.length - self._place)
        done: int = self._send(self.socket.fileno(), ctypes.byref(self._messages[self._place]), count, 0)
        if done < 0:
            if ctypes.get_errno() not in {errno.ENOBUFS, errno.EAGAIN, errno.EINTR}:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            return 0
        self._place = (self._place + done) % self.length
        return done


class Sends(Protocol):
    """Whoever sends: a sender."""

    def send(self, most: int) -> int:
        """Send up to so many packets; return how many it were."""
        ...


def flood(sender: Sends, *, rate: float | None, seconds: float, is_over: list[bool]) -> tuple[int, float]:
    """Send for a time, at so many packets a second, or as fast as it goes."""
    sent, begin = 0, time.monotonic()
    batch = _BATCH if rate is None else max(1, min(_BATCH, int(rate / 500)))
    while not is_over and sent < MOST_PACKETS:
        passed = time.monotonic() - begin
        if passed >= seconds:
            break
        if rate is not None and sent > rate * passed:
            time.sleep(min(sent / rate - passed, 0.05))
            continue
        sent += sender.send(batch)
    return sent, time.monotonic() - begin


def main() -> None:
    """Read what to send, send it, and say how much it was."""
    is_over: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: is_over.append(True))
    plan = json.loads(sys.stdin.buffer.readline())
    packets = [sys.stdin.buffer.read(length) for length in plan["lengths"]]
    sender = Sender(plan["interface"], bytes.fromhex(plan["neighbour"]), packets)
    print("up", flush=True)
    seconds = min(plan["seconds"], MOST_SECONDS)
    sent, passed = flood(sender, rate=plan["rate"], seconds=seconds, is_over=is_over)
    print(json.dumps({"sent": sent, "seconds": passed}), flush=True)


if __name__ == "__main__":
    main()
