"""knockd.conf: its doors, as knockd 0.8 reads them. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

from gatekeeper.migrate import lines
from gatekeeper.migrate.access import Setting
from gatekeeper.migrate.note import Notes

_OPTIONS = frozenset({"LOGFILE", "PIDFILE", "INTERFACE", "USESYSLOG"})
_ALIASES = {"COMMAND": "START_COMMAND", "COMMAND_6": "START_COMMAND_6", "TIMEOUT": "SEQ_TIMEOUT"}
_DIRECTIVES = """
    TARGET SEQUENCE ONE_TIME_SEQUENCES SEQ_TIMEOUT TCPFLAGS
    START_COMMAND START_COMMAND_6 CMD_TIMEOUT STOP_COMMAND STOP_COMMAND_6
"""
DIRECTIVES = frozenset(_DIRECTIVES.split())
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")
_MOST_DOORS = 10_000
_MOST_STEPS = 32
_STEP = re.compile(r"\s*(\d{1,6})\s*(?::\s*(tcp|udp)\s*)?", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"\s*(\d{1,9})", re.ASCII)
_SEQ_TIMEOUT, _CMD_TIMEOUT = 25, 10
_LONGEST_SEQUENCE = 300
"""Seconds that a sequence may take here."""
_REFUSED = "knockd refuses such a file"


@dataclass(slots=True)
class Door:
    """One door: a sequence, and what it does."""

    name: str
    where: tuple[str, int]
    settings: dict[str, Setting] = field(default_factory=dict)
    """By their names in upper case; the last one of several counts."""

    def get(self, name: str) -> Setting | None:
        """Return a setting; an alias has been replaced by what it stands for."""
        return self.settings.get(name)

    def command(self, name: str, version: int) -> Setting | None:
        """Return a command for an IP version (``None``: none is run): that of IPv6 falls back on that of IPv4."""
        setting = self.get(f"{name}_6") if version == 6 else None
        setting = self.get(name) if setting is None else setting
        return setting if setting is not None and setting.value else None


def doors(file: str, content: bytes, notes: Notes) -> list[Door]:
    """Read all doors of a file, in their order.

    Raises:
        ConversionError: it is no text, or too large.
    """
    found: list[Door] = []
    section: str | None = None
    for number, raw in lines.split(content, file):
        text, where = raw.strip(), (file, number)
        if not text or text.startswith("#"):
            continue
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1]
            if section != "options" and len(found) < _MOST_DOORS:
                found.append(Door(section, where))
            elif section != "options":
                notes.add(where, f"there are more than {_MOST_DOORS} doors: this one is left out")
                section = None
            continue
        name, equals, value = (part.strip() for part in text.partition("="))
        setting = Setting(_ALIASES.get(name.upper(), name.upper()), value, where)
        if section is None:
            notes.add(where, f"{name!a} stands in no section", _REFUSED)
        elif section == "options":
            _option(setting, notes, has_value=bool(equals))
        elif setting.name not in DIRECTIVES or not equals:
            notes.add(where, f"{name!a} is no directive of a door", _REFUSED)
        else:
            found[-1].settings[setting.name] = setting
    return found


def _option(setting: Setting, notes: Notes, *, has_value: bool) -> None:
    if setting.name not in _OPTIONS or has_value is (setting.name == "USESYSLOG"):
        notes.add(setting.where, f"{setting.name!a} is no option", _REFUSED)
    elif setting.name == "INTERFACE":
        hint = "`interface` of a service says where its port is guarded"
        words = f"Interface: sequences are heard at all interfaces, not at {setting.value!a} only"
        notes.add(setting.where, words, hint)


def steps(setting: Setting) -> list[str]:
    """Read a sequence; return its steps as rules.yaml has them: ``7000/udp``, or ``8000`` for TCP.

    Raises:
        ValueError: it is none; says why.
    """
    found = []
    for word in setting.value.split(","):
        match = _STEP.fullmatch(word)
        if match is None or not 1 <= int(match[1]) <= 65535:
            raise ValueError(f"{word.strip()!a} is no port, or port:udp")
        found.append(f"{int(match[1])}/udp" if (match[2] or "tcp").lower() == "udp" else str(int(match[1])))
    if len(found) > _MOST_STEPS:
        raise ValueError(f"it has {len(found)} ports, more than {_MOST_STEPS}")
    if len(found) == 1:
        raise ValueError("it has one port: whoever scans that has knocked, which is no sequence here")
    return found


def flags(setting: Setting | None) -> list[str]:
    """Read TCP flags: ``syn``, ``!ack``.

    Raises:
        ValueError: there is no such flag.
    """
    found = [word.strip().lower() for word in setting.value.split(",")] if setting is not None else []
    for word in found:
        if word.removeprefix("!") not in FLAGS:
            raise ValueError(f"{word!a} is no flag of TCP's")
    return list(dict.fromkeys(found))


def seq_timeout(door: Door, notes: Notes) -> int:
    """Return how many seconds a sequence may take."""
    setting = door.get("SEQ_TIMEOUT")
    found = _seconds(setting, _SEQ_TIMEOUT, notes)
    if setting is not None and found > _LONGEST_SEQUENCE:
        notes.add(setting.where, f"Seq_Timeout: a sequence may take {_LONGEST_SEQUENCE} s at most here")
        return _LONGEST_SEQUENCE
    return found


def cmd_timeout(door: Door, notes: Notes) -> int:
    """Return how many seconds lie between the command that opens and the one that closes."""
    return _seconds(door.get("CMD_TIMEOUT"), _CMD_TIMEOUT, notes)


def _seconds(setting: Setting | None, default: int, notes: Notes) -> int:
    if setting is None:
        return default
    match = _NUMBER.match(setting.value)  # as atoi: what stands behind the digits does not matter
    found = int(match[1]) if match is not None else 0
    if found < 1:
        notes.add(setting.where, f"{setting.name.title()}: {setting.value!a} is no time; 1 s is taken")
        return 1
    return found


def beside(setting: Setting) -> str:
    """Return the path that a setting names; knockd takes it from where it was started, which nobody knows later."""
    return posixpath.join(posixpath.dirname(setting.where[0]), setting.value)
