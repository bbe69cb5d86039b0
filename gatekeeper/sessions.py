"""Finds the connection by which whoever started this process is logged in.

Told from processes, and from what the kernel says is connected now; an environment alone proves nothing. In this order:

1. An ancestor of this process is sshd, or what else serves shells, and holds a connected socket of a protected port.
   This needs no environment, so ``sudo`` and ``su`` do not matter. One that holds connections of several peers serves a
   crowd, and says nothing of us.
2. Ancestors end at a terminal multiplexer (tmux, screen): the same, for the ancestors of the clients that this user has
   attached. The server's own environment may be of a session that is long over.
3. ``SSH_CONNECTION`` of this process or an ancestor, if exactly this connection is there. For where we may not look at
   the files of others.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from gatekeeper.networks import Address, Connection

_PROC = Path("/proc")
_SHELL_SERVERS = ("sshd", "dropbear", "tinysshd", "telnetd", "in.telnetd", "ttyd", "shellinaboxd")
"""By the beginning of their names: OpenSSH has sshd-session since 9.8."""
_MULTIPLEXERS = ("tmux", "screen")
_DEEPEST = 64
"""Ancestors that are looked at: more than anybody has, but an end, for the tree changes while we look."""
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def of_this_process(live: Mapping[int, Connection], proc: Path = _PROC) -> set[Connection]:
    """Return those of the ``live`` connections (by their sockets' inodes) by which we were started."""
    chain = list(_ancestors("self", proc))
    return _held(chain, live, proc) or _attached(chain, live, proc) or _named(chain, live.values(), proc)


def _held(chain: Iterable[str], live: Mapping[int, Connection], proc: Path) -> set[Connection]:
    for process in chain:
        if not _program(process, proc).startswith(_SHELL_SERVERS):
            continue
        held = {live[inode] for inode in _sockets(process, proc) if inode in live}
        if held and len({one.peer for one in held}) == 1:
            return held
    return set()


def _attached(chain: list[str], live: Mapping[int, Connection], proc: Path) -> set[Connection]:
    servers = {(_program(one, proc), _user(one, proc)) for one in chain if _program(one, proc) in _MULTIPLEXERS}
    if not servers:
        return set()
    found: set[Connection] = set()
    for path in proc.iterdir():
        process = path.name
        if process.isdecimal() and process not in chain and (_program(process, proc), _user(process, proc)) in servers:
            found |= _held(_ancestors(process, proc), live, proc)
    return found


def _named(chain: Iterable[str], live: Iterable[Connection], proc: Path) -> set[Connection]:
    known = set(live)
    for process in chain:
        named = read_connection(_environment(process, proc).get("SSH_CONNECTION", ""))
        if named in known:
            return {named}
    return set()


def read_connection(text: str) -> Connection | None:
    """Read what sshd writes into SSH_CONNECTION: the peer's address and port, and ours."""
    words = text.split()
    if len(words) != 4 or not (words[1].isdecimal() and words[3].isdecimal()):
        return None
    with contextlib.suppress(ValueError):
        return Connection(_address(words[2]), int(words[3]), _address(words[0]), int(words[1]))
    return None


def _address(text: str) -> Address:
    address = ip_address(text.partition("%")[0])  # sockets are listed without the link's name
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


# -- processes; one that is gone, or that we may not look at, has nothing


def _ancestors(process: str, proc: Path) -> Iterator[str]:
    """List a process and its ancestors; not the first of all, which holds what others handed it."""
    for _ in range(_DEEPEST):
        if process in {"0", "1", ""}:
            return
        yield process
        process = _status(process, proc).get("PPid", "")


def _status(process: str, proc: Path) -> dict[str, str]:
    """Read proc_pid_status(5)."""
    with contextlib.suppress(OSError):
        lines = (proc / process / "status").read_text(errors="replace").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _program(process: str, proc: Path) -> str:
    """Return the name of a program: of ``tmux: server`` the first word."""
    return _status(process, proc).get("Name", "").partition(":")[0]


def _user(process: str, proc: Path) -> str:
    return _status(process, proc).get("Uid", "").partition("\t")[0]


def _environment(process: str, proc: Path) -> dict[str, str]:
    """Read what a process was started with (proc_pid_environ(5))."""
    with contextlib.suppress(OSError):
        words = (proc / process / "environ").read_bytes().decode(errors="replace").split("\0")
        return {name: value for name, _, value in (word.partition("=") for word in words)}
    return {}


def _sockets(process: str, proc: Path) -> Iterator[int]:
    """List the inodes of the sockets that a process holds."""
    try:
        files = list((proc / process / "fd").iterdir())
    except OSError:
        return
    for file in files:
        with contextlib.suppress(OSError):
            if found := _SOCKET.fullmatch(str(file.readlink())):
                yield int(found[1])
