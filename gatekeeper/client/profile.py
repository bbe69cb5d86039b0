"""Profiles: what a client knows of a server. One file each, made by ``gatekeeper join``.

Lines of ``name = value``, and comments (#): nothing that would take a parser longer to import than to run.
"""

from __future__ import annotations

import os

from gatekeeper import older
from gatekeeper.client import folders
from gatekeeper.errors import ClientError
from gatekeeper.sealed import keys

DEFAULT_PORT = 62201
_HEAD = "# A profile of gatekeeper: what this device knows of a server. No secret; the key is in the file `identity`.\n"
_KEYS = ("host", "port", "server_key", "identity", "services", "ack", "bind", "via")
UDP, ICMP, SYN = WAYS = "udp", "icmp", "syn"
"""How a knock travels: to the knock port; in an echo request; in a SYN to a protected port."""
_YES, _NO = "yes", "no"


class Profile:
    """One server, as one device knows it.

    ``identity``: the file that has our private key. ``ack``: whether the server answers. ``bind``:
    whether knocks must name the address that they come from. ``via``: one of ``WAYS``.
    """

    def __init__(  # noqa: PLR0913  (fields, by their names)
        self,
        *,
        host: str,
        server_key: bytes,
        identity: str,
        port: int = DEFAULT_PORT,
        services: tuple[str, ...] = (),
        ack: bool = False,
        bind: bool = False,
        via: str = UDP,
    ) -> None:
        self.host, self.server_key, self.identity, self.port = host, server_key, identity, port
        self.services, self.ack, self.bind, self.via = services, ack, bind, via


def default_identity() -> str:
    """Return the file of the key that is used where none is named."""
    return folders.config("identity.key")


def identity_of(name: str) -> str:
    """Return the file of the key that belongs to a profile."""
    return folders.config("keys", f"{name}.key")


def path_of(name: str) -> str:
    """Return the file of a profile.

    Raises:
        ClientError: no profile can have that name.
    """
    if not _is_name(name):
        raise ClientError(
            f"a profile cannot be named {name!a}",
            "letters, digits, and . _ @ - between them; choose another with --name",
        )
    return folders.config("profiles", f"{name}.conf")


def check(profile: Profile) -> str:
    """Return the text of a profile.

    Raises:
        ClientError: a value of it cannot be written in a line.
    """
    fields = {
        "host": profile.host,
        "port": str(profile.port),
        "server_key": keys.show(profile.server_key),
        "identity": profile.identity,
        "services": " ".join(profile.services),
        "ack": _YES if profile.ack else _NO,
        "bind": _YES if profile.bind else _NO,
    }
    if profile.via != UDP:  # clients from before there were others do not know the line
        fields["via"] = profile.via
    if any(not value.isprintable() or value != value.strip() for value in fields.values()):
        raise ClientError("a value of the profile cannot be written in a line", "is there a line break in a file name?")
    return _HEAD + "".join(f"{key} = {value}\n" for key, value in fields.items())


def save(name: str, profile: Profile) -> str:
    """Write a new profile; return its file.

    Raises:
        ClientError: there is one of that name, or it cannot be written.
    """
    path = path_of(name)
    text = check(profile)
    folders.make_for(path)
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        hint = f"choose another with --name, or remove {path} (and its key)"
        raise ClientError(f"there is a profile {name} already", hint) from None
    except OSError as error:
        raise ClientError(f"cannot write the profile {path}: {error.strerror}") from error
    return path


def find(name: str) -> Profile | None:
    """Find a profile by its name, or by its host; ``None`` if there is none.

    Raises:
        ClientError: it cannot be read, or there are several of that host.
    """
    if _is_name(name) and os.path.lexists(path := path_of(name)):
        return _load(path)
    folder = folders.config("profiles")
    try:
        files = sorted(file for file in os.listdir(folder) if file.endswith(".conf"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ClientError(f"cannot read the profiles in {folder}: {error.strerror}") from error
    found: dict[str, Profile] = {}
    broken: ClientError | None = None
    for file in files:
        try:
            profile = _load(os.path.join(folder, file))
        except ClientError as error:  # it may be of another host
            broken = broken or error
            continue
        if profile.host.lower() == name.lower():
            found[file.removesuffix(".conf")] = profile
    if len(found) > 1:
        raise ClientError(f"there are several profiles for the host {name}: {', '.join(found)}", "name one of them")
    if not found and broken is not None:
        raise broken
    return next(iter(found.values()), None)


def _load(path: str) -> Profile:
    try:
        with open(path, encoding="utf-8") as file:
            return _read(file.read())
    except OSError as error:
        raise ClientError(f"cannot read the profile {path}: {error.strerror}") from error
    except ValueError as error:
        hint = "mend it, or remove it and join again"
        raise ClientError(f"the profile {path} cannot be used: {error}", hint) from error


def _read(text: str) -> Profile:
    found = {"port": str(DEFAULT_PORT), "services": "", "ack": _NO, "bind": _NO, "via": UDP}
    for number, line in enumerate(text.split("\n"), 1):
        key, equals, value = (word.strip() for word in line.partition("="))
        key = older.renamed(key)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals or key not in _KEYS or not value.isprintable():
            raise ValueError(f"line {number}: {line.strip()!a} is not one of {', '.join(_KEYS)} = ...")
        found[key] = value
    missing = [key for key in _KEYS if not found.get(key) and key != "services"]
    if missing:
        raise ValueError(f"there is no {missing[0]}")
    if not found["port"].isdecimal() or not 1 <= int(found["port"]) <= 65535:
        raise ValueError(f"{found['port']!a} is not a port")
    if found["via"] not in WAYS:
        raise ValueError(f"{found['via']!a} is none of {', '.join(WAYS)}")
    return Profile(
        host=found["host"],
        server_key=keys.parse_public(found["server_key"]),
        identity=found["identity"],
        port=int(found["port"]),
        services=tuple(found["services"].split()),
        ack=_is_yes(found["ack"]),
        bind=_is_yes(found["bind"]),
        via=found["via"],
    )


def _is_yes(word: str) -> bool:
    if word not in (_YES, _NO):
        raise ValueError(f"{word!a} is neither yes nor no")
    return word == _YES


def _is_name(name: str) -> bool:
    others = name.translate(dict.fromkeys(map(ord, "._@-")))
    return len(name) <= 128 and name.isascii() and name[:1].isalnum() and others.isalnum()
