"""Runs iptables, ip6tables and ipset: argv lists, text on standard input, errors in words.

The two variants of iptables (nft and legacy) keep their rules apart, and the kernel obeys both. With
rules of ours in both, each knock would be queued twice and the second would look like a replay, so
everything here looks at both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from gatekeeper.errors import FirewallError
from gatekeeper.firewall.names import SET_PREFIX, TABLES, VERSIONS

VARIANTS = ("nft", "legacy")
_TIMEOUT = 30.0
_BUSY = ("resource busy", "in use by a kernel component")
"""What ipset says of a set that somebody lists, or whose rule has gone a moment ago: when it is swapped, or removed."""
_LETS_GO = 1.0
"""Seconds in which the kernel must have let go of a set."""
_PREFIX = {4: "iptables", 6: "ip6tables"}
_LEGACY_TABLES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
_NO_IPSET = (
    "ipset is not installed",
    "kernel error received: set type not supported",
    "cannot open session to kernel",
    "kernel support",
    "match `set'",
    "match set",
    "extension set",
    "module xt_set",
)
"""What the tools say where the kernel or the machine has no ipset, or iptables cannot use it."""
_HINTS = {
    "permission denied": "run it as root, or with sudo",
    "operation not permitted": "run it as root, or with sudo",
    "you must be root": "run it as root, or with sudo",
    "must be run as root": "run it as root, or with sudo",
    "table does not exist": "this kernel has no such table: in a container, the host must load the module",
    "another app is currently holding the xtables lock": "another program keeps changing the rules; try again",
}


def find(name: str) -> str | None:
    """Find a tool, also where users who are not root do not look."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def run(argv: list[str], text: str | None = None) -> str:
    """Run a tool and return what it printed.

    Raises:
        FirewallError: the tool is missing, failed or did not end.
    """
    tool = find(argv[0])
    if tool is None:
        package = "ipset" if argv[0] == "ipset" else "iptables"
        raise FirewallError(f"{argv[0]} is not installed", f"apt-get install {package}")
    try:
        done = subprocess.run(
            [tool, *argv[1:]],
            input=text,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=_TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{argv[0]} could not be run: {error}") from error
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        hint = next((hint for mark, hint in _HINTS.items() if mark in words.lower()), None)
        raise FirewallError(f"{argv[0]} refused: {words[:400]}", hint)
    return done.stdout


@dataclass(frozen=True, slots=True)
class Iptables:
    """One variant of iptables, for both IP versions."""

    variant: str

    def _tool(self, version: int, action: str) -> str:
        named = f"{_PREFIX[version]}-{self.variant}-{action}"
        if find(named) is None and default_variant() == self.variant:
            return f"{_PREFIX[version]}-{action}"
        return named

    def restore(self, version: int, text: str) -> None:
        """Load tables; what is not named in them stays as it is."""
        run([self._tool(version, "restore"), "--noflush", "--wait", "5"], text)

    def save(self, version: int, *, counters: bool = False) -> dict[str, str]:
        """Return the text of each table that may hold chains of ours; with ``counters``, what each rule has counted.

        Asking the legacy variant for a table would create it, so it is asked only for what is there.
        """
        tables = list(TABLES)
        if self.variant == "legacy":
            try:
                there = Path(_LEGACY_TABLES[version]).read_text().split()
            except OSError:
                there = []
            tables = [table for table in tables if table in there]
        options = ["-c"] if counters else []
        return {table: run([self._tool(version, "save"), "-t", table, *options]) for table in tables}


def default_variant() -> str:
    """Return the variant that this machine's ``iptables`` command is."""
    return "legacy" if "legacy" in run(["iptables", "-V"]) else "nft"


def installed_variants() -> list[Iptables]:
    """Return the variants that this machine has commands for."""
    found = [name for name in VARIANTS if find(f"iptables-{name}-save")]
    return [Iptables(name) for name in found or [default_variant()]]


def is_for_lack_of_ipset(error: FirewallError) -> bool:
    """Whether something failed because there is no ipset here."""
    return any(words in error.message.lower() for words in _NO_IPSET)


def choose(setting: str) -> Iptables:
    """Return the variant that the rules ask for (``auto``: the machine's own)."""
    return Iptables(default_variant() if setting == "auto" else setting)


def ip_versions() -> tuple[int, ...]:
    """Return the IP versions that this kernel speaks."""
    return VERSIONS if Path("/proc/net/if_inet6").exists() else (4,)


def our_sets() -> list[str]:
    """Name the ipsets of ours; none where there is no ipset."""
    try:
        names = run(["ipset", "list", "-n"]).split()
    except FirewallError as error:
        if is_for_lack_of_ipset(error):
            return []
        raise
    return [name for name in names if name.startswith(SET_PREFIX)]


def restore_sets(text: str) -> None:
    """Run ``ipset restore`` with a text that may be read twice: sets cannot be swapped while somebody lists them.

    Raises:
        FirewallError: it failed, or they were listed for a second without a pause.
    """
    _until_free(["ipset", "restore"], text)


def destroy_set(name: str) -> None:
    """Remove an ipset. The kernel lets go of it some time after the rule that used it has gone, so this may wait.

    Raises:
        FirewallError: it is still used after a second, or cannot be removed.
    """
    _until_free(["ipset", "destroy", name])


def _until_free(argv: list[str], text: str | None = None) -> None:
    deadline = time.monotonic() + _LETS_GO
    while True:
        try:
            run(argv, text)
        except FirewallError as error:
            if not any(words in error.message for words in _BUSY) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def set_size(name: str) -> int:
    """Count the members of an ipset."""
    header = run(["ipset", "list", "-terse", name]).splitlines()
    return next((int(line.split(":")[1]) for line in header if line.startswith("Number of entries:")), 0)
