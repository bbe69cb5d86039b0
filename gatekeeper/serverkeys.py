"""The server's own keys: in the state directory, made at the first start, or where the rules say."""

from __future__ import annotations

from pathlib import Path

from gatekeeper import keyfiles, observe
from gatekeeper.errors import KeyFileError
from gatekeeper.sealed import keys
from gatekeeper.settings import Rules, ServerKey


def load(the_rules: Rules, state_dir: Path) -> tuple[ServerKey, ...]:
    """Return the keys that knocks may be sealed for, the current one first; make it if there is none.

    Raises:
        KeyFileError: it cannot be read, made or used.
    """
    if any(key.until is None for key in the_rules.server_keys):
        return the_rules.server_keys
    path = state_dir / keyfiles.SERVER_KEY
    private, is_new = keyfiles.read_or_make(str(path), for_folders_owner=True)
    public = keys.public_of(private)
    if is_new:
        observe.message(f"made the server's key {path}; clients need its public half: {keys.show(public)}")
    for client in the_rules.clients.values():
        if public in client.keys:
            hint = "every client has a key of its own: `gatekeeper join` or `gatekeeper keygen` makes one"
            raise KeyFileError(f"client {client.name} has the key of the server ({path})", hint)
    if any(keys.public_of(key.private) == public for key in the_rules.server_keys):
        hint = f"move {path} away: a new key is made at the next start, and clients need its public half"
        raise KeyFileError(f"{path} is one of old_keys of the rules too", hint)
    return ServerKey(private), *the_rules.server_keys


def known(the_rules: Rules, state_dir: Path) -> tuple[ServerKey, ...]:
    """Return the same as ``load``, as long as there is a key: none is made.

    Raises:
        KeyFileError: there is none yet, or it cannot be read.
    """
    if any(key.until is None for key in the_rules.server_keys):
        return the_rules.server_keys
    return ServerKey(_existing(state_dir)), *the_rules.server_keys


def current(the_rules: Rules, state_dir: Path) -> bytes:
    """Return the public key that clients need.

    Raises:
        KeyFileError: there is none yet, or it cannot be read.
    """
    return keys.public_of(next(key.private for key in known(the_rules, state_dir) if key.until is None))


def _existing(state_dir: Path) -> bytes:
    path = state_dir / keyfiles.SERVER_KEY
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        hint = "`gatekeeper run` makes it at its first start"
        raise KeyFileError(f"the server has no key yet ({path})", hint) from None
    except OSError:  # we may not look: reading it says so
        pass
    return keyfiles.read(str(path))
