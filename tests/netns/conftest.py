"""Fixtures for tests on the real kernel: namespaces, a running gatekeeper, and both iptables variants."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.site import Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests need root; running them without is a mistake, not a reason to skip them."""
    here = str(Path(__file__).parent)
    if os.geteuid() != 0 and any(str(item.path).startswith(here) for item in items):
        pytest.exit("tests/netns needs root: run scripts/test", returncode=1)


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    """Run the test over IPv4 and over IPv6."""
    return int(request.param)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Make a server, a client and a stranger; whatever was started in them ends with the test."""
    with Site(tmp_path) as made:
        yield made
