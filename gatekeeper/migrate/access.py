"""access.conf of fwknopd: its stanzas, with what it includes. Pure but for what it is handed.

As fwknopd 2.6.10 reads it: a variable and a value in a line, up to a semicolon; ``SOURCE`` begins a stanza, and the
last of several values of a variable counts.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from gatekeeper.errors import ConversionError
from gatekeeper.migrate import lines
from gatekeeper.migrate.note import Notes

ReadFile = Callable[[str], bytes]
"""Fetches a file. Raises ``OSError``."""
ListFolder = Callable[[str], list[str]]
"""Names the files of a folder. Raises ``OSError``."""

_ENTRY = re.compile(r"\s*(\S+)\s+([^;\s][^;]*)")
_DEPTH = 3
"""How deep fwknopd follows ``%include``."""
_MOST_FILES = 1000
_MOST_STANZAS = 10_000
_LONGEST = 1022
"""Characters of a line that fwknopd reads at once."""
_KEY_VARIABLES = """
    KEY KEY_BASE64 HMAC_KEY HMAC_KEY_BASE64
    GPG_DECRYPT_ID GPG_DECRYPT_PW GPG_ALLOW_NO_PW GPG_REQUIRE_SIG GPG_DISABLE_SIG GPG_IGNORE_SIG_VERIFY_ERROR
    GPG_REMOTE_ID GPG_FINGERPRINT_ID
"""
_OTHERS = """
    SOURCE DESTINATION OPEN_PORTS RESTRICT_PORTS FW_ACCESS_TIMEOUT MAX_FW_TIMEOUT ACCESS_EXPIRE ACCESS_EXPIRE_EPOCH
    HMAC_DIGEST_TYPE ENCRYPTION_MODE REQUIRE_USERNAME REQUIRE_SOURCE_ADDRESS REQUIRE_SOURCE GPG_HOME_DIR GPG_EXE
    ENABLE_CMD_EXEC ENABLE_CMD_SUDO_EXEC CMD_SUDO_EXEC_USER CMD_SUDO_EXEC_GROUP CMD_EXEC_USER CMD_EXEC_GROUP
    CMD_CYCLE_OPEN CMD_CYCLE_CLOSE CMD_CYCLE_TIMER
    FORCE_NAT FORCE_SNAT FORCE_MASQUERADE DISABLE_DNAT FORWARD_ALL
