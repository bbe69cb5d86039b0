"""The machines, and what all parts of the story do with them."""

from __future__ import annotations

import pytest
from machines import CLOSED, Machine, connects, ok, wait_until


@pytest.fixture(scope="session")
def server() -> Machine:
    """The server, once it is provisioned: machines come up side by side."""
    return _provisioned("server")


@pytest.fixture(scope="session")
def stranger() -> Machine:
    """The stranger, likewise."""
    return _provisioned("stranger")


@pytest.fixture
def closed(server: Machine) -> None:
    """Nobody in the world has a grant."""
    revokes = [f"gatekeeper revoke {world}" for world in ("192.168.57.0/24", "fd57::/64")]
    server.tries("sudo", "sh", "-c", "; ".join(revokes))  # which fails where nobody had any
    assert connects(seconds=2) == CLOSED


def _provisioned(name: str) -> Machine:
    machine = Machine(name)
    wait_until(lambda: machine.tries("test", "-e", "/var/lib/provisioned").returncode == 0)
    return machine


@pytest.fixture
def opened(closed: None) -> None:
    """The client has knocked, and is in."""
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
