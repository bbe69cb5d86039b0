"""How one learns that rules have changed, for each variant of iptables: the kernel tells, or one looks often.

Neither starts a process, and neither changes anything.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gatekeeper.firewall.looks import Change, Look, Place
from gatekeeper.firewall.nftables import Doer, Nftables, RuleNews
from gatekeeper.firewall.xtables import Xtables

POLL = 0.1
"""Seconds between two looks where the kernel tells nothing."""
_CHECK = 1.0
"""Seconds between two looks where it does, in case that it did not; the guardian looks at the clock then, too."""
_OWN = ("iptables-nft-re", "ip6tables-nft-r", "iptables-restor", "ip6tables-resto")
"""Our own tools, as the kernel cuts their names off."""
_KNOWN = (
    "dockerd",
    "firewalld",
    "ufw",
    "fail2ban-server",
    "kube-proxy",
    "libvirtd",
    "podman",
    "lfd",
    "shorewall",
    "netfilter-persi",
    "crowdsec-firewa",
    "iptables",
    "ip6tables",
    "iptables-restor",
    "ip6tables-resto",
    "nft",
    "puppet",
    "ansible-playboo",
)
"""Programs that change firewalls, as /proc/PID/comm names them (15 characters)."""
_OURS = ("gk-guardian", "gk-keeper")
"""What the process may be called in which this watches (processes/child.py)."""


class Watch(Protocol):
    """One of the two."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until there may be something to see; say whether there is. Not longer than ``seconds``."""

    def looks(self) -> dict[int, Look]:
        """Look at all our tables, by IP version. What is seen now is not told again."""

    def learn(self, bases: Sequence[Place]) -> None:
        """Learn what makes these base chains, while they are there."""

    def put_back(self, changes: Sequence[tuple[int, Change]]) -> bool:
        """Put rules back, each for an IP version, in one step; say whether that can be done here.

        Raises:
            FirewallError: the kernel refused.
        """

    def noticed(self) -> float | None:
        """Return when the change was made (monotonic), if the kernel told."""

    def doers(self) -> list[str]:
        """Name those who have changed something since this was last asked, as far as the kernel tells."""

    def wake(self) -> None:
        """End a wait at once; for another thread."""

    def close(self) -> None:
        """Close the sockets."""


class Told:
    """nf_tables: the kernel tells of each change, and who made it."""

    def __init__(self, tables: Sequence[str], versions: Sequence[int]) -> None:
        self._tables, self._versions = tables, versions
        self._rules, self._news = Nftables(), RuleNews(tables)
        self._waker, self._woken = socket.socketpair()
        self._generation: int | None = None
        self._noticed: float | None = None
        self._doers: dict[int, str] = {}
        self._bases: dict[int, dict[Place, bytes]] = {}

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for news; after some seconds without, or when some were lost, see whether anything has changed."""
        limit = _CHECK if seconds is None else seconds
        if self._news.wait(limit, self._woken):
            return self._read_news()
        return self._rules.generation() != self._generation

    def _read_news(self, ignored: Sequence[str] = ()) -> bool:
        doers = self._news.read()
        if doers is None:
            return True
        me = threading.get_native_id()  # the kernel names threads
        others = [one for one in doers if one.name not in ignored and one.pid != me]
        if others and self._noticed is None:
            self._noticed = time.monotonic()
        # In a container with process numbers of its own, the kernel's number of us is not the one that we know.
        self._doers |= {one.pid: _described(one) for one in others if one.name not in _OURS}
        return bool(others)

    def looks(self) -> dict[int, Look]:
        """Look at the rules."""
        self._read_news(ignored=_OWN)
        self._generation = self._rules.generation()
        looks = self._rules.looks(self._tables, self._versions)
        return {version: self._hooked(version, look) for version, look in looks.items()}

    def _hooked(self, version: int, look: Look) -> Look:
        """Leave out base chains that packets do not come by any more: what stands in them guards nothing."""
        known = self._bases.get(version, {})
        if not known:
            return look
        asleep, there = self._rules.asleep(version), self._rules.bases(known, version)
        gone = {place for place, by in known.items() if place[0] in asleep or there.get(place) != by}
        return {place: rules for place, rules in look.items() if place not in gone}

    def learn(self, bases: Sequence[Place]) -> None:
        """Learn what makes these base chains."""
        self._bases = {version: self._rules.bases(bases, version) for version in self._versions}

    def put_back(self, changes: Sequence[tuple[int, Change]]) -> bool:
        """Put rules back."""
        if not self._bases:
            return False
        self._rules.put_back(changes, self._bases)
        return True

    def noticed(self) -> float | None:
        """Return when the first news came that nobody has asked about yet."""
        noticed, self._noticed = self._noticed, None
        return noticed

    def doers(self) -> list[str]:
        """Name who made the changes that were told of."""
        found, self._doers = self._doers, {}
        return list(dict.fromkeys(found.values()))

    def wake(self) -> None:
        """End a wait at once."""
        self._waker.send(b"x")

    def close(self) -> None:
        """Close the sockets."""
        for one in (self._rules, self._news, self._waker, self._woken):
            one.close()


class Polled:
    """iptables-legacy: the kernel tells nothing."""

    def __init__(self, tables: Sequence[str], versions: Sequence[int]) -> None:
        self._tables = tables
        self._rules = Xtables(versions)
        self._is_woken = threading.Event()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait a tenth of a second; see whether anything has changed."""
        if self._is_woken.wait(POLL if seconds is None else seconds):
            return False
        return not self._rules.is_as_seen()

    def looks(self) -> dict[int, Look]:
        """Look at the rules."""
        return self._rules.looks(self._tables)

    def learn(self, bases: Sequence[Place]) -> None:
        """Learn nothing."""

    def put_back(self, changes: Sequence[tuple[int, Change]]) -> bool:  # noqa: ARG002
        """Do nothing: a table is written as a whole here, which iptables does in three milliseconds."""
        return False

    def noticed(self) -> float | None:
        """Return nothing: it was at some time since the last look."""
        return None

    def doers(self) -> list[str]:
        """Name the firewall programs that run on this machine: it may have been one of them."""
        return running_firewalls()

    def wake(self) -> None:
        """End a wait at once."""
        self._is_woken.set()

    def close(self) -> None:
        """Close the sockets."""
        self._rules.close()


def watch(variant: str, tables: Sequence[str], versions: Sequence[int]) -> Watch:
    """Watch some tables of a variant of iptables, in this thread's network namespace.

    Raises:
        FirewallError: the kernel refuses its sockets.
    """
    return Polled(tables, versions) if variant == "legacy" else Told(tables, versions)


def running_firewalls() -> list[str]:
    """Name the well-known programs that change firewalls and run on this machine."""
    found: dict[str, str] = {}
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            name = path.read_text().strip()
            if name in _KNOWN:
                found.setdefault(name, f"{name} (process {path.parent.name})")
    return list(found.values())


def _described(doer: Doer) -> str:
    """Name a process, and the one that started it, if they are still there."""
    words = f"{doer.name} (process {doer.pid}"
    with contextlib.suppress(OSError, IndexError):
        parent = Path("/proc", str(doer.pid), "stat").read_text().rpartition(")")[2].split()[1]
        words += f", run by {Path('/proc', parent, 'comm').read_text().strip()}"
    return words + ")"
