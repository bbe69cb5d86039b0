"""Puts the systemd units in place and takes them away; every step that was done is told to ``say``.

Doing it twice changes nothing more, and doing it after an upgrade writes the units anew. The closed ruleset is never
taken out but by ``uninstall``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import gatekeeper
from gatekeeper import access, admin, lockout, noting, progress, units
from gatekeeper import rules as rules_file
from gatekeeper.confirm import plan
from gatekeeper.confirm.probation import begin
from gatekeeper.errors import GatekeeperError, UsageError
from gatekeeper.firewall import apply, tools
from gatekeeper.networks import show_source
from gatekeeper.settings import Rules, Via
from gatekeeper.store.lock import runner

_FOLDER, _PACKAGED = "etc/systemd/system", "usr/lib/systemd/system"
"""Where the administrator's units are, which come first (systemd.unit(5)), and those of a package."""
_BOOTED = Path("/run/systemd/system")
"""There while systemd is the one that started the machine (sd_booted(3))."""
_RUNTIME = Path("/run/gatekeeper")
_PATIENCE = 120.0
"""Seconds that systemctl may take: the unit itself gives up earlier."""
_FIRST_LOW, _FIRST_FREE = 1, 1024

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    rules: Path
    state_dir: Path
    root: Path | None = None
    """Write the units below this folder and do no more: for packages, and for tests."""
    starts: bool = True
    grants_me: bool = True
    """Whether the address of the session that this is typed in gets a grant, if it needs one."""
    confirm_within: int | None = None
    """Seconds until it is stopped and the ruleset put back, unless that is confirmed; ``None``: it stays."""


def install(order: Order, say: Say) -> None:
    """Put the units there, and start them.

    Raises:
        GatekeeperError: it cannot work, and nothing was changed; or a step failed, and the message says which.
    """
    order = replace(order, rules=order.rules.absolute(), state_dir=order.state_dir.absolute())
    read = rules_file.read(order.rules)
    found = read.rules
    if order.root is None:
        _require_systemd("gatekeeper install")
    setup = _setup(found, order)
    texts = _texts(setup)
    if order.root is not None:
        _write(texts, order.root, say)
        return
    access.require_reachable([*_program_places(), *read.files])
    access.require_reachable_hooks(_hooks(found))
    access.require_own_folder(order.state_dir)
    was_active = _is("active")
    _refuse_running_by_hand(order.state_dir, was_active=was_active)
    _make_ready(setup, order, read, say)
    if was_active and not access.is_of(order.state_dir, setup.user):
        _systemctl("stop", units.SERVICE)
        say(f"stopped {units.SERVICE}: it will be another user (what is closed stays closed)")
    access.give_folder(order.state_dir, setup.user, say=say)
    _write(texts, Path("/"), say)
    _systemctl("daemon-reload")
    if order.grants_me:
        _let_me_in(found, order.state_dir, say)
    names = (units.EARLY, units.SERVICE)
    if order.confirm_within is None:
        _systemctl("enable", "--quiet", *names)
        say("enabled both: they start with the machine")
    else:
        enable, stop = (["systemctl", verb, *names] for verb in ("enable", "stop"))
        _give_runtime(setup)
        begin(order.confirm_within, undo=[stop], keep=[enable])
    if order.starts:
        _start(setup, was_active=was_active, say=say)
    if order.confirm_within is not None:
        words = (
            f"type `gatekeeper confirm` in a new session within {order.confirm_within} s, and both stay, at boots too"
        )
        say(f"{words}; or they are stopped, and the ruleset is as it was before")
        if _is("enabled"):  # by an earlier install
            say("warning: both were enabled before, so they start with the next boot, confirmed or not")


def _make_ready(setup: units.Setup, order: Order, read: rules_file.Read, say: Say) -> None:
    """Make the service's user, who is also the one of hooks, and see that the rules are of use to it."""
    if not setup.is_legacy or setup.has_hooks:
        access.make_user(units.USER, say=say)
    if not setup.is_legacy:
        folders = [order.rules.parent, *([] if read.folder is None else [read.folder])]
        access.let_read(read.files, folders, units.USER, say=say)
        access.require_usable([*setup.program, "check", "--rules", setup.rules], user=units.USER)


def _give_runtime(setup: units.Setup) -> None:
    """Give the service its folder before the guard's files are in it.

    systemd gives a RuntimeDirectory= of another user to the service's with all that is in it; and a plan that is not
    root's is not believed any more.
    """
    if not plan.plan_file().exists():
        access.give_folder(_RUNTIME, setup.user, say=lambda _: None)


def _let_me_in(found: Rules, state_dir: Path, say: Say) -> None:
    """Grant the address of this session what it would lose."""
    now = time.time()
    for one in lockout.missing(lockout.own_sessions(found), (), now=now):
        ttl = None if one.expires_at is None else f"{one.expires_at - now:.0f}s"
        with contextlib.suppress(UsageError):  # what the rules never let in
            grant, _ = admin.grant(found, state_dir, one.source, one.service, ttl)
            say(f"granted {grant.service} to {show_source(grant.source)}, from where this is typed, for {ttl}")


