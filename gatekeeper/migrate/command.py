"""What a command of an old configuration does to a port: an iptables command line (or a helper's) as a value. Pure.

Only what is surely an ACCEPT or a DROP for the knocker's own address is understood; everything else is refused with
a cause. Nothing is ever run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gatekeeper.migrate.names import WELL_KNOWN
from gatekeeper.settings import Ports, Transport

KNOCKER = "%IP%"
"""What knockd puts the knocker's address in the place of."""
MAX_LENGTH = 4096
_JOINERS = frozenset({";", "&&"})
_SHELL = re.compile(r"[$`*?~{}\\]|^[|&;<>()]+$")
_RANGE = re.compile(r"(\d{1,5})(?:[:-](\d{1,5}))?", re.ASCII)
_PROGRAM = re.compile(r"(ip6?)tables(-nft|-legacy)?", re.ASCII)
_HOSTS = {KNOCKER: None, f"{KNOCKER}/32": None, f"{KNOCKER}/128": None}
_NEW = frozenset({"NEW", "ESTABLISHED", "RELATED"})
_HELPERS = frozenset({"knock_add", "knock_helper_ipt.sh"})
"""The script that comes with knockd, by its old name and by Debian's."""


@dataclass(slots=True)
class Action:
    """One rule that is added or taken away."""

    opens: bool = True
    """Whether it lets the knocker in; otherwise it shuts it out."""
    version: int = 4
    transport: Transport | None = None
    """``None``: of any protocol."""
    ports: list[Ports] = field(default_factory=list)
    """None named: all of them."""
    cautions: list[str] = field(default_factory=list)
    """What of it has no equal, and is left out."""


def read(command: str) -> list[Action]:
    """Read a command line of knockd's.

    Raises:
        ValueError: it does something else; says what.
    """
    if len(command) > MAX_LENGTH:
        raise ValueError("it is too long")
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ValueError(f"it cannot be taken apart: {str(error).lower()}") from None
    found = [_one(part) for part in _split(words)]
    if not found:
        raise ValueError("it is empty")
    return found


def _split(words: list[str]) -> Iterator[list[str]]:
    """Split a shell's command line into simple commands that follow each other."""
    part: list[str] = []
    for word in words:
        if word in _JOINERS:
            if part:
                yield part
            part = []
        elif _SHELL.search(word):
            raise ValueError(f"it needs a shell ({word!a})")
        else:
            part.append(word)
    if part:
        yield part


def _one(words: list[str]) -> Action:
    while len(words) > 1 and _base(words[0]) == "sudo":
        words = words[1:]
    program = _base(words[0])
    if match := _PROGRAM.fullmatch(program):
        return _Iptables(words[1:], 6 if match[1] == "ip6" else 4).read()
    if program in _HELPERS:
        return _Helper(words[1:], 4).read()
    raise ValueError(f"it runs {program!a}, which is not iptables")


def _base(path: str) -> str:
    return path.rpartition("/")[2]


class _Arguments:
    """The words behind a program's name, taken one by one."""

    known: dict[str, Callable[..., None]]

    def __init__(self, words: list[str], version: int) -> None:
        self._words = words
        self._action = Action(version=version)
        self._adds: bool | None = None
        self._accepts: bool | None = None
        self._is_for_knocker = False

    def read(self) -> Action:
        """Read them all."""
        while self._words:
            name, equals, value = self._words.pop(0).partition("=")
            if equals and name.startswith("--"):
                self._words.insert(0, value)
            take = self._options().get(name)
            if take is None:
                raise ValueError(f"its option {name!a} has no equal")
            take()
        return self._done()

    def _options(self) -> dict[str, Callable[[], None]]:
        raise NotImplementedError

    def _done(self) -> Action:
        action = self._action
        if self._adds is None or self._accepts is None:
            raise ValueError("it neither adds nor deletes an ACCEPT or a DROP")
        if not self._is_for_knocker:
            raise ValueError(f"it does not name {KNOCKER}: it is for everybody, not for who has knocked")
        if action.ports and action.transport is None:
            action.transport = Transport.TCP
            action.cautions.append("it names a port and no protocol (-p), which iptables refuses: tcp is taken")
        transport = action.transport or Transport.TCP
        action.ports = [Ports(transport, ports.first, ports.last) for ports in action.ports]
        action.opens = self._adds is self._accepts
        return action

    def _next(self) -> str:
        if not self._words:
            raise ValueError("its last option lacks a value")
        return self._words.pop(0)

    def _source(self) -> None:
        word = self._next()
        if word not in _HOSTS:
            raise ValueError(f"it is for {word!a}, not for {KNOCKER}")
        self._is_for_knocker = True

    def _protocol(self) -> None:
        word = self._next().lower()
        names = {"tcp": Transport.TCP, "6": Transport.TCP, "udp": Transport.UDP, "17": Transport.UDP}
        if word not in (*names, "all", "0"):
            raise ValueError(f"its protocol {word!a} has no equal")
        self._action.transport = names.get(word)

    def _ports(self) -> None:
        for given in self._next().split(","):
            word = str(WELL_KNOWN[given].first) if given in WELL_KNOWN else given
            match = _RANGE.fullmatch(word)
            if match is None:
                raise ValueError(f"{word!a} is no number of a port")
            first, last = int(match[1]), int(match[2] or match[1])
            if not 1 <= first <= last <= 65535:
                raise ValueError(f"{word!a} is not a port")
            self._action.ports.append(Ports(Transport.TCP, first, last))

    def _chain(self, name: str) -> None:
        if name in ("FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"):
            raise ValueError(f"it is about the chain {name}, not INPUT")
        if name != "INPUT":
            self._action.cautions.append(f"the chain {name!a} is taken for a part of INPUT")

    def _skip(self) -> None:
        """Take something that changes nothing."""

    def _skip_value(self) -> None:
        self._next()


