"""By which rules ``run`` works, and what became of the last reload: two small files in the state directory, 0600.

They are for who asks (``status``, ``diff``, ``reload``); ``run`` itself reads one at its start, for a word in the
audit trail. So nothing rests on them, and where they cannot be written it only says so. Keys are in there as digests,
with a salt of that file's own.

Whoever reads them trusts no more in them than in their format: the folder is the service's user's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatekeeper import differences, observe
from gatekeeper.firewall import names, ruleset, sets
from gatekeeper.firewall.members import Members, RuleMembers, SetMembers
from gatekeeper.settings import Established, FirewallSettings, Ports, Rules, Service, Transport
from gatekeeper.store.owner import open_or_make

IN_FORCE, LAST_RELOAD = "in-force.json", "reload.json"
_MOST = 64 * 1024 * 1024
_SALT = 16
NONSENSE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
"""What comes of a file that somebody else has written."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of the last reload, or of the start."""

    pid: int
    """The run that says so."""
    begun: float
    """By the monotonic clock, which all processes share: what was asked for later is not meant."""
    when: float
    ok: bool
    words: tuple[str, ...]
    """What changed, in a line; or what is wrong, a line for each problem."""


@dataclass(frozen=True, slots=True)
class InForce:
    """By which rules ``run`` works."""

    pid: int
    when: float
    """When it went over to them."""
    file: str
    """The rules file, by its absolute path."""
    only_observes: bool
    """Whatever the rules say."""
    has_rules: bool
    """Whether grants are rules of iptables."""
    salt: str
    said: dict[str, dict[str, str]]
    """What they say (differences.py)."""
    texts: dict[str, str]
    """What was loaded: ``ipset``, ``iptables``, ``ip6tables``."""
    outline: dict[str, Any]
    """What ``status`` needs, should the file be unreadable now."""

    def said_by(self, rules: Rules) -> dict[str, dict[str, str]]:
        """Describe other rules so that they can be compared with these."""
        return differences.describe(rules, _digest(bytes.fromhex(self.salt)))

    def rules(self) -> Rules:
        """Make rules of the outline: services and queues, without anybody who could knock."""
        services = {name: _service(name, its) for name, its in self.outline["services"].items()}
        return Rules(
            services, {}, workers=self.outline["workers"], firewall=FirewallSettings(*self.outline["firewall"])
        )


def of(rules: Rules, file: Path, *, when: float, only_observes: bool, has_rules: bool) -> InForce:
    """Put together what is to be known of rules that are in force from now on."""
    salt = os.urandom(_SALT)
    firewall = rules.firewall
    outline = {
        "services": {one.name: _outline(one) for one in rules.services.values()},
        "workers": rules.workers,
        "firewall": [firewall.variant, firewall.queue, firewall.mark, firewall.backend],
    }
    return InForce(
        pid=os.getpid(),
        when=when,
        file=str(file.absolute()),
        only_observes=only_observes,
        has_rules=has_rules,
        salt=salt.hex(),
        said=differences.describe(rules, _digest(salt)),
        texts=texts(rules, has_rules=has_rules),
        outline=outline,
    )


def texts(rules: Rules, *, has_rules: bool) -> dict[str, str]:
    """Write what is loaded for rules, without grants and door tags."""
    members: Members = RuleMembers() if has_rules else SetMembers()
    found = {} if has_rules else {"ipset": sets.create_text(rules)}
    for version in names.VERSIONS:
        name = "iptables" if version == 4 else "ip6tables"
        found[name] = ruleset.iptables_text(rules, version, members)
    return found


def write(folder: Path, what: InForce | Reload) -> None:
    """Write one of the files anew. What goes wrong is a warning: the rules are in force all the same."""
    path = folder / (IN_FORCE if isinstance(what, InForce) else LAST_RELOAD)
    try:
        write_object(path, asdict(what))
    except OSError as error:
        words = f"{path} could not be written: status and diff do not know what is in force ({error.strerror})"
        observe.message(words, level=logging.WARNING)


def read(folder: Path) -> InForce | None:
    """Read what is in force; ``None`` where nobody has said so.

    Raises:
        OSError: we may not look.
    """
    try:
        its = InForce(**read_object(folder / IN_FORCE))
        if len(bytes.fromhex(its.salt)) != _SALT:
            return None
        its.rules()
        return replace(
            its,
            when=_moment(its.when),
            file=_printable(its.file),
            said={_printable(what): _each_printable(fields) for what, fields in its.said.items()},
            texts=_each_printable(its.texts),
        )
    except NONSENSE:
        return None


def read_last(folder: Path) -> Reload | None:
    """Read what became of the last reload; ``None`` where nobody has said so.

    Raises:
        OSError: we may not look.
    """
    try:
        its = Reload(**read_object(folder / LAST_RELOAD))
        words = tuple(map(_printable, its.words))
        return replace(its, pid=int(its.pid), begun=float(its.begun), when=_moment(its.when), words=words)
    except NONSENSE:
        return None


def write_object(path: Path, what: Mapping[str, Any]) -> None:
    """Write a file anew, whole.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with open(open_or_make(temporary), "w") as file:  # noqa: PTH123  (a descriptor)
        file.write(json.dumps(what))  # at once: that is ten times as fast as dump
    temporary.replace(path)


def read_object(path: Path, *, most: int = _MOST) -> Mapping[str, Any]:
    """Read an object of ``most`` bytes. Never what a link names, and a pipe must not keep us waiting.

    Raises:
        OSError: we may not look.
        ValueError: nobody has written one.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ValueError("nobody has written it") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)  # ``open`` leaves that of a folder open
        raise ValueError("not a file")
    with open(fd, "rb") as file:  # noqa: PTH123  (a descriptor)
        found = json.loads(file.read(most))
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  (of the file's content, as any other)
    return found


def _digest(salt: bytes) -> differences.Digest:
    return lambda secret: hashlib.blake2b(secret, key=salt, digest_size=12).hexdigest()


def _outline(service: Service) -> list[Any]:
    ports = [[one.transport.value, one.first, one.last] for one in service.ports]
    return [ports, service.ttl, service.max_ttl, service.established.value]


def _service(name: str, its: Sequence[Any]) -> Service:
    ports, ttl, max_ttl, established = its
    made = tuple(Ports(Transport(transport), first, last) for transport, first, last in ports)
    return Service(_printable(name), made, ttl, max_ttl, Established(established))


def _moment(when: float) -> float:
    datetime.fromtimestamp(when, UTC)  # or it could not be shown
    return float(when)


def _each_printable(texts: Mapping[str, str]) -> dict[str, str]:
    return {_printable(name): "\n".join(map(_printable, text.split("\n"))) for name, text in texts.items()}


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
