"""``gatekeeper run --dry-run``: the simple variant. No root, no firewall, any system with Python.

It listens on the knock port as a UDP socket, asks the same gate, and logs what the real one would do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from gatekeeper import observe, rules, serverkeys
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import UsageError
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.model import Datagram
from gatekeeper.networks import Address, Source
from gatekeeper.protocols import Member
from gatekeeper.settings import Rules, ServerKey, Service, Via
from gatekeeper.store.sqlite import SqliteStore

_LONGEST = 65_535
_TICK = 0.5


class NoFirewall:
    """A backend that does nothing."""

    keeps_time = really_cuts = True

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Do nothing."""

    def change(self, put: Mapping[Member, int | None], remove: Iterable[Member]) -> dict[Member, str]:  # noqa: ARG002
        """Do nothing."""
        return {}

    def members(self, service: str) -> list[Source]:  # noqa: ARG002
        """Let nobody in."""
        return []

    def sizes(self, services: Iterable[str]) -> dict[tuple[str, int], int]:  # noqa: ARG002
        """Have nothing to count."""
        return {}

    def timeouts(self, service: str) -> dict[Source, int | None]:  # noqa: ARG002
        """Let nobody in."""
        return {}

    def mend_networks(self, rules: Rules) -> list[str]:  # noqa: ARG002
        """Do nothing."""
        return []

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:  # noqa: ARG002
        """Cut nothing."""
        return 0


def run(rules_file: Path, state_dir: Path | None = None) -> None:
    """Log what ``run`` would do about each knock, until SIGTERM or Ctrl-C.

    The server's key is that of the state directory; where we may not write there, one for this time only.
    """
    the_rules, problems = rules.load(rules_file)
    observe.warnings(problems)
    _say_what_is_not_heard(the_rules)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        sockets = [stack.enter_context(one) for port in the_rules.knock_ports for one in _listen(port)]
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatekeeper-")))
        store = SqliteStore(directory)
        stack.callback(store.close)
        keeps_key = state_dir is not None and os.access(state_dir, os.R_OK | os.W_OK | os.X_OK)
        keys = serverkeys.load(the_rules, state_dir if state_dir is not None and keeps_key else directory)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _serve(the_rules, store, sockets, keys)
    observe.message("stopped")


def _serve(the_rules: Rules, store: SqliteStore, sockets: list[socket.socket], keys: tuple[ServerKey, ...]) -> None:
    enforcer = Enforcer(the_rules, store, NoFirewall(), lock=contextlib.nullcontext)
    enforcer.restore(now=time.time())
    formats = enabled(the_rules, keys, now=time.time())
    gate = Gate(the_rules, formats, enforcer.allowlist, replays=enforcer.replays)
    observer = observe.Observer(is_trial=True)
    places = ", ".join(f"udp/{port}" for port in the_rules.knock_ports)
    observe.message(f"dry run, no firewall is touched; listening for knocks on {places}; ready")
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(_TICK):
                assert isinstance(key.fileobj, socket.socket)  # noqa: S101  (for the type checker: we registered it)
                _receive(key.fileobj, gate, enforcer, observer)
            now = time.time()
            for form in formats:
                form.renew(now=now)
            observer.sum_up()
            observer.changed("would-expire", enforcer.expire(now=now), now=now)


def _say_what_is_not_heard(the_rules: Rules) -> None:
    if Via.UDP not in the_rules.via:
        hint = "add udp to `via:` of knock, for the trial"
        raise UsageError("a dry run hears knocks by udp only, and these rules have none", hint)
    others = sorted(way.value for way in the_rules.via - {Via.UDP})
    if the_rules.has_sequences:
        others.append("port sequences")
    if others:
        observe.message(f"knocks by {', '.join(others)} are not heard in a dry run", level=logging.WARNING)


def _receive(one: socket.socket, gate: Gate, enforcer: Enforcer, observer: observe.Observer) -> None:
    try:
        payload, peer = one.recvfrom(_LONGEST)
    except OSError:  # Windows reports here that an earlier answer bounced; we send none
        return
    now = time.time()
    address = ip_address(peer[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    local = ip_address("0.0.0.0" if address.version == 4 else "::")  # noqa: S104  (no binding: the address is not known)
    decision = gate.judge(Datagram(address, local, peer[1], one.getsockname()[1], payload), now=now)
    if decision.effect is None:
        observer.refused_datagram(decision, {"source": str(address), "bytes": len(payload)})
        return
    (outcome,) = enforcer.carry_out([decision.effect], now=now)
    if outcome.refused is not None:
        observer.refused_datagram(replace(decision, reason=outcome.refused), {"source": str(address)})
        return
    observer.changed("would-open" if outcome.admitted else "would-close", outcome, now=now)
    if not outcome.admitted and not outcome.ended:
        observe.event("would-close", {"client": decision.client, "source": str(address), "note": "nothing was open"})


def _listen(port: int) -> Iterator[socket.socket]:
    errors = []
    opened = 0
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104  (as the real one)
        try:
            one = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            errors.append(error)
            continue
        try:
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address, port))
        except OSError as error:
            one.close()
            errors.append(error)
            continue
        opened += 1
        yield one
    for problem in errors if opened else ():
        observe.message(f"udp/{port} is not heard over both IP versions: {problem.strerror}", level=logging.WARNING)
    if not opened:
        words = errors[0].strerror if errors else "no address family"
        raise UsageError(f"cannot listen on udp/{port}: {words}", "choose another port with knock: {port: udp/N}")
