"""What holds for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A machine that is busy with something else is no reason to fail: where time matters, a test says so itself.
settings.register_profile("gatekeeper", deadline=None)
settings.load_profile("gatekeeper")

# What tests start is to be ended by these, also where the tests run in a shell's background, or with nohup(1).
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _a_home_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a client remembers of its knocks is not mixed up with that of whoever runs the tests."""
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    if before is None:
        del os.environ["HOME"]
    else:
        os.environ["HOME"] = before
