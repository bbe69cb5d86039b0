"""Sends what a machine without a firewall would answer to the packets that were dropped (``refuse: reset``).

By raw sockets, beside the verdict and never instead of it: whatever becomes of an answer, the packet stays dropped.
Nothing is received; nothing blocks; nothing raises once the sockets are open. What cannot be sent, or is beyond the
budget, is silence, as without ``refuse: reset``. Linux would give the IPv6 resets to different ports different flow
labels; these share one for each pair of addresses.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from gatekeeper.errors import FirewallError
from gatekeeper.networks import Address
from gatekeeper.packet import ICMP, ICMPV6, TCP, UDP
from gatekeeper.rejection import Rejection, rejection

RESETS_PER_SECOND = 500
"""TCP, both IP versions together. Linux knows no limit; but a flood that is answered is sent twice."""
RESETS_PER_TARGET = 100
UNREACHABLES_PER_SECOND = 100
"""ICMP and ICMPv6, each. Linux takes 1000 (net.ipv4.icmp_msgs_per_sec), for all ports and kinds of errors together."""
UNREACHABLES_PER_TARGET = {4: 1, 6: 10}
"""As Linux, by default: net.ipv4.icmp_ratelimit and net.ipv6.icmp.ratelimit, 1000 and 100 ms; after a burst of 6."""
UNREACHABLES_BURST = 6
_TARGETS = 1024
"""How many targets a budget remembers; it forgets the one that was answered the longest ago."""

_VERSIONS = ((4, socket.AF_INET, ICMP), (6, socket.AF_INET6, ICMPV6))
_ROUNDING = 1e-6  # seconds, where sums of fractions miss what they should meet
_ANSWERED_BY = {(4, TCP): TCP, (6, TCP): TCP, (4, UDP): ICMP, (6, UDP): ICMPV6}
_NOWHERE = {4: "127.71.75.82", 6: "::1"}
"""What the sockets are bound to, so that the kernel does not even copy for them what arrives from outside. What they
send has its own source address."""
# Python has no names for these: linux/in.h, asm-generic/socket.h, linux/icmpv6.h
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT, _IP_PMTUDISC_DO, _IP_PKTINFO = 10, 0, 2, 8
_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75
_SO_ATTACH_FILTER = 26
_ICMP6_FILTER = 1
_FILTER = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""A packet filter (BPF) of one instruction: keep 0 bytes."""


IsKept = Callable[[bytes, bytes, bytes], bool]
"""Asked with a packet's source, destination (packed) and ports (as its header has them)."""


class Refusals:
    """One raw socket for each protocol and IP version that this machine has."""

    def __init__(
        self, *, mark: int, is_kept: IsKept | None = None, on_behalf_of: Iterable[Address] = (), among: int = 1
    ) -> None:
        """Open them; what they send has this mark, by which our ruleset lets it leave.

        ``on_behalf_of``: the hosts behind this machine in whose name it refuses, too. ``among`` so many workers what
        may be sent in all is divided; what may be sent to one target is not, for one target's packets meet one worker.

        ``is_kept`` says of which connections a packet may be that outlive their grants. Such a packet is dropped when
        connection tracking cannot place it (it came late, say), and a reset for it would end the connection.

        Raises:
            FirewallError: we may not.
        """
        self._is_kept = is_kept
        self.sent = self.failed = self.withheld = 0
        """Answers that left, that the kernel refused, and that were beyond the budget."""
        icmp = {
            version: Budget(UNREACHABLES_PER_SECOND / among, each, UNREACHABLES_BURST)
            for version, each in UNREACHABLES_PER_TARGET.items()
        }
        self._budgets = {
            TCP: Budget(RESETS_PER_SECOND / among, RESETS_PER_TARGET, RESETS_PER_TARGET),
            ICMP: icmp[4],
            ICMPV6: icmp[6],
        }
        self._others = frozenset(address.packed for address in on_behalf_of)
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._for_others: dict[tuple[int, int], socket.socket] = {}
        for version, family, unreachable in _VERSIONS:
            for protocol in (TCP, unreachable):
                try:
                    self._sockets[version, protocol] = _deaf(family, protocol, mark)
                    if self._others:
                        self._for_others[version, protocol] = _transparent(_deaf(family, protocol, mark))
                except OSError as error:
                    if version == 6 and error.errno == errno.EAFNOSUPPORT:
                        continue
                    self.close()
                    hint = "run it as root (CAP_NET_RAW and CAP_NET_ADMIN), or take out refuse: reset"
                    message = f"cannot open a raw socket to refuse packets with: {error.strerror}"
                    raise FirewallError(message, hint, errno=error.errno) from error

    def send(self, raw: bytes) -> None:
        """Answer an IP packet that was dropped, if a machine would."""
        now = time.monotonic()
        if self._is_in_vain(raw, now):  # in a flood this is all that is done
            self.withheld += 1
            return
        answer = rejection(raw)
        if answer is None or _needs_its_link(answer):
            return
        if not self._budgets[answer.protocol].take(answer.destination, now=now):
            self.withheld += 1
            return
        try:
            if answer.protocol == TCP and self._is_kept is not None:
                sender, receiver, ports = answer.destination, answer.source, answer.message
                if self._is_kept(sender, receiver, ports[2:4] + ports[:2]):
                    return
            self._send(answer)
            self.sent += 1
        except (OSError, KeyError, FirewallError):  # no route, not our address (any more), no IPv6 here: silence
            self.failed += 1

    def _is_in_vain(self, raw: bytes, now: float) -> bool:
        if len(raw) < 20:
            return False
        version = raw[0] >> 4
        protocol = _ANSWERED_BY.get((version, raw[9] if version == 4 else raw[6]))
        return protocol is not None and self._budgets[protocol].is_spent(now=now)

    def _send(self, answer: Rejection) -> None:
        traffic_class = struct.pack("=i", answer.traffic_class)
        if len(answer.source) == 4:
            family, version, level = socket.AF_INET, 4, socket.IPPROTO_IP
            info = (level, _IP_PKTINFO, struct.pack("=i4s4s", 0, answer.source, b""))
            kind = (level, socket.IP_TOS, traffic_class)
        else:
            family, version, level = socket.AF_INET6, 6, socket.IPPROTO_IPV6
            info = (level, socket.IPV6_PKTINFO, answer.source + bytes(4))
            kind = (level, socket.IPV6_TCLASS, traffic_class)
        peer = (socket.inet_ntop(family, answer.destination), 0)
        one = (self._for_others if answer.source in self._others else self._sockets)[version, answer.protocol]
        one.sendmsg([answer.message], [info, kind], socket.MSG_DONTWAIT, peer)

    def close(self) -> None:
        """Close the sockets."""
        for one in (*self._sockets.values(), *self._for_others.values()):
            one.close()


