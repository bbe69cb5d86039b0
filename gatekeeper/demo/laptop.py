"""The demo's laptop: has a key, and seals knocks with it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from gatekeeper import keyfiles
from gatekeeper.sealed import keys, wire


class Laptop:
    """A device that a server has been told of."""

    def __init__(self, state_dir: Path) -> None:
        """Make keys for both ends, and give the server its own."""
        server, private = keys.generate(), keys.generate()
        state_dir.mkdir(mode=0o700)
        keyfiles.write(str(state_dir / keyfiles.SERVER_KEY), server)
        self.key = keys.show(keys.public_of(private))
        """The public key, as rules.yaml has it."""
        self._sealer = wire.Sealer(private, keys.public_of(server))

    def knock(self, *, close: bool = False) -> bytes:
        """Seal a knock of now, for whatever address the server sees."""
        payload = wire.Payload(action=wire.CLOSE if close else wire.OPEN, sent_at=time.time_ns())
        datagram, _ = self._sealer.seal(payload, os.urandom(keys.SIZE), now=time.time())
        return datagram
