"""Versions of what gatekeeper stands on, and what fails with those that are too old."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata

from gatekeeper import __version__
from gatekeeper.doctor.finding import AS_ROOT, Finding, note, ok, unknown, warning, wrong
from gatekeeper.doctor.scene import Scene
from gatekeeper.errors import FirewallError
from gatekeeper.firewall import tools

Version = tuple[int, ...]

LIBRARIES: dict[str, Version] = {
    "netfilterqueue": (1, 1),
    "scapy": (2, 6),
    "cryptography": (38, 0, 4),
    "pyyaml": (6, 0),
}
"""The oldest of each that `gatekeeper run` is made for, as in pyproject.toml."""
_TOOLS: tuple[tuple[str, list[str], Version, str], ...] = (
    ("iptables", ["iptables", "-V"], (1, 8, 2), "its nft variant loses rules on restore"),
    ("ipset", ["ipset", "-v"], (6, 20), "sets of networks have no timeouts that can be changed"),
)


def check(scene: Scene) -> Iterator[Finding]:
    """Look at each."""
    yield ok(f"gatekeeper {__version__}, Python {platform.python_version()}")
    yield kernel(os.uname().release)
    for name, argv, oldest, fails in _TOOLS:
        try:
            text = tools.run(argv)
        except FirewallError as error:
            if tools.find(name) and not scene.is_root:
                yield unknown(f"{name}: its version could not be asked for: needs root", AS_ROOT, detail=error.message)
                continue
            make = wrong if name == "iptables" else note
            yield make(f"{name}: {error.message}", error.hint or f"apt-get install {name}")
            continue
        yield tool(name, text, oldest, fails)
    for name, oldest in LIBRARIES.items():
        yield library(name, oldest)


def kernel(release: str) -> Finding:
    """Judge a kernel's version."""
    version = first_version(release)
    if not version:
        return unknown(f"Linux {release}: which version that is cannot be told")
    if version < (4, 18):
        hint = "use Linux 4.18 or newer: older ones have not been tried, and lack parts of nf_tables"
        return warning(f"Linux {release} is old", hint)
    if version < (5, 8):
        words = f"Linux {release}: before 5.8 all tracked connections are looked through at each close"
        return note(words, "it is slower where there are very many, and not wrong")
    return ok(f"Linux {release}")


def tool(name: str, text: str, oldest: Version, fails: str) -> Finding:
    """Judge what a tool says of its version."""
    version = first_version(text)
    shown = ".".join(map(str, version))
    if not version:
        return unknown(f"{name}: which version it is cannot be told")
    if version < oldest:
        return warning(f"{name} {shown} is old: {fails}", f"use {'.'.join(map(str, oldest))} or newer")
    return ok(f"{name} {shown}")


def library(name: str, oldest: Version) -> Finding:
    """Judge an installed library."""
    wanted = ".".join(map(str, oldest))
    with contextlib.suppress(metadata.PackageNotFoundError):
        found = metadata.version(name)
        if first_version(found) < oldest:
            return wrong(
                f"{name} {found} is too old: gatekeeper is made for {wanted} or newer", "install it with scripts/setup"
            )
        return ok(f"{name} {found}")
    return wrong(
        f"{name} is not installed: `gatekeeper run` needs it", "pip install 'gatekeeper[server]', or scripts/setup"
    )


def first_version(text: str) -> Version:
    """Read the first version number in a text; empty if there is none."""
    found = re.search(r"\d+(?:\.\d+)+|\d+", text, re.ASCII)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
