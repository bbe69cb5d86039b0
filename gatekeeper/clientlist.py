"""``gatekeeper client add|remove|list``: edits the clients of a rules file, and of those that it includes.

A file is written only when the rules that it would make were read, and are those of before, plus or minus that client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from gatekeeper import duration, included, replacing, rules, schedule
from gatekeeper.errors import EditError, UsageError
from gatekeeper.escaping import escape
from gatekeeper.garbage import unsearched
from gatekeeper.networks import show_source
from gatekeeper.problems import Problem, RulesError
from gatekeeper.rules import edit
from gatekeeper.rules.document import Place
from gatekeeper.rules.edit import Value
from gatekeeper.sealed import keys
from gatekeeper.settings import Client, Rules

_BOM = b"\xef\xbb\xbf"
_SECRETS = frozenset({"open", "close", "sequence", "close_sequence"})
_SECRETS_OF_FWKNOP = frozenset({"key", "key_base64", "hmac_key", "hmac_key_base64"})


class Edited(NamedTuple):
    """What was done."""

    place: Place
    """Where the client stands now, or stood."""
    rules: Rules
    """As they are now."""
    warnings: tuple[Problem, ...] = ()
    """What is unwise in them, and was not before."""


def add(rules_file: Path, name: str, fields: Mapping[str, Value], *, file: str | None = None) -> Edited:
    """Add a client; ``file``: to another file than the main one, seen from its folder.

    Raises:
        RulesError: the rules cannot be used as they are.
        UsageError: there is such a client, or it would be none that can be used.
        EditError: the file cannot be edited, or not by us.
    """
    with replacing.locked(rules_file), unsearched():
        before = rules.read(rules_file)
        if name in before.rules.clients:
            place = before.places[name]
            hint = f"choose another name, or take that one out: gatekeeper client remove {name}"
            raise UsageError(f'there is a client "{name}" already, at {place.file}:{place.line}', hint)
        target = _target(before, rules_file, file)
        old = _content(target)
        new = _edited(target, old or b"", lambda text: edit.add(text, name, fields), _by_hand(name, fields))
        after = _read(rules_file, target, new)
        its = after.rules.clients.get(name)
        if its is None or after.rules != replace(before.rules, clients={**before.rules.clients, name: its}):
            raise EditError(f"{target} would mean something else besides; nothing was changed", _by_hand(name, fields))
        replacing.replace(target, old, new, like=rules_file)
        known = {problem.message for problem in before.problems}
        warnings = tuple(problem for problem in after.problems if problem.message not in known)
        return Edited(after.places[name], after.rules, warnings)


def remove(rules_file: Path, name: str) -> Edited:
    """Take a client out of the file that it stands in.

    Raises:
        RulesError: the rules cannot be used as they are.
        UsageError: there is no such client.
        EditError: the file cannot be edited, or not by us.
    """
    with replacing.locked(rules_file), unsearched():
        before = rules.read(rules_file)
        if name not in before.rules.clients:
            raise UsageError(f'there is no client "{name}" in the rules', "`gatekeeper client list` has all of them")
        place = before.places[name]
        target = Path(place.file)
        old = _content(target)
        hint = f"take out what stands at {place.file}:{place.line} yourself"
        new = _edited(target, old or b"", lambda text: edit.remove(text, name), hint)
        after = _read(rules_file, target, new)
        rest = {one: its for one, its in before.rules.clients.items() if one != name}
        if after.rules != replace(before.rules, clients=rest):
            raise EditError(f"{target} would mean something else besides; nothing was changed", hint)
        replacing.replace(target, old, new, like=rules_file)
        return Edited(place, after.rules)


def has_secrets(fields: Mapping[str, Value]) -> bool:
    """Whether there is a key in a client's fields that nobody may see."""
    fwknop = fields.get("fwknop")
    theirs = set(fwknop) if isinstance(fwknop, Mapping) else set()
    return bool(_SECRETS & set(fields) or _SECRETS_OF_FWKNOP & theirs)