class _Iptables(_Arguments):
    """Those of iptables and ip6tables."""

    def _options(self) -> dict[str, Callable[[], None]]:
        chosen: dict[str, Callable[[], None]] = {}
        table: tuple[tuple[str, Callable[[], None]], ...] = (
            ("-A --append -I --insert", self._add),
            ("-D --delete", self._delete),
            ("-s --source --src", self._source),
            ("-p --protocol --proto", self._protocol),
            ("--dport --destination-port --dports --destination-ports", self._ports),
            ("-m --match", self._match),
            ("--state --ctstate", self._state),
            ("-j --jump", self._target),
            ("-t --table", self._table),
            ("-w --wait", self._wait),
            ("--syn -n --numeric -v --verbose -4 -6", self._skip),
            ("--comment --reject-with", self._skip_value),
            ("-i --in-interface", self._interface),
            ("-d --destination --dst", self._destination),
        )
        for names, take in table:
            chosen.update(dict.fromkeys(names.split(), take))
        return chosen

    def _add(self) -> None:
        self._rule(adds=True)

    def _delete(self) -> None:
        self._rule(adds=False)

    def _rule(self, *, adds: bool) -> None:
        if self._adds is not None:
            raise ValueError("it adds and deletes at once")
        self._adds = adds
        self._chain(self._next())
        if self._words and self._words[0].isdecimal():  # at this place of the chain
            if not adds:
                raise ValueError("it deletes whatever rule has a number")
            self._next()

    def _match(self) -> None:
        word = self._next()
        if word not in ("tcp", "udp", "multiport", "state", "conntrack", "comment"):
            raise ValueError(f"its match {word!a} has no equal")

    def _state(self) -> None:
        states = set(self._next().upper().split(","))
        if "NEW" not in states or not states <= _NEW:
            raise ValueError("its match of a state other than NEW has no equal")

    def _target(self) -> None:
        word = self._next()
        if word not in ("ACCEPT", "DROP", "REJECT"):
            raise ValueError(f"its target is {word!a}, not ACCEPT or DROP")
        self._accepts = word == "ACCEPT"

    def _table(self) -> None:
        word = self._next()
        if word != "filter":
            raise ValueError(f"it is about the table {word!a}, not filter")

    def _wait(self) -> None:
        if self._words and self._words[0].isdecimal():
            self._next()

    def _interface(self) -> None:
        self._action.cautions.append(f"it is for the interface {self._next()!a} only: here it is for all")

    def _destination(self) -> None:
        self._action.cautions.append(
            f"it is for the address {self._next()!a} only: here it is for all of this machine's"
        )


class _Helper(_Arguments):
    """Those of the script that comes with knockd, which adds an ACCEPT once, or deletes it."""

    def _options(self) -> dict[str, Callable[[], None]]:
        chosen: dict[str, Callable[[], None]] = {}
        table: tuple[tuple[str, Callable[[], None]], ...] = (
            ("-a --append -i --insert", self._add),
            ("-x --delete", self._delete),
            ("-f --srcaddr", self._source),
            ("-d --dstport", self._ports),
            ("-p --proto", self._protocol),
            ("-c --chain", self._named_chain),
            ("-m --comment", self._skip_value),
            ("-v --verbose", self._skip),
        )
        for names, take in table:
            chosen.update(dict.fromkeys(names.split(), take))
        return chosen

    def _done(self) -> Action:
        self._accepts = True
        self._action.transport = self._action.transport or Transport.TCP
        if not self._action.ports:
            raise ValueError("it names no port")
        return super()._done()

    def _add(self) -> None:
        self._adds = True

    def _delete(self) -> None:
        self._adds = False

    def _named_chain(self) -> None:
        self._chain(self._next())
