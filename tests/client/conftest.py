"""Fixtures for the client's tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.client.sockets import Recorder


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recorder]]:
    """Put sockets that only take notes in the place of all sockets."""
    Recorder.reset()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Recorder)
        yield Recorder
