"""Which service guards what: by port, range and address."""

from __future__ import annotations

from ipaddress import ip_address

from gatekeeper.guarded import Guarded
from gatekeeper.settings import Guard, Ports, Service, Transport

HERE, THERE = ip_address("192.0.2.1"), ip_address("2001:db8::1")
SERVICES = [
    Service("ssh", (Ports(Transport.TCP, 22),), 60),
    Service("many", (Ports(Transport.TCP, 6000, 6010), Ports(Transport.UDP, 6005)), 60),
    Service("here", (Ports(Transport.TCP, 80),), 60, addresses=(HERE,)),
    Service("wide", (Ports(Transport.TCP, 20000, 40000),), 60, addresses=(HERE,)),
    Service("there", (Ports(Transport.TCP, 80),), 60, addresses=(THERE,)),
]


def test_a_port_is_found_by_its_transport_its_number_and_its_address() -> None:
    guarded = Guarded(SERVICES)
    table = {
        (6, 22, HERE): "ssh",
        (6, 22, THERE): "ssh",
        (17, 22, HERE): None,
        (6, 5999, HERE): None,
        (6, 6000, HERE): "many",
        (6, 6010, THERE): "many",
        (6, 6011, HERE): None,
        (17, 6005, HERE): "many",
        (6, 19999, HERE): None,
        (6, 20000, HERE): "wide",
        (6, 40000, HERE): "wide",
        (6, 30000, THERE): None,
        (17, 30000, HERE): None,
        (6, 80, HERE): "here",
        (6, 80, THERE): "there",
        (6, 80, ip_address("192.0.2.2")): None,
    }
    for (protocol, port, address), expected in table.items():
        found = guarded.by(protocol, port, address.packed)
        assert (found.name if found else None) == expected, (protocol, port, address)


def test_a_host_behind_may_have_a_port_that_this_machine_has_at_all_its_addresses() -> None:
    behind = Service("behind", (Ports(Transport.TCP, 22),), 60, addresses=(THERE,), guard=Guard.FORWARD)
    wide = Service("wide", (Ports(Transport.TCP, 20, 2000),), 60, addresses=(THERE,), guard=Guard.FORWARD)
    for other in (behind, wide):
        guarded = Guarded([SERVICES[0], other])
        assert guarded.by(6, 22, HERE.packed) is SERVICES[0]
        assert guarded.by(6, 22, THERE.packed) is other