def uninstall(root: Path | None, say: Say) -> None:
    """Stop and remove the units, and take gatekeeper out of the kernel: the ports are open then.

    Raises:
        GatekeeperError: nothing is installed; or a step failed, and the message says which.
    """
    if root is None:
        _require_systemd("gatekeeper uninstall")
    paths = [path for path in _paths(root or Path("/")) if path.exists()]
    packaged = [path for path in _paths(root or Path("/"), _PACKAGED) if path.exists()]
    if not paths and (root is not None or not packaged):
        hint = "`gatekeeper flush` takes a ruleset out that was loaded by hand"
        raise UsageError("gatekeeper is not installed as a service here", hint)
    names = list(dict.fromkeys(path.name for path in (*paths, *packaged)))
    if root is None:
        _systemctl("disable", "--now", "--quiet", *names)
        say(f"stopped and disabled {' and '.join(names)}")
    served = [found for path in (*paths, *packaged) if (found := units.state_dir(path.read_text(errors="replace")))]
    for path in paths:
        path.unlink()
        say(f"removed {path}")
    if root is None:
        _systemctl("daemon-reload")
        with contextlib.suppress(GatekeeperError):  # it has not failed
            _systemctl("reset-failed", *names)
        for line in apply.flush():
            say(f"removed {line}")
        words = noting.by_hand("uninstalled")
        if served and (complaint := noting.note(Path(served[0]), "flushed", words)) is not None:
            say(f"warning: {complaint}")
        with contextlib.suppress(OSError):
            _RUNTIME.rmdir()
        say("the ports are open now; the rules, the state directory and the user are left as they are")


def _setup(found: Rules, order: Order) -> units.Setup:
    has_low = any(_FIRST_LOW <= port < _FIRST_FREE for port in found.knock_ports)
    return units.Setup(
        program=(sys.executable, "-I", "-m", "gatekeeper"),
        rules=str(order.rules),
        state_dir=str(order.state_dir),
        is_legacy=tools.choose(found.firewall.variant).variant == "legacy",
        binds_low_port=found.ack and Via.UDP in found.via and has_low,
        has_hooks=found.has_hooks,
        has_metrics=found.metrics is not None,
    )


def _texts(setup: units.Setup) -> dict[str, str]:
    try:
        return units.texts(setup)
    except ValueError as error:
        raise UsageError(str(error), "move it to a plainer path") from error


def _hooks(found: Rules) -> list[Path]:
    """Name the programs that are run when grants begin and end."""
    return [Path(argv[0]) for one in found.services.values() for argv in (one.on_open, one.on_close) if argv]


def _program_places() -> list[Path]:
    """Name what the service's user must be able to read to run this program."""
    return [Path(sys.executable), Path(sys.executable).resolve(), Path(gatekeeper.__file__)]


def _require_systemd(what: str) -> None:
    if os.geteuid() != 0:
        raise UsageError(f"{what} needs root", f"sudo {what}")
    if not _BOOTED.is_dir() or shutil.which("systemctl") is None:
        hint = "have your init run `gatekeeper load` before the network comes up, and then keep `gatekeeper run` up"
        raise UsageError("systemd does not run this machine", hint)


def _refuse_running_by_hand(state_dir: Path, *, was_active: bool) -> None:
    pid = None
    with contextlib.suppress(GatekeeperError):
        pid = runner(state_dir)
    if pid is not None and not was_active:
        raise UsageError(f"gatekeeper run is up already (process {pid})", "stop it first; its ports stay closed")


def _paths(root: Path, folder: str = _FOLDER) -> list[Path]:
    return [root / folder / name for name in (units.SERVICE, units.EARLY)]


def _write(texts: dict[str, str], root: Path, say: Say) -> None:
    for path, packaged in zip(_paths(root), _paths(root, _PACKAGED), strict=True):
        text = texts[path.name]
        try:
            if packaged.exists() and packaged.read_text() == text:  # what we wrote besides would hide its next version
                path.unlink(missing_ok=True)
                say(f"{packaged} is as it should be")
                continue
            if path.exists() and path.read_text() == text:
                say(f"{path} is as it should be")
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.new")
            temporary.write_text(text)
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            raise GatekeeperError(f"cannot write {path}: {error.strerror}") from error
        say(f"wrote {path}")


def _start(setup: units.Setup, *, was_active: bool, say: Say) -> None:
    if not was_active:
        _systemctl("restart", units.EARLY)
        say(f"started {units.EARLY}: the ports are closed to all without a grant")
    _systemctl("restart", units.SERVICE)
    say(f"{'restarted' if was_active else 'started'} {units.SERVICE}: it is ready (user {setup.user})")
    if not setup.is_legacy:  # what the service's user can neither see nor take out
        for words in apply.remove_others(tools.Iptables("nft")):
            say(f"warning: {words}")


def _is(state: str) -> bool:
    with contextlib.suppress(GatekeeperError):
        _systemctl(f"is-{state}", "--quiet", units.SERVICE)
        return True
    return False


def _systemctl(*arguments: str) -> None:
    argv = ["systemctl", "--no-ask-password", *arguments]
    try:
        with progress.waiting(f"systemctl {arguments[0]}"):
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise GatekeeperError(f"{' '.join(argv)} did not end", "systemctl list-jobs") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        unit = arguments[-1] if arguments[-1].endswith(".service") else units.SERVICE
        raise GatekeeperError(f"systemctl {arguments[0]}: {words}", f"journalctl -u {unit} -n 20 says why")
