"""Sends knocks: a fresh one to each address of a server, and reads the answers where there are some."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence

from gatekeeper.client import addresses, stamps
from gatekeeper.client.addresses import Target
from gatekeeper.errors import ClientError, UnreachableError
from gatekeeper.sealed import keys, wire
from gatekeeper.sealed.noise import Handshake

AUTO, NONE, OWN = "auto", "none", "own"
_HARMLESS = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EHOSTUNREACH})
"""What an address of a family says that this machine does not have: no news, if another one was reached."""


class Knock:
    """A datagram to send, and what its answer would belong to."""

    def __init__(self, datagram: bytes, handshake: Handshake | None = None) -> None:
        self.datagram, self.handshake = datagram, handshake


class Ask:
    """What a knock asks for.

    ``service``: ``None`` for all that the key may open. ``ttl``: seconds, 0 for what the server has. ``source``:
    ``auto``, ``own``, ``none`` or an address.
    """

    def __init__(self, *, close: bool = False, service: str | None = None, ttl: int = 0, source: str = AUTO) -> None:
        self.close, self.service, self.ttl, self.source = close, service, ttl, source


class Maker:
    """Makes a knock from an address of ours to one of the server's."""

    warnings: dict[str, None]
    is_unsure = False
    """Whether the server may see another address than a knock has named."""

    def make(self, local: str, server: str, *, is_first_try: bool) -> Knock:
        """Make a fresh one."""
        raise NotImplementedError


class PlainMaker(Maker):
    """Makes the same plain knock again and again."""

    def __init__(self, datagram: bytes) -> None:
        self._knock = Knock(datagram)
        self.warnings = {}

    def make(self, local: str, server: str, *, is_first_try: bool) -> Knock:  # noqa: ARG002
        """Return it."""
        return self._knock


class SealedMaker(Maker):
    """Seals a fresh knock each time."""

    def __init__(self, private: bytes, server_key: bytes, ask: Ask) -> None:
        self._sealer = wire.Sealer(private, server_key)
        self._public = keys.public_of(private)
        self._action = wire.CLOSE if ask.close else wire.OPEN
        self._service = wire.ANY_SERVICE if ask.service is None else wire.service_id(ask.service)
        self._ttl, self._source = ask.ttl, ask.source
        self.warnings = {}

    def make(self, local: str, server: str, *, is_first_try: bool) -> Knock:
        """Seal one."""
        stamp, warning = stamps.take(self._public)
        if warning is not None:
            self.warnings[warning] = None
        payload = wire.Payload(
            action=self._action,
            ttl=self._ttl,
            sent_at=stamp,
            address=self._address(local, server, is_first_try=is_first_try),
            service=self._service,
        )
        return Knock(*self._sealer.seal(payload, os.urandom(32), now=time.time()))

    def open_answer(self, handshake: Handshake, message: bytes) -> wire.Answer:
        """Read an answer. Raises ``ValueError`` if it is none."""
        return self._sealer.open_answer(handshake, message)

    def _address(self, local: str, server: str, *, is_first_try: bool) -> bytes:
        if self._source == NONE:
            return wire.ANY_ADDRESS
        if self._source == OWN:
            return wire.pack_address(addresses.packed(local))
        if self._source != AUTO:
            return wire.pack_address(addresses.packed(self._source))
        self.is_unsure = self.is_unsure or addresses.is_unsure(local, server)
        if addresses.can_name(local, server, is_first_try=is_first_try):
            return wire.pack_address(addresses.packed(local))
        return wire.ANY_ADDRESS


class Way:
    """How a knock travels. ``Udp`` is here; the others are in ``ways``, which is imported where they are asked for."""

    def open(self, family: int) -> socket.socket:
        """Make the socket that it goes out by.

        Raises:
            ClientError: this user may not, or this system has none.
        """
        raise NotImplementedError

    def aim(self, one: socket.socket, address: str) -> str:
        """Point the socket at an address of the server's; return the one of ours that the knock will leave from."""
        raise NotImplementedError

    def send(self, one: socket.socket, datagram: bytes, local: str, server: str) -> None:
        """Send a knock by a socket that was aimed, from ``local`` to ``server``."""
        raise NotImplementedError


