"""A boot: closed from its first packet on, for a stranger who tries all the while; grants live on, and end, over it."""

from __future__ import annotations

import time

from machines import CLIENT, CLOSED, SECOND, Machine, boot, connect, connects, ok, say, wait_until

TTL = 40
"""Seconds that the grant lasts which ends while the server is down."""


def test_it_is_up_after_a_boot(server: Machine, stranger: Machine, closed: None) -> None:
    """Nobody has a grant; a knock opens as before."""
    boot(server, stranger)
    assert connects() == CLOSED
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")


def test_it_is_up_after_another_and_knows_its_grants(server: Machine, stranger: Machine, closed: None) -> None:
    """One by a knock survives; one that ends in between stays away."""
    interface = ok("sh", "-c", "ip -o -4 address show | awk '$4 ~ /^192.168.57/ {print $2}'").split()[0]
    for address in (f"{SECOND[4]}/24", f"{SECOND[6]}/64"):
        # of no preference: the client's own knocks leave from its first address, over IPv6 too
        aside = ("nodad", "preferred_lft", "0") if ":" in address else ()
        ok("sudo", "ip", "address", "replace", address, "dev", interface, *aside)
    try:
        ok("gatekeeper", "knock", "server", "--ttl", "2h", "--wait", "tcp/22", "--timeout", "60")
        for version in (4, 6):
            server.root("gatekeeper", "grant", SECOND[version], "ssh", "--ttl", f"{TTL}s")
        granted = time.monotonic()
        for version in (4, 6):
            for source in (CLIENT[version], SECOND[version]):
                assert connect(version, source=source) == "open", source
        boot(server, stranger)
        passed = time.monotonic() - granted
        say(f"up again {passed:.0f} s after the grant of {TTL} s")
        if passed < TTL:
            time.sleep(TTL - passed)  # a fast machine: it ends behind the boot
        for version in (4, 6):
            assert connect(version, source=CLIENT[version]) == "open"
            assert connect(version, source=SECOND[version], seconds=3) == "silent"
    finally:
        for address in (f"{SECOND[4]}/24", f"{SECOND[6]}/64"):
            ok("sudo", "ip", "address", "del", address, "dev", interface)


def test_modules_came_by_themselves_again(server: Machine) -> None:
    """A boot loads none of them by hand; and the early unit was there before the network."""
    wait_until(lambda: server.ok("systemctl", "is-active", "gatekeeper-early.service") == "active\n")
    shown = "--property=ActiveEnterTimestampMonotonic"
    early, network = (
        int(server.ok("systemctl", "show", shown, "--value", unit))
        for unit in ("gatekeeper-early.service", "network-pre.target")
    )
    assert 0 < early <= network
