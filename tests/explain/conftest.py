"""A server and its device for captures: rules, a key in a state directory, and sealed knocks of any time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatekeeper import keyfiles
from gatekeeper.sealed import keys, wire

NOW = 1_800_000_000.0
RULES = """\
services:
  ssh: {{port: tcp/22, ttl: 1h}}
  dns: {{port: udp/53, ttl: 1m}}
clients:
  laptop: {{key: {key}, services: [ssh]}}
  old: {{open: open_sesame_long_enough, close: close_sesame_long_enough, services: [ssh, dns]}}
"""


@dataclass
class Place:
    """What ``--rules`` and ``--state-dir`` name, and who knocks."""

    rules: Path
    state: Path
    seal: Callable[..., bytes]

    @property
    def options(self) -> list[str]:
        return ["--rules", str(self.rules), "--state-dir", str(self.state)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Make it."""
    server, device = keys.generate(), keys.generate()
    rules, state = tmp_path / "rules.yaml", tmp_path / "state"
    rules.write_text(RULES.format(key=keys.show(keys.public_of(device))))
    rules.chmod(0o600)
    state.mkdir()
    keyfiles.write(str(state / keyfiles.SERVER_KEY), server)
    sealer = wire.Sealer(device, keys.public_of(server))

    def seal(*, at: float = NOW, close: bool = False) -> bytes:
        payload = wire.Payload(action=wire.CLOSE if close else wire.OPEN, sent_at=int(at * 1e9))
        return sealer.seal(payload, os.urandom(32), now=at)[0]

    return Place(rules, state, seal)