class Udp(Way):
    """A datagram to the knock port."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __str__(self) -> str:
        return f"udp/{self.port}"

    def open(self, family: int) -> socket.socket:
        """Make it."""
        return socket.socket(family, socket.SOCK_DGRAM)

    def aim(self, one: socket.socket, address: str) -> str:
        """Connect it, so that the kernel says which address of ours leads there."""
        one.connect((address, self.port))
        local: str = one.getsockname()[0]
        return local

    def send(self, one: socket.socket, datagram: bytes, local: str, server: str) -> None:  # noqa: ARG002
        """Send it."""
        one.send(datagram)


class Sent:
    """Where a knock went, and where it could not go (with the reason). Holds the sockets that answers come to."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self._waiting: list[tuple[socket.socket, Handshake, str]] = []
        self.forged = 0
        """How many datagrams have come in an answer's place and were none."""

    def answers(self, maker: SealedMaker, *, timeout: float) -> Iterator[tuple[str, wire.Answer]]:
        """Wait for the answers to these knocks, for ``timeout`` seconds in all; say which address gave each."""
        deadline = time.monotonic() + timeout
        while self._waiting and (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([one for one, _, _ in self._waiting], [], [], left)
            for one, handshake, address in [its for its in self._waiting if its[0] in ready]:
                try:
                    answer = maker.open_answer(handshake, one.recv(2048))
                except OSError:  # a bounce
                    self._forget(one)
                except ValueError:  # anybody can send something
                    self.forged += 1
                else:
                    self._forget(one)
                    yield address, answer

    def keep(self, one: socket.socket, handshake: Handshake, address: str) -> None:
        """Keep a socket for its answer."""
        self._waiting.append((one, handshake, address))

    def close(self) -> None:
        """Close the sockets."""
        while self._waiting:
            self._waiting.pop()[0].close()

    def _forget(self, gone: socket.socket) -> None:
        self._waiting = [its for its in self._waiting if its[0] is not gone]
        gone.close()


def send(
    targets: Sequence[Target], way: Way | int, maker: Maker, *, is_first_try: bool = True, keep_open: bool = False
) -> Sent:
    """Send a fresh knock to each address, by ``way`` (a number: to that UDP port).

    ``keep_open`` the sockets, for the answers, which come by UDP only.

    Raises:
        UnreachableError: no address could be reached.
        ClientError: no knock can be made, or none sent in this way; trying again would not help.
    """
    way = Udp(way) if isinstance(way, int) else way
    sent = Sent()
    harmless: list[tuple[str, str]] = []
    refusal: ClientError | None = None
    for family, (address, _) in targets:
        try:
            one = way.open(family)
        except OSError as error:
            harmless.append((address, error.strerror or str(error)))
            continue
        except ClientError as error:
            refusal = error
            sent.failures.append((address, error.message))
            continue
        try:
            local = way.aim(one, address)
            knock = maker.make(local, address, is_first_try=is_first_try)
            way.send(one, knock.datagram, local, address)
            sent.addresses.append(address)
            if keep_open and knock.handshake is not None:
                sent.keep(one, knock.handshake, address)
                continue
        except OSError as error:
            failed = harmless if error.errno in _HARMLESS else sent.failures
            failed.append((address, error.strerror or str(error)))
        except ClientError:
            one.close()
            sent.close()
            raise
        one.close()
    if not sent.addresses:
        if refusal is not None:
            raise refusal
        words = "; ".join(f"{address}: {reason}" for address, reason in [*sent.failures, *harmless])
        raise UnreachableError(f"the knock could not be sent: {words}", "check the network")
    return sent
