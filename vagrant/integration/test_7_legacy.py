"""A machine whose iptables is iptables-legacy: the same, from `gatekeeper install` to a boot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machines import CLOSED, Machine, boot, connects, ok, shut, wait_until


@pytest.fixture(scope="module")
def legacy(server: Machine) -> Iterator[None]:
    """Choose the variant as Debian has it; and put the other back, for who plays with the machines afterwards."""
    _choose(server, "legacy")
    yield
    _choose(server, "nft")
    assert not _is_legacy(server)


def _choose(server: Machine, variant: str) -> None:
    for tool in ("iptables", "ip6tables"):
        server.root("update-alternatives", "--set", tool, f"/usr/sbin/{tool}-{variant}")
    server.root("gatekeeper", "install")
    wait_until(lambda: server.ok("systemctl", "is-active", "gatekeeper") == "active\n")


def _is_legacy(server: Machine) -> bool:
    lines = [server.root(f"iptables-{variant}-save").count("GKEEPER-") for variant in ("legacy", "nft")]
    assert min(lines) == 0, "in both variants at once"
    return lines[0] > 0


def test_it_is_loaded_there_and_nowhere_else(server: Machine, legacy: None) -> None:
    """Of the other variant nothing is left, or each knock would be queued twice."""
    assert _is_legacy(server)


def test_it_opens_and_shuts(legacy: None, closed: None) -> None:
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
    assert ok("ssh", "server", "hostname") == "server\n"
    ok("gatekeeper", "knock", "server", "--close")
    shut()


def test_it_boots_closed(server: Machine, stranger: Machine, legacy: None, closed: None) -> None:
    """Its modules are loaded by modprobe and not by the kernel, which the units see to."""
    boot(server, stranger)
    assert _is_legacy(server)
    assert connects() == CLOSED
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
