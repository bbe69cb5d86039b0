"""Names for services and clients that the old configuration has none for. Pure."""

from __future__ import annotations

import re
from collections.abc import Container

from gatekeeper.settings import Ports, Transport

WELL_KNOWN: dict[str, Ports] = {
    name: Ports(Transport(transport), port)
    for transport, names in {
        "tcp": {
            "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "http": 80, "pop3": 110, "imap": 143, "https": 443,
            "submission": 587, "ldaps": 636, "imaps": 993, "pop3s": 995, "mysql": 3306, "rdp": 3389, "postgresql": 5432,
        },
        "udp": {"domain": 53, "ntp": 123, "isakmp": 500, "openvpn": 1194, "wireguard": 51820},
    }.items()
    for name, port in names.items()
}  # fmt: skip
_BY_PORTS = {ports: name for name, ports in WELL_KNOWN.items()}
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_.@-]+", re.ASCII)


def of_service(ports: Ports) -> str:
    """Name a service by its ports: ``ssh``, ``tcp-8022``, ``udp-6000-6010``."""
    return _BY_PORTS.get(ports) or str(ports).replace("/", "-")


def of_client(wish: str | None, otherwise: str, taken: Container[str]) -> str:
    """Name a client as wished for, as far as a client can be called so, and no other is."""
    name = _NOT_OF_A_NAME.sub("-", wish or "").strip("-._@")[:60]
    if not _CLIENT.fullmatch(name):
        name = otherwise
    if name not in taken:
        return name
    return next(each for number in range(2, 1_000_000) if (each := f"{name}-{number}") not in taken)
