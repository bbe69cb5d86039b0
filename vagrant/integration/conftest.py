"""The machines, and what all parts of the story do with them."""

from __future__ import annotations

import pytest
from machines import CLOSED, Machine, connects, ok, revoke_all, wait_until


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
    revoke_all(server)
    assert connects(seconds=2) == CLOSED


def _provisioned(name: str) -> Machine:
    machine = Machine(name)
    wait_until(lambda: machine.tries("test", "-e", "/var/lib/provisioned").returncode == 0)
    return machine


@pytest.fixture
def opened(closed: None) -> None:
    """The client has knocked, and is in."""
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
