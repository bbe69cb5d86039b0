"""Connects behind a knock, and does not give up at the first lost packet.

A TCP that has lost its SYN sends it again after a second. We do not wait for that: when nothing has answered
after 150 ms, a fresh knock goes out and a second socket tries, then with growing pauses, up to a limit. The
earlier sockets stay in the race.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable, Sequence

from gatekeeper.client import addresses
from gatekeeper.client.addresses import Target
from gatekeeper.errors import ClientError, UnreachableError

FIRST_PAUSE = 0.15
"""Seconds after the first knock until the second, and until the third; then each pause is twice the one before."""
LIMIT = 10.0
"""Seconds after which it is given up."""
_FAILED_ROUNDS = 4
"""Rounds in which nothing at all may work: a door may need a moment to open, and a network a moment to be there."""


class Race:
    """The sockets that try to connect; the first one to do so wins, and the others are closed."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.failures: dict[str, str] = {}
        self.trying = 0

    def enter(self, target: Target) -> socket.socket | None:
        """Let one more socket try; return it if it is connected already."""
        family, where = target
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self.failures[where[0]] = error.strerror or str(error)
            return None
        one.setblocking(False)  # noqa: FBT003
        result = one.connect_ex(where)
        if result == 0:
            return one
        if result != errno.EINPROGRESS and result != getattr(errno, "WSAEWOULDBLOCK", None):
            self.failures[where[0]] = _words(result)
            one.close()
            return None
        self._selector.register(one, selectors.EVENT_WRITE, where[0])
        self.trying += 1
        return None

    def wait(self, seconds: float) -> socket.socket | None:
        """Wait until one is connected, all have failed, or the time is up."""
        deadline = time.monotonic() + seconds
        while self.trying and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                one, address = key.fileobj, key.data
                assert isinstance(one, socket.socket)  # noqa: S101  (for the type checker: we registered it)
                self._selector.unregister(one)
                self.trying -= 1
                result = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if result == 0:
                    return one
                self.failures[address] = _words(result)
                one.close()
        return None

    def close(self) -> None:
        """Close those that did not win."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def connect(
    targets: Sequence[Target],
    port: int,
    knock: Callable[[bool], None],
    *,
    limit: float = LIMIT,
    is_patient: bool = False,
) -> socket.socket:
    """Knock and connect to a port of any of the addresses; return the connected socket, in blocking mode.

    ``knock`` sends fresh knocks to all of them; it is told whether it is the first try. ``is_patient``: what is
    refused is tried again up to the limit, too.

    Raises:
        ClientError: nothing answered within ``limit`` seconds, or all that answered refused.
    """
    race = Race()
    deadline = time.monotonic() + limit
    pause, rounds, failed = FIRST_PAUSE, 0, 0
    try:
        while True:
            error = _try(knock, is_first=rounds == 0)
            # The first try leaves the other addresses alone: a server should not see two connections without need.
            won = _enter(race, [addresses.at_port(target, port) for target in targets], only_one=rounds == 0)
            won = won or race.wait(min(pause, max(0.0, deadline - time.monotonic())))
            if won is not None:
                return _ready(won)
            failed = 0 if race.trying else failed + 1
            rest = deadline - time.monotonic()
            if rest <= 0 or (failed >= _FAILED_ROUNDS and not is_patient):
                raise error or _gave_up(race, targets, port, limit)
            if not race.trying and rounds:
                time.sleep(min(pause, rest))
            if rounds:
                pause *= 2
            rounds += 1
    finally:
        race.close()


def _ready(won: socket.socket) -> socket.socket:
    """Set up the socket as ssh does its own: nothing waits to be sent, and a peer that is gone is noticed."""
    won.setblocking(True)  # noqa: FBT003
    won.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    won.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return won


def _try(knock: Callable[[bool], None], *, is_first: bool) -> UnreachableError | None:
    """Knock; return what went wrong, for the next knock may get through."""
    try:
        knock(is_first)
    except UnreachableError as error:
        return error
    return None


def _enter(race: Race, targets: Sequence[Target], *, only_one: bool) -> socket.socket | None:
    for target in targets:
        before = race.trying
        won = race.enter(target)
        if won is not None:
            return won
        if only_one and race.trying > before:
            break
    return None


def _gave_up(race: Race, targets: Sequence[Target], port: int, limit: float) -> ClientError:
    names = list(dict.fromkeys(address for _, (address, _) in targets))
    if race.failures:
        words = "; ".join(f"{address}: {race.failures.get(address, 'no answer')}" for address in names)
        hint = "if it is `connection refused`, the way is open, but nothing listens there"
        return ClientError(f"cannot connect to tcp/{port}: {words}", hint)
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    hint = (
        f"is this clock right ({clock} UTC)? does the server know this key? may knocks pass the networks between? "
        "do they leave from the address that they name (--source none, behind NAT)? the server's log says more"
    )
    return ClientError(f"no answer from tcp/{port} of {', '.join(names)} within {limit:g} s, for all the knocks", hint)


def _words(code: int) -> str:
    import os  # noqa: PLC0415

    return os.strerror(code).lower()
