"""The other machines, as the client sees them: commands by the control network, packets by the world."""

from __future__ import annotations

import errno
import json
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

SSH = 22
UNGUARDED = 2200
"""The server's sshd listens here too, and nobody guards it."""
RULES = "/etc/gatekeeper/rules.yaml"
SERVER = {4: "192.168.57.10", 6: "fd57::10"}
CLIENT = {4: "192.168.57.20", 6: "fd57::20"}
SECOND = {4: "192.168.57.21", 6: "fd57::21"}
"""Other addresses that the client takes in some tests."""
OPEN, CLOSED = ["open", "open"], ["silent", "silent"]
"""What ``connects`` says, over IPv4 and IPv6."""
PATIENCE = 600.0
"""Seconds for what takes a few on a real machine: an emulated CPU is some twenty times slower, and three share two."""

_SSH = (
    *("ssh", "-i", "/home/vagrant/.ssh/control_key", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=6"),
)
# A login takes an emulated CPU a second or more: one connection for all commands.
_SHARED = ("-o", "ControlMaster=auto", "-o", "ControlPath=/home/vagrant/.ssh/shared-%n", "-o", "ControlPersist=600")


class Machine:
    """One of the others."""

    def __init__(self, name: str) -> None:
        self.name = name

    def argv(self, *argv: str, is_shared: bool = True) -> list[str]:
        """Write the command line that runs one there."""
        return [*_SSH, *(_SHARED if is_shared else ()), f"vagrant@{self.name}-control", shlex.join(argv)]

    def tries(self, *argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command there, whatever becomes of it."""
        return run(*self.argv(*argv), text=text)

    def ok(self, *argv: str, text: str | None = None) -> str:
        """Run a command there that must succeed; return what it printed."""
        done = self.tries(*argv, text=text)
        assert done.returncode == 0, f"{self.name}: {shlex.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def root(self, *argv: str, text: str | None = None) -> str:
        """Run a command there as root; it must succeed."""
        return self.ok("sudo", *argv, text=text)

    def boot_id(self) -> str:
        """Return what differs between one boot and the next; nothing while the machine is down."""
        return run(*self.argv("cat", "/proc/sys/kernel/random/boot_id", is_shared=False)).stdout.strip()

    def reboot(self) -> None:
        """Boot it anew; it answers again when this returns, and its services may still be starting."""
        before = self.boot_id()
        self.tries("sudo", "systemctl", "--no-block", "reboot")
        run("ssh", *_SHARED, "-O", "exit", f"{self.name}-control")
        wait_until(lambda: self.boot_id() not in {"", before})


def run(*argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command here."""
    return subprocess.run(argv, input=text or "", capture_output=True, text=True, check=False, timeout=PATIENCE)


def ok(*argv: str) -> str:
    """Run a command here that must succeed; return what it printed."""
    done = run(*argv)
    assert done.returncode == 0, f"{shlex.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(
    condition: Callable[[], bool], *, seconds: float = PATIENCE, told: Callable[[], object] = lambda: ""
) -> None:
    """Wait for something that must come true; if it does not, ``told`` says how far it has come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true in time {told()}"
        time.sleep(0.5)


def connect(version: int, *, port: int = SSH, source: str | None = None, seconds: float = 4.0) -> str:
    """Connect from here to the server: ``open``, ``refused``, or ``silent`` for that long."""
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6) as one:
        one.settimeout(seconds)
        if source is not None:
            one.bind((source, 0))
        try:
            one.connect((SERVER[version], port))
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            if error.errno not in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
                raise
            return "unreachable"
    return "open"


def connects(*, seconds: float = 4.0) -> list[str]:
    """Connect over IPv4 and IPv6, as ``connect`` does."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda version: connect(version, seconds=seconds), SERVER))


def shut() -> None:
    """Wait until a close has shut the server to us, over IPv4 and IPv6: it is a knock for each, read one by one."""
    wait_until(lambda: connects(seconds=3) == CLOSED, seconds=30)


def say(text: str) -> None:
    """Tell who watches what was seen."""
    print(f"\n    {text}", flush=True)


class Watch:
    """A stranger who looks for the guarded port all the while, and never finds it (watch.py)."""

    def __init__(self, stranger: Machine) -> None:
        self._stranger = stranger

    def __enter__(self) -> Self:
        argv = self._stranger.argv("python3", "/gatekeeper/vagrant/integration/watch.py", *SERVER.values())
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "watching\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> dict[str, Any]:
        """End it; return what it saw."""
        said, _ = self._process.communicate("", timeout=PATIENCE)
        seen: dict[str, Any] = json.loads(said)
        return seen


def boot(server: Machine, stranger: Machine) -> None:
    """Boot the server anew, with a stranger who tries its port from before it goes down until its service is up."""
    with Watch(stranger) as watch:
        time.sleep(2)
        server.reboot()
        wait_until(lambda: server.tries("systemctl", "is-active", "gatekeeper.service").stdout == "active\n")
        time.sleep(5)
        seen = watch.end()
    say(
        f"{seen['tries']} connects and {seen['scans']} scans by nmap in {seen['seconds']} s, at most "
        f"{seen['longest_pause']} s apart; the port beside was away from {seen['away'][0]} to {seen['away'][1]} s"
    )
    assert not seen["found"], seen["found"]
    assert seen["scans"] >= 4, seen
    assert seen["longest_pause"] < 5, seen
    assert seen["away"][1] - seen["away"][0] > 5, "it was never seen to be down"
