"""The exception tree. Every error that a user can cause or meet has its place here.

::

    GatekeeperError            message and hint; exit status 1
    +-- RulesError             rules.yaml cannot be used; carries every Problem
    +-- StoreError             the state directory or the database in it
    +-- FirewallError          iptables, ipset or netlink refused
    +-- QueueError             the NFQUEUE cannot be bound
    +-- ClientError            a knock could not be sent
    +-- UsageError             what the command line asks for makes no sense here

Only ``cli.py`` prints them. Anything else that reaches the top is a bug (exit status 3).
"""

from __future__ import annotations

from dataclasses import dataclass


class GatekeeperError(Exception):
    """An expected error: one line that says what is wrong, and one that says what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong (or unwise) in a rules file, with its place (line and column count from 1)."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None
    is_warning: bool = False

    def __str__(self) -> str:
        kind = "warning: " if self.is_warning else ""
        return f"{self.file}:{self.line}:{self.column}: {kind}{self.message}"


class RulesError(GatekeeperError):
    """The rules file cannot be used; ``problems`` holds all of it, in the order of the file."""

    def __init__(self, problems: list[Problem], *, count: int | None = None) -> None:
        errors = [problem for problem in problems if not problem.is_warning]
        super().__init__("\n".join(map(str, errors)))
        self.problems = problems
        self.count = len(errors) if count is None else count
        """How many there are in all; ``problems`` may be the first of them only."""


class StoreError(GatekeeperError):
    """The state directory, or the database in it, cannot be used."""


class FirewallError(GatekeeperError):
    """The kernel, or a tool that speaks to it, refused; ``errno`` is the kernel's own word, where it gave one."""

    def __init__(self, message: str, hint: str | None = None, *, errno: int | None = None) -> None:
        super().__init__(message, hint)
        self.errno = errno


class QueueError(GatekeeperError):
    """The NFQUEUE cannot be bound."""


class ClientError(GatekeeperError):
    """A knock could not be sent."""


class UsageError(GatekeeperError):
    """The arguments are well-formed, but make no sense with these rules or on this machine."""
