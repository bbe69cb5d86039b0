"""The exception tree. Every error that a user can cause or meet has its place here.

::

    GatekeeperError            message and hint; exit status 1
    +-- RulesError             rules.yaml cannot be used; carries every Problem (problems.py)
    +-- StoreError             the state directory or the database in it
    +-- FirewallError          iptables, ipset or netlink refused
    +-- QueueError             the NFQUEUE cannot be bound
    +-- ClientError            a knock could not be sent, or was not followed by an open port
    |   +-- UnreachableError   no address took the knock; that may pass
    +-- CaptureError           a capture cannot be read or written
    +-- KeyFileError           a private key cannot be read, written or used
    +-- ConversionError        a configuration of fwknopd or knockd cannot be read, or nothing of it has an equal
    +-- EditError              a rules file cannot be edited by a command
    +-- UsageError             what the command line asks for makes no sense here

Only ``cli.py`` prints them. Anything else that reaches the top is a bug (exit status 3).
"""

from __future__ import annotations


class GatekeeperError(Exception):
    """An expected error: one line that says what is wrong, and one that says what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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
    """A knock could not be sent, or was not followed by an open port."""


class UnreachableError(ClientError):
    """No address took the knock, for the network is not there (yet)."""


class CaptureError(GatekeeperError):
    """A capture cannot be read or written."""


class KeyFileError(GatekeeperError):
    """A private key cannot be read, written or used."""


class ConversionError(GatekeeperError):
    """A configuration of another daemon cannot be read, or nothing in it has an equal here."""


class EditError(GatekeeperError):
    """A rules file cannot be edited by a command; it is as it was."""


class UsageError(GatekeeperError):
    """The arguments are well-formed, but make no sense with these rules or on this machine."""
