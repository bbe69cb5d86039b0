"""What a contestant must be able to do, so that all are measured by the same code."""

from __future__ import annotations

import abc
import enum
import random
from pathlib import Path
from typing import ClassVar, NamedTuple

from bench import packets
from bench.bed import KNOCK_PORT, TARGET, Bed, source
from bench.processes import Daemon

HERE = Path(__file__).parent
ATTACKER = source(0, is_junk=True)
_RING = 4096


class Shape(enum.StrEnum):
    """Kinds of junk."""

    RANDOM = "random"
    """Bytes at random, of lengths at random."""
    SHAPE = "right shape"
    """As long as a knock, and of the same alphabet."""
    REPLAY = "replays"
    """Knocks that were captured, and have been used."""
    TAGS = "captured tags"
    """What begins as a captured knock, and goes on at random."""
    SPOOFED = "spoofed"
    """Bytes at random, each from another address."""
    SPOOFED_TAGS = "captured tags, spoofed"
    """What begins as a captured knock, each from another address."""

    @property
    def is_spoofed(self) -> bool:
        """Whether each packet comes from another address."""
        return self in {Shape.SPOOFED, Shape.SPOOFED_TAGS}


class Hit(NamedTuple):
    """One packet of a knock; with no payload, a TCP SYN."""

    port: int
    payload: bytes | None


Knock = tuple[Hit, ...]


class Contestant(abc.ABC):
    """A server that opens a port to whoever knocks, and its client."""

    title: ClassVar[str]
    """The program and its variant, without a word about tuning."""

    def __init__(self, bed: Bed, *, is_tuned: bool = False, clients: int = 1) -> None:
        """Write its configuration, for so many clients, of which the last one will knock."""
        self.bed, self.is_tuned, self.clients = bed, is_tuned, clients
        self.directory = bed.directory
        self.random = random.Random(1)
        self.configure()

    @abc.abstractmethod
    def configure(self) -> None:
        """Write what it is started with."""

    @abc.abstractmethod
    def start(self) -> Daemon:
        """Start it; it is ready when this returns, and ends with the bed."""

    def make_ready(self, knocks: int) -> None:
        """Make so many knocks ahead, where that takes long."""
        del knocks

    @abc.abstractmethod
    def knock(self) -> Knock:
        """Make a good knock of now, which has not been used."""

    @abc.abstractmethod
    def grant_many(self, count: int) -> None:
        """Have so many grants open."""

    @abc.abstractmethod
    def client(self) -> list[str]:
        """Return the command line of its client program."""

    def junk(self, shape: Shape, captured: list[Knock]) -> list[bytes]:
        """Build junk of a kind, as IP packets; ``captured`` are knocks that somebody has seen, and that are spent."""
        ring = []
        for number in range(_RING):
            sender = source(self.random.randrange(32_000), is_junk=True) if shape.is_spoofed else ATTACKER
            old = captured[number % len(captured)][0].payload if captured else None
            payload = self._payload(shape, old or b"")
            ports = (self.random.randrange(1024, 65536), KNOCK_PORT)
            ring.append(packets.udp(payload, source=sender, target=TARGET, ports=ports))
        return ring

    def _payload(self, shape: Shape, old: bytes) -> bytes:
        match shape:
            case Shape.REPLAY:
                return old
            case Shape.TAGS | Shape.SPOOFED_TAGS:
                kept = min(12, len(old))
                return old[:kept] + self.noise(len(old) - kept)
            case Shape.SHAPE:
                return self.noise(len(old))
        return self.random.randbytes(self.random.randrange(16, 256))

    def noise(self, length: int) -> bytes:
        """Make bytes at random that look like those of a knock."""
        return self.random.randbytes(length)

    def python_packets(self) -> int | None:
        """Count the packets that have met the program's own code, where the kernel tells."""
        return None
