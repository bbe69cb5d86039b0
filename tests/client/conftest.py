"""Fixtures for the client's tests."""

from __future__ import annotations

import socket

import pytest

from tests.client.sockets import Recorder


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Put sockets that only take notes in the place of all sockets."""
    Recorder.reset()
    monkeypatch.setattr(socket, "socket", Recorder)  # by what tests use, too: undone in the reverse order, or it stays
    return Recorder
