"""What a rules file says is to be run when a grant begins or ends: lists of arguments, no line for a shell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

import yaml

from gatekeeper.escaping import escape
from gatekeeper.rules import values
from gatekeeper.rules.document import Document, Entry

ON_OPEN, ON_CLOSE, TIMEOUT = "on_open", "on_close", "hook_timeout"
_LONGEST = 600
"""Seconds that a hook may be given."""
_MOST_WORDS, _MOST_BYTES = 64, 4096

Look = Callable[[str], tuple[str, str] | None]
"""Looks at a program on this machine; says what is wrong with it, and what to do."""


class HookReader:
    """Reads ``on_open`` and ``on_close``, of the whole file and of services."""

    def __init__(self, document: Document, look: Look, top: Mapping[str, Entry]) -> None:
        """``top``: the file's own fields, which hold for each service that has none."""
        self._doc, self._look = document, look
        self._of_all = {name: self._hook(top[name]) for name in (ON_OPEN, ON_CLOSE) if name in top}

    def read(self, fields: Mapping[str, Entry], name: str) -> tuple[str, ...]:
        """Read what is run for a service; none: nothing is."""
        return self._hook(fields[name]) if name in fields else self._of_all.get(name, ())

    def _hook(self, field: Entry) -> tuple[str, ...]:
        if isinstance(field.value, yaml.ScalarNode):
            self._doc.complain(field.value, f"{field.name} must be a list of arguments", _as_list(field.value.value))
            return ()
        words: list[str] = []
        for node in self._doc.items(field.value, field.name) or ():
            word = self._doc.text(node, f"an argument of {field.name}")
            if word is None:
                return ()
            if not _can_be_passed(word):
                self._doc.complain(node, f"{word!a} cannot be an argument of a program", "take the character out")
                return ()
            words.append(word)
        if not words:
            return ()
        program = field.value.value[0]
        if len(words) > _MOST_WORDS or sum(map(len, map(str.encode, words))) > _MOST_BYTES:
            hint = f"at most {_MOST_WORDS} arguments, and {_MOST_BYTES} bytes: put the rest into a script"
            self._doc.complain(program, f"{field.name} is too long", hint)
        elif not words[0].startswith("/"):
            hint = "such as /usr/local/bin/told: a hook is looked for nowhere"
            self._doc.complain(program, f'{field.name}: "{words[0]}" is not an absolute path', hint)
        elif (wrong := self._look(words[0])) is not None:
            self._doc.warn(program, f"{field.name}: {words[0]} {wrong[0]}", wrong[1])
        return tuple(words)


def timeout(doc: Document, field: Entry | None, *, default: int) -> int:
    """Read for how long a hook may run."""
    found = values.seconds(doc, field, default=default)
    if field is not None and (found is None or not 1 <= found <= _LONGEST):
        doc.complain(field.value, f"{TIMEOUT} goes from 1s to {_LONGEST // 60}m", "take the line out: then it is 10s")
    return found or default


def _as_list(line: str) -> str:
    try:
        words = shlex.split(line)
    except ValueError:
        words = [line]
    return f"write it as a list: [{escape(', '.join(words))}] (no shell reads it)"


def _can_be_passed(word: str) -> bool:
    try:
        return b"\0" not in word.encode()
    except UnicodeEncodeError:
        return False
