"""What other people's rules do to the bit that gatekeeper marks connections with. Pure."""

from __future__ import annotations

import enum

from gatekeeper.doctor.walk import Rule

_ALL = 0xFFFF_FFFF


class Touch(enum.Enum):
    """How a rule gets at the bit."""

    SETS = enum.auto()
    """The bit of connections: who meets it is let in, until its connection ends."""
    CLEARS = enum.auto()
    """The same: connections that outlive their grant are cut."""
    COPIES = enum.auto()
    """From packets to connections."""
    ON_PACKETS = enum.auto()
    """The bit of packets."""


def touch(rule: Rule, mark: int) -> Touch | None:
    """Say how a rule, as iptables-save writes it, gets at a bit; ``None`` if it does not."""
    if rule.target not in {"CONNMARK", "MARK"}:
        return None
    options = rule.options
    value, mask = _pair(options)
    if rule.target == "MARK":
        return Touch.ON_PACKETS if value & mark else None
    if "--save-mark" in options:
        return Touch.COPIES if _after(options, "--ctmask") & mark else None
    if "--restore-mark" in options:
        return None  # what a packet gets so, our own chains take off again
    if value & mark:
        return Touch.SETS
    return Touch.CLEARS if mask & mark else None


def _pair(options: tuple[str, ...]) -> tuple[int, int]:
    """Read ``--set-xmark VALUE/MASK``: which bits are set, and which are touched at all."""
    text = next((options[n + 1] for n, word in enumerate(options[:-1]) if word in {"--set-xmark", "--set-mark"}), "")
    if not text:
        return 0, 0
    value, _, mask = text.partition("/")
    return _number(value, 0), _number(mask, _ALL)


def _after(options: tuple[str, ...], name: str) -> int:
    """Read a number behind an option; without one, all bits."""
    for number, word in enumerate(options[:-1]):
        if word == name:
            return _number(options[number + 1], _ALL)
        if word == "--mask":
            return _number(options[number + 1], _ALL)
    return _ALL


def _number(text: str, default: int) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return default
