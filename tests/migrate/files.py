"""Converts configurations that lie in memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from gatekeeper import rules
from gatekeeper.migrate import doors, fwknop, fwknopd, knockd
from gatekeeper.migrate.access import AccessReader
from gatekeeper.migrate.draft import Draft
from gatekeeper.migrate.note import Notes
from gatekeeper.settings import Client, Ports, Rules, Transport

SSH = {"ssh": Ports(Transport.TCP, 22)}
DAY = 86_400.0
KEYS = "KEY_BASE64 c2l4dGVlbiBieXRlcyBvZg==\nHMAC_KEY_BASE64 c29tZXRoaW5nIGVsc2UgdG8gc2lnbg==\n"


class Result:
    """A draft, what has no equal, and the rules that it makes."""

    def __init__(self, draft: Draft, notes: Notes, files: Mapping[str, str] | None = None) -> None:
        self.draft, self.notes, self.text = draft, [str(note) for note in notes.kept], draft.text()
        self._files = files or {}

    @property
    def rules(self) -> Rules:
        """What our own reader makes of the text."""
        return rules.parse(self.text.encode(), file="x", read_key=lambda name: self._files[name].encode())[0]

    def must_load(self) -> None:
        """Have our own reader take it, if there is a client."""
        if self.draft.clients:
            assert set(self.rules.clients) == set(self.draft.clients)

    @property
    def client(self) -> Client:
        """The only client."""
        (one,) = self.rules.clients.values()
        return one


def from_fwknop(
    access: str | bytes,
    *,
    server: str | None = None,
    wanted: Mapping[str, Ports] = SSH,
    files: Mapping[str, str] | None = None,
) -> Result:
    """Convert access.conf (``/etc/access.conf``), with the files that it includes."""
    found = {"/etc/access.conf": access.encode() if isinstance(access, str) else access}
    found |= {name: text.encode() for name, text in (files or {}).items()}

    def read(name: str) -> bytes:
        if name not in found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found[name]

    def list_folder(name: str) -> list[str]:
        names = [path.rpartition("/")[2] for path in found if path.rpartition("/")[0] == name.rstrip("/")]
        if not names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return names

    draft, notes = Draft("/etc/access.conf", dict(wanted)), Notes()
    if server is not None:
        fwknopd.read("/etc/fwknopd.conf", server.encode(), draft, notes)
    stanzas = AccessReader(read, list_folder, notes).read("/etc/access.conf")
    fwknop.Converter(draft, notes, lambda year, month, day: (year * 372 + month * 31 + day) * DAY).convert(stanzas)
    return Result(draft, notes)


def from_knockd(
    text: str, *, wanted: Mapping[str, Ports] | None = None, files: Mapping[str, str] | None = None
) -> Result:
    """Convert knockd.conf (``/etc/knockd.conf``)."""
    draft, notes = Draft("/etc/knockd.conf", dict(wanted or {})), Notes()
    doors.Converter(draft, notes).convert(knockd.doors("/etc/knockd.conf", text.encode(), notes))
    return Result(draft, notes, files)
