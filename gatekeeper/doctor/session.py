"""Whether the session in which the doctor was called would be closed out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from gatekeeper.doctor.finding import Finding, note, ok, warning
from gatekeeper.doctor.grants import live
from gatekeeper.doctor.queue import own_ancestry
from gatekeeper.doctor.scene import Scene
from gatekeeper.guarded import Guarded
from gatekeeper.networks import Address, covers
from gatekeeper.settings import Mode, Transport

_VARIABLE = b"SSH_CONNECTION="


class Session(NamedTuple):
    """Who came from where, and to which port of ours."""

    peer: Address
    address: Address
    port: int


def check(scene: Scene) -> Iterator[Finding]:
    """Look whether who sits in front of this may come back."""
    session = find()
    if session is None:
        yield ok("this is not an ssh session that could be closed out")
        return
    if scene.rules is None or scene.rules.mode is Mode.OBSERVE:
        return
    guarded = Guarded(scene.rules.services.values())
    service = guarded.by(Transport.TCP.number, session.port, session.address.packed)
    if service is None:
        yield ok(f"this ssh session came by tcp/{session.port}, which is not guarded")
    elif covers(service.never, session.peer):
        yield warning(f"the rules never let {session.peer} in, from where you are", "take it out of `never:` first")
    elif covers(service.always, session.peer):
        yield ok(f"{session.peer}, from where you are, needs no knock for {service.name}")
    elif (end := _granted(scene, service.name, session.peer)) is not None:
        yield note(f"{session.peer}, from where you are, has a grant for {service.name} {end}")
    else:
        hint = f"gatekeeper grant {session.peer} {service.name}, before `gatekeeper run` starts"
        yield warning(
            f"{session.peer}, from where you are, has no grant for {service.name}: you may lock yourself out", hint
        )


def find() -> Session | None:
    """Find the ssh session that we are in. sudo takes its variable away, so our parents are asked."""
    for pid in own_ancestry():
        with contextlib.suppress(OSError):
            session = parse(Path("/proc", str(pid), "environ").read_bytes())
            if session is not None:
                return session
    return None


def parse(environment: bytes) -> Session | None:
    """Read SSH_CONNECTION (sshd: the peer's address and port, ours) in a process's environment."""
    for entry in environment.split(b"\0"):
        words = entry.removeprefix(_VARIABLE).decode("ascii", "replace").split()
        if entry.startswith(_VARIABLE) and len(words) == 4 and words[3].isdigit():
            with contextlib.suppress(ValueError):
                peer, address = (ip_address(word.partition("%")[0]) for word in (words[0], words[2]))
                return Session(peer, address, int(words[3]))
    return None


def _granted(scene: Scene, service: str, peer: Address) -> str | None:
    """Say until when an address has a grant; ``None`` if it has none."""
    ends = [end for (name, source), end in live(scene).items() if name == service and covers([source], peer)]
    if not ends:
        return None
    return "until it is closed" if math.isinf(max(ends)) else f"for {int(max(ends) - scene.now)} s more"
