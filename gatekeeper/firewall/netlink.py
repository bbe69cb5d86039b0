"""Speaks netlink: members of ipsets, connection tracking entries, sockets. The only room with pyroute2.

Each function costs well under a millisecond, where a process would cost one or more.
Sources: linux/netfilter/ipset/ip_set.h, linux/netfilter/nfnetlink_conntrack.h, linux/inet_diag.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv6Address, ip_address

from pyroute2.ipset import IPSet
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
from pyroute2.netlink.diag import DiagSocket, inet_diag_req
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from gatekeeper.errors import FirewallError
from gatekeeper.model import Address, Service, Source, Transport

AddressFilter = Callable[[Address], bool]

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_SOCK_DESTROY = 21
_LISTEN, _TIME_WAIT = 10, 6
_TCP_STATES = 0x1FFF & ~(1 << _LISTEN) & ~(1 << _TIME_WAIT)
_UDP_STATES = 0x1FFF & ~(1 << 7)  # unconnected sockets belong to nobody
_GONE = {errno.ENOENT, errno.EEXIST}
_NOT_A_MEMBER = 4103  # IPSET_ERR_EXIST


class Netlink:
    """Kept-open netlink sockets. Not for several threads at once."""

    def __init__(self) -> None:
        try:
            self._sets = IPSet()
        except (OSError, NetlinkError) as error:
            raise FirewallError(f"ipset over netlink: {error}", "is this kernel built with ipset?") from error
        self._sockets = DiagSocket()

    def close(self) -> None:
        """Close the sockets."""
        self._sets.close()
        self._sockets.close()

    # -- ipset

    def add(self, name: str, source: Source, timeout: int) -> None:
        """Make ``source`` a member for ``timeout`` seconds (0: no limit), replacing the timeout it had."""
        self._ipset("add", name, source, exclusive=False, timeout=timeout)

    def delete(self, name: str, source: Source) -> None:
        """Take a member out; no error if it is none."""
        self._ipset("delete", name, source)

    def _ipset(self, action: str, name: str, source: Source, **options: object) -> None:
        try:
            getattr(self._sets, action)(name, str(source), family=_AF[source.version], etype="net", **options)
        except NetlinkError as error:
            if action == "delete" and error.code == _NOT_A_MEMBER:
                return
            hint = "the ruleset is not in place: start `gatekeeper run`" if error.code in _GONE else None
            raise FirewallError(f"ipset {action} {name} {source}: {error}", hint) from error

    # -- connection tracking

    def forget_flows(self, service: Service, sources: Sequence[Source], is_gone: AddressFilter) -> int:
        """Delete the tracked flows to a service from addresses that are gone; return how many.

        ``sources`` narrows what the kernel is asked for.
        """
        return sum(
            self._forget_flows(service, version, [one for one in sources if one.version == version], is_gone)
            for version in {source.version for source in sources}
        )

    def _forget_flows(self, service: Service, version: int, sources: Sequence[Source], is_gone: AddressFilter) -> int:
        number = 0
        single = len(sources) == 1 and sources[0].num_addresses == 1
        wanted = NFCTAttrTuple(
            family=_AF[version],
            saddr=str(sources[0].network_address) if single else None,
            proto=service.transport.number,
            dport=service.port,
        )
        with NFCTSocket(nfgen_family=_AF[version]) as tracker:
            for flow in list(tracker.dump(tuple_orig=wanted)):
                found = _tuple(flow, version)
                if found is None or (found.proto, found.dport) != (service.transport.number, service.port):
                    continue  # kernels before 5.8 do not filter
                if not is_gone(ip_address(found.saddr)):
                    continue
                try:
                    tracker.entry("del", tuple_orig=found)
                except NetlinkError as error:
                    if error.code != errno.ENOENT:
                        raise FirewallError(f"conntrack: {error}") from error
                number += 1
        return number

    # -- sockets

    def destroy_sockets(self, service: Service, is_gone: AddressFilter) -> int:
        """Destroy this machine's connected sockets of a service, as ``ss -K`` does; return how many.

        A TCP peer is sent a reset. Needs a kernel with CONFIG_INET_DIAG_DESTROY (all of Debian's).
        """
        number = 0
        for found in self._connected(service):
            peer = _unmapped(ip_address(str(found["idiag_dst"])))
            if not is_gone(peer):
                continue
            request = inet_diag_req()
            for key in ("idiag_sport", "idiag_dport", "idiag_if", "idiag_cookie"):
                request[key] = found[key]
            request["idiag_src"], request["idiag_dst"] = _words(found["idiag_src"]), _words(found["idiag_dst"])
            request["idiag_states"] = _TCP_STATES
            request["sdiag_family"], request["sdiag_protocol"] = found["idiag_family"], service.transport.number
            try:
                list(self._sockets.nlm_request(request, _SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK))
                number += 1
            except NetlinkError as error:
                if error.code == errno.EOPNOTSUPP:
                    hint = "this kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY is off)"
                    raise FirewallError("open connections could not be cut", hint) from error
                if error.code not in _GONE:
                    raise FirewallError(f"sock_diag: {error}") from error
        return number

    def _connected(self, service: Service) -> Iterator[dict[str, object]]:
        states = _TCP_STATES if service.transport is Transport.TCP else _UDP_STATES
        # An IPv4 peer may have an IPv6 socket (::ffff:a.b.c.d), so both families are always looked at.
        for family in (socket.AF_INET, socket.AF_INET6):
            yield from self._sockets.get_sock_stats(
                family=family, protocol=service.transport.number, sport=service.port, states=states
            )


def _tuple(flow: object, version: int) -> NFCTAttrTuple | None:
    original = flow.get_attr("CTA_TUPLE_ORIG")  # type: ignore[attr-defined]
    address, ports = original.get_attr("CTA_TUPLE_IP"), original.get_attr("CTA_TUPLE_PROTO")
    if address is None or ports is None or address.get_attr(f"CTA_IP_V{version}_SRC") is None:
        return None
    return NFCTAttrTuple(
        family=_AF[version],
        saddr=address.get_attr(f"CTA_IP_V{version}_SRC"),
        daddr=address.get_attr(f"CTA_IP_V{version}_DST"),
        proto=ports.get_attr("CTA_PROTO_NUM"),
        sport=ports.get_attr("CTA_PROTO_SRC_PORT"),
        dport=ports.get_attr("CTA_PROTO_DST_PORT"),
    )


def _words(address: object) -> tuple[int, ...]:
    return struct.unpack(">4I", ip_address(str(address)).packed.ljust(16, b"\0"))


def _unmapped(address: Address) -> Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
