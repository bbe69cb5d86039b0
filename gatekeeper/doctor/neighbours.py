"""Who else changes the firewall on this machine, and what that means for gatekeeper."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gatekeeper.doctor.finding import CannotLookError, Finding, note, ok, warning
from gatekeeper.doctor.scene import Scene, commands, read
from gatekeeper.firewall import tools
from gatekeeper.firewall.names import CHAIN_PREFIX

_AGAIN = "restart `gatekeeper run` if `gatekeeper doctor` finds something wrong afterwards"
_SAVED = ("/etc/iptables/rules.v4", "/etc/iptables/rules.v6", "/etc/sysconfig/iptables", "/etc/nftables.conf")
"""Where rulesets are kept that are loaded at boot."""
_UNITS = ("gatekeeper.service", "gatekeeper-early.service")


class _Neighbour(NamedTuple):
    """Somebody who changes the firewall: by which program or file it is known, and what it means."""

    name: str
    programs: tuple[str, ...]
    means: str
    hint: str = ""


_NEIGHBOURS = (
    _Neighbour(
        "Docker",
        ("dockerd", "podman"),
        "the ports that it publishes are translated before INPUT, so they pass gatekeeper by; "
        "a restart of it touches the tables nat and filter only",
        "publish guarded ports on 127.0.0.1 only, or see `guard:` in docs/rules.md",
    ),
    _Neighbour(
        "firewalld",
        ("firewalld",),
        "it decides behind gatekeeper: a guarded port must be allowed there too; a reload may empty iptables' tables "
        "(FlushAllOnReload, with its backend iptables)",
        _AGAIN,
    ),
    _Neighbour(
        "fail2ban",
        ("fail2ban-server",),
        "its bans hold behind gatekeeper: whoever is banned stays out, also after a knock",
        "fail2ban-client unban ADDRESS lets them in again",
    ),
)


def running(_scene: Scene) -> Iterator[Finding]:
    """Look for those that run."""
    names = set(commands())
    found = [one for one in _NEIGHBOURS if names & set(one.programs)]
    for one in found:
        yield note(f"{one.name} runs here: {one.means}", one.hint)
    ufw = read("/etc/ufw/ufw.conf")
    if ufw is not None and ufw_is_on(ufw):
        words = "ufw is on: it decides behind gatekeeper, so a guarded port must be allowed there (a knock port not)"
        yield note(
            f"{words}; a reload touches the filter table only", "ufw allow PORT/tcp: it is still closed to strangers"
        )
    elif not found:
        yield ok("neither Docker, firewalld, fail2ban nor ufw is at work here")


def ufw_is_on(text: str) -> bool:
    """Read /etc/ufw/ufw.conf."""
    lines = (line.strip().replace('"', "").lower() for line in text.splitlines())
    return "enabled=yes" in lines


def units(_scene: Scene) -> Iterator[Finding]:
    """Ask systemd for our units, and for those that load a saved ruleset at boot."""
    if not Path("/run/systemd/system").is_dir():
        yield note("there is no systemd here: something else must start `gatekeeper run` at boot")
        return
    found = parse(_systemctl(*_UNITS, "nftables.service"))
    for unit in _UNITS:
        its = found.get(unit, {})
        if its.get("LoadState") in {None, "not-found"}:
            yield note(f"{unit} is not installed: nothing closes the ports after a reboot", "gatekeeper install")
        elif its.get("UnitFileState") not in {"enabled", "enabled-runtime"}:
            hint = f"systemctl enable {unit}"
            yield warning(f"{unit} is not enabled: after a reboot the ports are open to all", hint)
        elif its.get("ActiveState") == "failed":
            yield warning(f"{unit} has failed", f"journalctl -u {unit} says why")
        else:
            yield ok(f"{unit} is enabled, and {its.get('ActiveState')}")
    if found.get("nftables.service", {}).get("UnitFileState") == "enabled":
        words = "nftables.service is enabled: whenever it starts, its `flush ruleset` takes out gatekeeper's rules too"
        yield note(f"{words} (of iptables-nft)", f"take `flush ruleset` out of /etc/nftables.conf; {_AGAIN}")


def saved_rulesets(_scene: Scene) -> Iterator[Finding]:
    """Look whether somebody saved gatekeeper's rules with his own, to load them at boot."""
    found = [path for path in _SAVED if CHAIN_PREFIX in (read(path) or "")]
    for path in found:
        words = (
            f"{path} has rules of gatekeeper's in it: at boot its sets are not there yet, and loading that file fails"
        )
        yield warning(
            words, f"take every line with {CHAIN_PREFIX} out of {path}; gatekeeper-early.service loads them itself"
        )
    if not found:
        yield ok("no ruleset that is loaded at boot has rules of gatekeeper's in it")


def parse(text: str) -> dict[str, dict[str, str]]:
    """Read ``systemctl show``: properties by unit."""
    found = {}
    for block in text.strip().split("\n\n"):
        pairs = dict(line.partition("=")[::2] for line in block.splitlines())
        found[pairs.get("Id", "")] = pairs
    return found


def _systemctl(*names: str) -> str:
    tool = tools.find("systemctl")
    if tool is None:
        raise CannotLookError("systemctl is not installed")
    argv = [tool, "show", "--property", "Id,LoadState,UnitFileState,ActiveState", *names]
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotLookError(f"systemctl: {error}") from error