def _target(before: rules.Read, rules_file: Path, file: str | None) -> Path:
    """Return the file to edit: one of the rules', or a new one in the folder that they include."""
    if file is None:
        return rules_file
    target = rules_file.parent / file
    for known in before.files:
        if known.absolute() == target.absolute():
            return known
    if before.folder is None:
        raise UsageError(f"{escape(file)} is no file of these rules", "add the line `include: rules.d` to them first")
    is_taken = target.suffix == included.SUFFIX and not target.name.startswith(".")
    if target.parent.absolute() != before.folder.absolute() or not is_taken:
        hint = f"name a file *{included.SUFFIX} in {before.folder}, which they include; it is made if it is not there"
        raise UsageError(f"{escape(file)} is no file of these rules", hint)
    return before.folder / target.name


def _content(file: Path) -> bytes | None:
    """Return what is in a file; ``None``: there is none yet."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EditError(f"cannot read {file}: {error.strerror}") from error


def _edited(file: Path, content: bytes, change: Callable[[str], str], by_hand: str) -> bytes:
    bom = _BOM if content.startswith(_BOM) else b""
    try:
        text = change(content.removeprefix(_BOM).decode())
        return bom + text.encode()
    except edit.CannotEditError as error:
        raise EditError(f"{file} cannot be edited by a command: {error}", by_hand) from error
    except UnicodeError as error:
        raise EditError(f"{file} cannot be edited by a command: it is not UTF-8", by_hand) from error


def _read(rules_file: Path, target: Path, new: bytes) -> rules.Read:
    """Read the rules as they would be. What is wrong then is wrong with what is asked for."""
    try:
        return rules.read(rules_file, instead={target: new})
    except RulesError as error:
        problem = next(one for one in error.problems if not one.is_warning)
        raise UsageError(problem.message, problem.hint) from None


def _by_hand(name: str, fields: Mapping[str, Value]) -> str:
    if has_secrets(fields):
        return "edit it by hand"
    return f"put this under clients: yourself: {edit.flow({name: dict(fields)})[1:-1]}"


# -- what there is


class Listed(NamedTuple):
    """A client of the rules."""

    client: Client
    place: Place
    is_over: bool
    """Whether its last day has gone by."""

    @property
    def kind(self) -> str:
        """What it knocks with."""
        if self.client.fwknop is not None:
            return "fwknop"
        if self.client.sequences is not None:
            return "sequence"
        if self.client.open_key is not None:
            return "plain"
        count = len(self.client.keys)
        return "sealed" if count == 1 else f"sealed, {count} keys"

    @property
    def last_day(self) -> str:
        """Until when it may knock, as rules.yaml has it; empty: for ever."""
        if self.client.not_after is None:
            return ""
        end = datetime.fromtimestamp(self.client.not_after, UTC)
        if (end.hour, end.minute, end.second, end.microsecond) == (0, 0, 0, 0):
            return (end - timedelta(days=1)).date().isoformat()
        return end.isoformat(timespec="seconds").replace("+00:00", "Z")

    def as_json(self) -> dict[str, Any]:
        """Lay it out for machines. Of keys it has the public ones only."""
        its = self.client
        return {
            "name": its.name,
            "kind": self.kind.partition(",")[0],
            "keys": [keys.show(key) for key in its.keys],
            "services": list(its.services),
            "ttl": None if its.ttl == 0 else duration.show(its.ttl),
            "from": [show_source(one) for one in its.sources],
            "when": [schedule.show(one) for one in its.hours],
            "not_after": self.last_day or None,
            "is_over": self.is_over,
            "file": self.place.file,
            "line": self.place.line,
        }


def listed(rules_file: Path) -> list[Listed]:
    """List the clients, in the order of the files.

    Raises:
        RulesError: the rules cannot be used.
    """
    found = rules.read(rules_file)
    now = time.time()
    return [
        Listed(one, found.places[one.name], one.not_after is not None and one.not_after <= now)
        for one in found.rules.clients.values()
    ]
