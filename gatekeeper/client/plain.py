"""Plain keys, the client's side: for trying things out. Pure."""

from __future__ import annotations

from gatekeeper.errors import ClientError


def knock(keys: str, *, close: bool, service: str | None) -> bytes:
    """Build a plain knock from what a key file says: one line is the key for what is asked, two are open and close.

    Raises:
        ClientError: there is no key in it.
    """
    lines = [line for line in keys.replace("\r\n", "\n").split("\n") if line]
    if not lines:
        raise ClientError("the key is empty", "the first line is the key, the second one the key that closes")
    if len(lines) > 2:
        raise ClientError("the key has more than two lines", "the first line opens, the second one closes")
    key = lines[-1] if close else lines[0]
    words = f"{key} {service}" if service else key
    return words.encode(errors="surrogateescape")  # whatever bytes the command line had
