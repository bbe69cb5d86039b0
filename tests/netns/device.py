"""A device with a key: makes sealed knocks of every kind, right and wrong, and sends them from anywhere."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
from ipaddress import ip_address

from gatekeeper import keyfiles
from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from gatekeeper.sealed import keys, wire
from gatekeeper.store.sqlite import FILE, SqliteStore
from tests.netns.site import SERVER, SSH, UDP, WEB, Site
from tests.packets import udp

SERVICES = f"""\
services:
  ssh: {{port: tcp/{SSH}, ttl: 1h, max_ttl: 2h}}
  web: {{port: tcp/{WEB}, ttl: 1h, established: cut}}
  echo: {{port: udp/{UDP}, ttl: 1h}}
"""


class Device:
    """One device of a client's."""

    def __init__(self, server_key: bytes, private: bytes | None = None) -> None:
        self.private = private or keys.generate()
        self.public = keys.public_of(self.private)
        self.key = keys.show(self.public)
        self.sealer = wire.Sealer(self.private, server_key)

    def knock(
        self,
        *,
        close: bool = False,
        address: str | None = None,
        service: str | None = None,
        ttl: int = 0,
        late: float = 0.0,
        sent_at: int | None = None,
    ) -> bytes:
        """Seal a knock of now, or of ``late`` seconds ago."""
        now = time.time() - late
        payload = wire.Payload(
            action=wire.CLOSE if close else wire.OPEN,
            ttl=ttl,
            sent_at=time.time_ns() - int(late * 1e9) if sent_at is None else sent_at,
            address=wire.ANY_ADDRESS if address is None else wire.pack_address(ip_address(address).packed),
            service=wire.ANY_SERVICE if service is None else wire.service_id(service),
        )
        datagram, _ = self.sealer.seal(payload, os.urandom(32), now=now)
        return datagram


def server_key(site: Site, private: bytes | None = None) -> bytes:
    """Give the server its key, and a store that is an hour old; return the key's public half."""
    private = private or keys.generate()
    SqliteStore(site.state).close()
    with contextlib.closing(sqlite3.connect(site.state / FILE)) as db, db:
        db.execute("UPDATE birth SET born = born - 3600 * 1000000000")
    keyfiles.write(str(site.state / keyfiles.SERVER_KEY), private)
    return keys.public_of(private)


def rules_for(**clients: str) -> str:
    """Write rules with these clients, each a YAML mapping."""
    lines = [f"  {name}: {fields}" for name, fields in clients.items()]
    return SERVICES + "clients:\n" + "\n".join(lines) + "\n"


def send(site: Site, datagram: bytes, version: int = 4, *, namespace: str | None = None) -> None:
    """Send a knock from the client, or from another namespace."""
    probe.send(namespace or site.client, SERVER[version], datagram)


def forge(site: Site, datagram: bytes, version: int, *, source: str) -> None:
    """Send a knock from the stranger, with a source that is not the stranger's."""
    packet = udp(datagram, version=version, source=source)
    with inside(site.stranger):
        raw = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.sendto(packet, (SERVER[version], 0))
