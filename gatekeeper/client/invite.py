"""Invites: what a device needs to know of a server, in one line that holds no secret. Pure.

``gatekeeper://HOST:PORT/CLIENT/SERVER-KEY/SERVICE,SERVICE[/ack,bind,via-icmp]``, the key in the URL alphabet
of base64. Nothing in it needs quoting in a shell, but for the brackets of an IPv6 address.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from gatekeeper import older
from gatekeeper.client.profile import DEFAULT_PORT
from gatekeeper.errors import ClientError
from gatekeeper.sealed import keys

_SCHEME = "gatekeeper"
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}|[0-9a-fA-F:.]{2,45}", re.ASCII)
_TO_URL, _FROM_URL = str.maketrans("+/", "-_"), str.maketrans("-_", "+/")


class Invite(NamedTuple):
    """What an invite says."""

    host: str
    port: int
    client: str
    server_key: bytes
    services: tuple[str, ...]
    ack: bool = False
    bind: bool = False
    via: str = "udp"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        key = keys.show(self.server_key).translate(_TO_URL).rstrip("=")
        wanted = {"ack": self.ack, "bind": self.bind, f"via-{self.via}": self.via != "udp"}
        options = ",".join(name for name, is_set in wanted.items() if is_set)
        services = ",".join(self.services)
        return f"{_SCHEME}://{host}:{self.port}/{self.client}/{key}/{services}{'/' if options else ''}{options}"


def parse(text: str) -> Invite:
    """Read an invite.

    Raises:
        ClientError: it is not one; the message says what is wrong.
    """
    try:
        return _read(text.strip())
    except ValueError as error:
        hint = "copy the whole line that `gatekeeper invite` printed on the server"
        raise ClientError(f"this is not an invite: {error}", hint) from None


def _read(text: str) -> Invite:
    url = urlsplit(text)
    if url.scheme != _SCHEME or url.query or url.fragment or url.username:
        raise ValueError(f"it does not look like {_SCHEME}://HOST:PORT/...")
    parts = url.path.strip("/").split("/")
    if len(parts) not in (3, 4):
        raise ValueError("a part of it is missing")
    client, key, services = parts[:3]
    options = list(map(older.renamed, parts[3].split(","))) if len(parts) == 4 else []
    return Invite(
        host=check_host(url.hostname or ""),
        port=_check_port(url.port),
        client=check_client(client),
        server_key=keys.parse_public(key.translate(_FROM_URL) + "="),
        services=tuple(map(_check_service, services.split(","))),
        ack="ack" in options,
        bind="bind" in options,
        via=next((way for way in ("icmp", "syn") if f"via-{way}" in options), "udp"),
    )


def check_host(host: str) -> str:
    """Return a host that can stand in an invite.

    Raises:
        ValueError: it cannot.
    """
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!a} is not the name or address of a host")
    return host


def check_client(name: str) -> str:
    """Return a name that a client of rules.yaml can have.

    Raises:
        ValueError: none can.
    """
    if not _CLIENT.fullmatch(name):
        raise ValueError(f"{name!a} cannot be the name of a client")
    return name


def _check_port(port: int | None) -> int:
    if port == 0:
        raise ValueError("0 is not a port")
    return DEFAULT_PORT if port is None else port


def _check_service(name: str) -> str:
    if not _SERVICE.fullmatch(name):
        raise ValueError(f"{name!a} cannot be the name of a service")
    return name
