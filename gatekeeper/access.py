"""What the service's own user may reach: the program, the rules, the state directory.

The rules can hold plain keys, so they are opened to the service's group and to nobody else. A copy made by systemd
(``LoadCredential=``) would need no such right, but the key files that rules name beside themselves would not be there,
and an edit would not be seen.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from gatekeeper.errors import GatekeeperError, UsageError

_HIDDEN = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  (it is what the units hide)
"""What the units keep from the service (``ProtectHome=``, ``PrivateTmp=``)."""
_OWN = Path("/etc/gatekeeper")
"""The one folder whose mode, and that of those in it, is ours to change."""

_PLACE = "/opt/gatekeeper"
_HOOKS = "/usr/local/lib/gatekeeper"

Say = Callable[[str], None]


def require_reachable(paths: Sequence[Path]) -> None:
    """Refuse what lies where a service should not look, or the service's user cannot.

    Raises:
        UsageError: one does.
    """
    for path in paths:
        if any(path.is_relative_to(folder) for folder in _HIDDEN):
            if path.suffix in {".yaml", ".yml"}:
                hint = f"install -D -m 600 {path} {_OWN / 'rules.yaml'}"
            else:
                hint = f"make it anew in {_PLACE}: python3 -m venv {_PLACE} && {_PLACE}/bin/pip install '.[server]'"
            raise UsageError(f"{path} is out of a service's sight: the units hide people's and temporary files", hint)


def require_reachable_hooks(programs: Sequence[Path]) -> None:
    """Refuse a program of ``on_open`` or ``on_close`` that the service cannot see.

    Raises:
        UsageError: there is one.
    """
    for path in programs:
        if any(
            path.is_relative_to(folder) or Path(os.path.realpath(path)).is_relative_to(folder) for folder in _HIDDEN
        ):
            hint = f"put it elsewhere, such as {_HOOKS}, and name that in the rules"
            raise UsageError(f"{path} is out of a service's sight: the units hide people's and temporary files", hint)


def require_own_folder(folder: Path) -> None:
    """Refuse to take over, with all that is in it, a folder that is not gatekeeper's alone (``--state-dir /var/lib``).

    Raises:
        UsageError: there are folders in it, which a state directory has none of.
    """
    if folder.is_dir():
        inner = next((path for path in sorted(folder.iterdir()) if path.is_dir()), None)
        if inner is not None:
            words = f"{folder} is no state directory of gatekeeper's: {inner.name} in it is a folder"
            raise UsageError(words, f"--state-dir {folder / 'gatekeeper'}")


def make_user(name: str, *, say: Say) -> None:
    """Make the system user that the service is, if it is not there.

    Raises:
        GatekeeperError: it cannot be made.
    """
    try:
        pwd.getpwnam(name)
        grp.getgrnam(name)
    except KeyError:
        pass
    else:
        return
    shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"
    argv = [
        "useradd",
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        shell,
        name,
    ]
    _run(argv, f"the user {name} could not be made")
    say(f"made the system user {name}")


def let_read(files: Sequence[Path], folders: Sequence[Path], user: str, *, say: Say) -> None:
    """Let the service's group, and nobody besides, read rules that only root can read, and the folders they are in.

    Raises:
        GatekeeperError: the mode cannot be changed.
    """
    group = grp.getgrnam(user).gr_gid
    for path, wanted in (*((folder, 0o050) for folder in folders), *((file, 0o040) for file in files)):
        found = path.stat()
        is_shut = not found.st_mode & (wanted >> 3) and not (found.st_gid == group and found.st_mode & wanted)
        if not is_shut or (path in folders and not path.is_relative_to(_OWN)):
            continue
        try:
            os.chown(path, -1, group)
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700 | wanted)
        except OSError as error:
            raise GatekeeperError(f"the mode of {path} could not be changed: {error.strerror}") from error
        say(f"let the group {user}, and nobody else, read {path}")


def require_usable(argv: Sequence[str], *, user: str) -> None:
    """Try a command as the service's user.

    Raises:
        GatekeeperError: that user cannot run it, or it fails.
    """
    hint = (
        f"the service runs as {user}: let that user read the rules (chgrp {user} FILE && chmod 640 FILE), "
        f"the private keys that they name (chown {user} FILE), and the program (not in a folder of one user's own)"
    )
    _run(argv, f"the user {user} cannot use these rules with this program", hint, user=user)


def is_of(folder: Path, user: str) -> bool:
    """Whether a folder belongs to a user; one that is not there yet does."""
    return not folder.exists() or folder.stat().st_uid == pwd.getpwnam(user).pw_uid


def give_folder(folder: Path, user: str, *, say: Say) -> None:
    """Make a state directory, or give the one that is there, with all that is in it, to the service's user.

    Raises:
        GatekeeperError: it cannot be made or given.
    """
    entry = pwd.getpwnam(user)
    try:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            say(f"made {folder}")
            return
        changed = 0
        for path in [folder, *folder.iterdir()]:
            if path.lstat().st_uid != entry.pw_uid:
                os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
                changed += 1
        folder.chmod(0o700)
    except OSError as error:
        raise GatekeeperError(f"{folder} could not be given to {user}: {error.strerror}") from error
    if changed:
        say(f"gave {folder} to {user}")


def _run(argv: Sequence[str], failure: str, hint: str | None = None, *, user: str | None = None) -> None:
    groups = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    try:
        done = subprocess.run(  # type: ignore[call-overload]  # the three go together or not at all
            list(argv), capture_output=True, text=True, check=False, timeout=60, cwd="/", umask=0o077, **groups
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GatekeeperError(f"{failure}: {error}", hint) from error
    if done.returncode != 0:
        raise GatekeeperError(f"{failure}: {' '.join((done.stderr or done.stdout).split())[:600]}", hint)
