"""Three hosts on one machine: network namespaces for a server, a client and a stranger.

The host's own network and firewall are never touched. Everything is named after the process that made
it, so that two demos (or tests) do not meet, and is removed by ``close``, whatever happened before.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from gatekeeper.errors import GatekeeperError

SERVER = {4: "192.0.2.1", 6: "2001:db8::1"}
"""The server's addresses, the same for everyone (RFC 5737, RFC 3849: documentation)."""
CLIENT = {4: "198.51.100.2", 6: "2001:db8:c::2"}
STRANGER = {4: "203.0.113.2", 6: "2001:db8:f::2"}
_GATEWAY = {"client": {4: "198.51.100.1", 6: "2001:db8:c::1"}, "stranger": {4: "203.0.113.1", 6: "2001:db8:f::1"}}
_PREFIX = {4: 24, 6: 64}
_NODAD = {4: "", 6: " nodad"}
_CLONE_NEWNET = 0x4000_0000
_RUN = Path("/run/netns")
_serial = itertools.count()


class Network:
    """The three namespaces, linked: client -- server -- stranger."""

    def __init__(self, prefix: str = "gatekeeper") -> None:
        """Make them.

        Raises:
            GatekeeperError: not root, no ``ip`` command, or no right to make namespaces.
        """
        tag = f"{prefix}-{os.getpid()}-{next(_serial)}"
        self.server, self.client, self.stranger = f"{tag}-server", f"{tag}-client", f"{tag}-stranger"
        self._made: list[str] = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the namespaces, and with them every link, rule, set and process inside."""
        _end_all_inside(self._made)
        lines = [f"netns del {name}" for name in reversed(self._made)]
        self._made.clear()
        if lines:
            with contextlib.suppress(GatekeeperError):  # -force: one that fails does not keep the others
                _run(["ip", "-force", "-batch", "-"], text="\n".join(lines))

    def _make(self) -> None:
        for name in (self.server, self.client, self.stranger):
            ip("netns", "add", name)
            self._made.append(name)
            with inside(name):  # addresses are usable at once: nobody else is on these links
                Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        lines = ["link set lo up", *(f"address add {one} dev lo" for one in SERVER.values())]
        for host, name in (("client", self.client), ("stranger", self.stranger)):
            lines.append(f"link add {host} type veth peer name uplink netns {name}")
            lines += [f"address add {_GATEWAY[host][of]}/{_PREFIX[of]} dev {host}{_NODAD[of]}" for of in (4, 6)]
            lines.append(f"link set {host} up")
        ip_batch(self.server, *lines)
        for host, name, addresses in (("client", self.client, CLIENT), ("stranger", self.stranger, STRANGER)):
            lines = ["link set lo up"]
            lines += [f"address add {addresses[of]}/{_PREFIX[of]} dev uplink{_NODAD[of]}" for of in (4, 6)]
            lines.append("link set uplink up")
            lines += [f"route add default via {gateway}" for gateway in _GATEWAY[host].values()]
            ip_batch(name, *lines)


def _end_all_inside(names: Sequence[str]) -> None:
    """End whatever still runs in namespaces: one that is deleted lives on for as long as somebody is in it."""
    ours = {_identity(_RUN / name) for name in names if (_RUN / name).exists()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError), _held(int(process.name)) as fd:  # it has just ended
            if _identity(process / "ns/net") in ours and int(process.name) != os.getpid():
                signal.pidfd_send_signal(fd, signal.SIGKILL)


@contextlib.contextmanager
def _held(pid: int) -> Iterator[int]:
    """Yield a descriptor of a process: its number may be another's by the time that we have looked at it."""
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _identity(namespace: Path) -> tuple[int, int]:
    its = namespace.stat()
    return its.st_dev, its.st_ino


def ip(*arguments: str) -> str:
    """Run iproute2's ``ip``; return what it printed.

    Raises:
        GatekeeperError: it is missing or failed.
    """
    return _run(["ip", *arguments])


def ip_in(name: str, *arguments: str) -> str:
    """Run ``ip`` inside a namespace.

    Raises:
        GatekeeperError: it is missing or failed.
    """
    with inside(name):
        return ip(*arguments)


def ip_batch(name: str, *lines: str) -> None:
    """Run several commands of ``ip`` inside a namespace, by one process: a process costs more than what it does here.

    Raises:
        GatekeeperError: it is missing, or a command failed; those behind it were not run.
    """
    with inside(name):
        _run(["ip", "-batch", "-"], text="\n".join(lines))


def _run(argv: list[str], *, text: str = "") -> str:
    try:
        # in a session of its own: a Ctrl-C is for us, who clean up, and not for the tool
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, check=False, env=_environment(), start_new_session=True
        )
    except FileNotFoundError:
        raise GatekeeperError(f"the command {argv[0]} is not installed", "apt-get install iproute2") from None
    if done.returncode != 0:
        words = " ".join(done.stderr.split())
        hint = "making network namespaces needs root: sudo gatekeeper demo" if os.geteuid() != 0 else None
        raise GatekeeperError(f"{' '.join(argv)}: {words}", hint)
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def netns_argv(name: str, *argv: str) -> list[str]:
    """Build the command line that runs a program inside a namespace.

    Not by ``ip netns exec``: that changes mounts too, which fails in a plain chroot.
    """
    return ["nsenter", f"--net={_RUN / name}", *argv]


def mortal_argv(*argv: str) -> list[str]:
    """Build the command line of a program that is ended when we are (prctl(2), PR_SET_PDEATHSIG)."""
    return ["setpriv", "--pdeathsig", "TERM", *argv]


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Make this thread's new sockets and processes belong to a namespace (setns(2)); they keep it for life."""
    with open("/proc/thread-self/ns/net", "rb") as home, (_RUN / name).open("rb") as there:  # noqa: PTH123
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise GatekeeperError(f"cannot enter a network namespace: {os.strerror(error)}", "run it as root")