class Budget:
    """So many a second in all, after a burst of as many; and so many to each target, after a burst of its own.

    Two kinds of token bucket, each kept as the time at which it is full again. The targets have their own, so that
    nobody can use up with packets in another's name what all are answered from (RFC 1812, 4.3.2.8; CVE-2020-25705).
    """

    def __init__(self, total: float, each: int, burst: int) -> None:
        self._token, self._tokens = 1 / total, 1.0
        self._each_token, self._each_tokens = 1 / each, burst / each
        self._full = 0.0
        self._full_for: OrderedDict[bytes, float] = OrderedDict()

    def is_spent(self, *, now: float) -> bool:
        """Tell whether nothing is left for anybody."""
        return max(self._full, now) + self._token > now + self._tokens + _ROUNDING

    def take(self, target: bytes, *, now: float) -> bool:
        """Take one; ``False`` if nothing is left."""
        full_for = max(self._full_for.get(target, now), now) + self._each_token
        if full_for > now + self._each_tokens + _ROUNDING or self.is_spent(now=now):
            return False
        self._full = max(self._full, now) + self._token
        self._full_for[target] = full_for
        self._full_for.move_to_end(target)
        if len(self._full_for) > _TARGETS:
            self._full_for.popitem(last=False)
        return True


def _needs_its_link(answer: Rejection) -> bool:
    """Tell whether an address is link-local: IPv6 has it on every link, and nobody told us on which."""
    return len(answer.source) == 16 and any(
        address[0] == 0xFE and address[1] & 0xC0 == 0x80 for address in (answer.source, answer.destination)
    )


def _transparent(one: socket.socket) -> socket.socket:
    """Let a socket send from addresses that are not this machine's."""
    if one.family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    return one


def _deaf(family: socket.AddressFamily, protocol: int, mark: int) -> socket.socket:
    """Open a raw socket that receives nothing: else the kernel would copy to it every packet of its protocol."""
    one = socket.socket(family, socket.SOCK_RAW, protocol)
    try:
        one.settimeout(0.0)
        program = ctypes.create_string_buffer(_FILTER)
        one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
        one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        if protocol == ICMPV6:
            one.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, b"\xff" * 32)  # multicast comes to bound sockets too
        if family == socket.AF_INET:
            # As Linux: a reset has DF and no identification, an error has an identification and no DF.
            discover = _IP_PMTUDISC_DO if protocol == TCP else _IP_PMTUDISC_DONT
            one.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discover)
        with contextlib.suppress(OSError):  # loopback is not up: then the filter does it
            one.bind((_NOWHERE[4 if family == socket.AF_INET else 6], 0))
        with contextlib.suppress(BlockingIOError):  # what came before the filter
            while one.recv(1):
                pass
    except OSError:
        one.close()
        raise
    return one