"""
KEY_VARIABLES = frozenset(_KEY_VARIABLES.split())
"""What a file of keys may set."""
VARIABLES = KEY_VARIABLES | frozenset(_OTHERS.split())
"""What fwknopd knows in a stanza."""


class Setting(NamedTuple):
    """A variable with its value, and where it stands."""

    name: str
    value: str
    where: tuple[str, int]

    @property
    def is_yes(self) -> bool:
        """Whether it is Y, as fwknopd takes it."""
        return self.value[:1] in ("Y", "y")


@dataclass(slots=True)
class Stanza:
    """One stanza: who may ask for what, with which keys."""

    where: tuple[str, int]
    settings: list[Setting] = field(default_factory=list, repr=False)

    def get(self, *names: str) -> Setting | None:
        """Return the last setting of any of these variables, which is the one that counts."""
        return next((one for one in reversed(self.settings) if one.name in names), None)

    def is_on(self, *names: str) -> Setting | None:
        """Return the setting that counts, if it is Y."""
        found = self.get(*names)
        return found if found is not None and found.is_yes else None


class AccessReader:
    """Reads access.conf, and what it includes."""

    def __init__(self, read: ReadFile, list_folder: ListFolder, notes: Notes) -> None:
        self._read, self._list, self._notes = read, list_folder, notes
        self._stanzas: list[Stanza] = []
        self._files = 0

    def read(self, file: str) -> list[Stanza]:
        """Return its stanzas, in the order in which fwknopd tries them.

        Raises:
            ConversionError: it is no text, or too large; or one of those that it includes is.
            OSError: it cannot be read.
        """
        self._file(file, self._read(file), ())
        return self._stanzas

    def _file(self, file: str, content: bytes, above: tuple[str, ...]) -> None:
        self._files += 1
        if self._files > _MOST_FILES:
            raise ConversionError(f"{file}: more than {_MOST_FILES} files are included")
        current: Stanza | None = None
        for setting in entries(file, content, self._notes):
            if setting.name in ("%include", "%include_folder"):
                self._include(setting, (*above, posixpath.normpath(file)))
            elif setting.name == "SOURCE":
                current = Stanza(setting.where, [setting])
                self._stanzas.append(current)
                if len(self._stanzas) > _MOST_STANZAS:
                    raise ConversionError(f"{file}:{setting.where[1]}: more than {_MOST_STANZAS} stanzas")
            elif current is None:
                self._notes.add(setting.where, f"{setting.name!a} stands before any SOURCE: fwknopd ignores it, too")
            elif setting.name == "%include_keys":
                self._keys(setting, current)
            elif setting.name in VARIABLES:
                current.settings.append(setting)
            else:
                self._notes.add(
                    setting.where, f"{setting.name!a} is no variable of access.conf: fwknopd ignores it, too"
                )

    def _include(self, setting: Setting, above: tuple[str, ...]) -> None:
        """Read a file, or all of a folder whose names end in .conf."""
        if len(above) >= _DEPTH:
            self._notes.add(
                setting.where,
                f"files are included more than {_DEPTH} levels deep: {setting.value!a} is left out",
                "fwknopd refuses such a file as well; name the file one level up",
            )
            return
        path = _beside(setting)
        paths = [path]
        if setting.name == "%include_folder":
            try:
                paths = [posixpath.join(path, name) for name in sorted(self._list(path)) if ".conf" in name[-5:]]
            except OSError as error:
                self._unreadable(setting, error)
                return
        for one in paths:
            if posixpath.normpath(one) in above:
                self._notes.add(setting.where, f"{one!a} is being read already: it includes itself", "take it out")
            elif (content := self._fetch(setting, one)) is not None:
                self._file(one, content, above)

    def _keys(self, setting: Setting, stanza: Stanza) -> None:
        """Read a file that has keys only, into a stanza."""
        path = _beside(setting)
        content = self._fetch(setting, path)
        for found in entries(path, content, self._notes) if content is not None else ():
            if found.name in KEY_VARIABLES:
                stanza.settings.append(found)
            else:
                self._notes.add(found.where, f"{found.name!a} sets no key: fwknopd ignores it here, too")

    def _fetch(self, setting: Setting, path: str) -> bytes | None:
        try:
            return self._read(path)
        except OSError as error:
            self._unreadable(setting, error)
            return None

    def _unreadable(self, setting: Setting, error: OSError) -> None:
        words = f"{setting.value!a} cannot be read: {error.strerror or error}"
        self._notes.add(setting.where, words, "what it has is missing; import again when it can be read")


def entries(file: str, content: bytes, notes: Notes) -> list[Setting]:
    """Read the lines of a configuration of fwknopd's.

    Raises:
        ConversionError: it is no text, or too large.
    """
    found: list[Setting] = []
    for number, text in lines.split(content, file):
        if not text.strip() or text.lstrip()[0] in "#;":
            continue
        match = _ENTRY.match(text)
        if match is None:
            notes.add((file, number), "this is no variable with a value", "fwknopd refuses such a line as well")
            continue
        if len(text) > _LONGEST:
            notes.add((file, number), "this line is longer than fwknopd reads at once", "here it is read whole")
        found.append(Setting(match[1].rpartition(":")[0] or match[1], match[2].rstrip(), (file, number)))
    return found


def _beside(setting: Setting) -> str:
    """Return the path that a setting names; fwknopd takes it from where it was started, which nobody knows later."""
    return posixpath.join(posixpath.dirname(setting.where[0]), setting.value)
