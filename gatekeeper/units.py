"""The systemd units, as text: ``gatekeeper.service``, and ``gatekeeper-early.service`` for before the network.

What the rights are for, and which of them were tried by taking them away, stands in docs/install.md.
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace

SERVICE, EARLY = "gatekeeper.service", "gatekeeper-early.service"
USER = "gatekeeper"
FALLBACK = "closed.sh"
"""In the state directory: the ruleset that was loaded last, without grants."""
LOCK_OF_LEGACY = "/run/xtables.lock"
_LEGACY_MODULES = ("iptable_raw", "iptable_mangle", "ip6table_raw", "ip6table_mangle")
_STATE = "/var/lib/"
_WIPERS = (
    "nftables.service",
    "netfilter-persistent.service",
    "iptables.service",
    "ip6tables.service",
    "ipset.service",
    "ufw.service",
    "firewalld.service",
)
"""What loads rules of its own at boot, and may take others out for it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the units must know: absolute paths, and what these rules need."""

    program: tuple[str, ...]
    """Command line of gatekeeper, without arguments."""
    rules: str
    state_dir: str
    is_legacy: bool = False
    """iptables-legacy: the service must be root."""
    binds_low_port: bool = False
    """Answers leave from a knock port below 1024."""
    has_hooks: bool = False
    """Programs are run when grants begin and end; a service that must be root becomes another user for that."""
    has_metrics: bool = False
    """Figures are told to who asks, by processes that the door can do without."""

    @property
    def user(self) -> str:
        """Who the service is."""
        return "root" if self.is_legacy else USER


def texts(setup: Setup) -> dict[str, str]:
    """Write both units: file name -> text.

    Raises:
        ValueError: a path cannot stand in a unit.
    """
    for path in (*setup.program, setup.rules, setup.state_dir):
        if not path.isprintable():
            raise ValueError(f"{path!a} has characters that cannot stand in a systemd unit")
    return {SERVICE: _service(setup), EARLY: _early(replace(setup, has_hooks=False, has_metrics=False))}


def _service(setup: Setup) -> str:
    return f"""\
# Written by `gatekeeper install`, which writes it anew: for changes of your own use `systemctl edit {SERVICE}`.
[Unit]
Description=gatekeeper: protected ports, open at a knock
Documentation=man:iptables(8) file:{_path(setup.rules)}
After={EARLY} network-pre.target {" ".join(_WIPERS)}
{_modules(setup)}# Whatever happens, it is started again: a door that nobody minds stays closed.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
ExecStart={_command(setup, "run")}
ExecReload={_command(setup, "reload")}
Restart=on-failure
RestartSec=100ms
# What it ended with words for (rules that cannot be used) does not pass in 100 ms, nor does what kept systemd from
# starting it (200 and up: the program or its user is gone).
ExecStopPost=/bin/sh -c 'case "$$EXIT_STATUS" in 1|2|2??) exec sleep 4;; esac'
WatchdogSec=15
TimeoutStartSec=60
TimeoutStopSec=6
KillMode=mixed
OOMScoreAdjust=-900
# One that the kernel kills for want of memory is replaced, and not the whole.
OOMPolicy=continue
Nice=-10
{_sandbox(setup)}
[Install]
WantedBy=multi-user.target
"""


def _early(setup: Setup) -> str:
    closed = _word(f"{setup.state_dir}/{FALLBACK}")
    return f"""\
# Written by `gatekeeper install`, which writes it anew: for changes of your own use `systemctl edit {EARLY}`.
[Unit]
Description=gatekeeper: closed ports and live grants, before the network comes up
Documentation=man:iptables(8) file:{_path(setup.rules)}
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=local-fs.target systemd-modules-load.service systemd-sysctl.service systemd-sysusers.service
# These may take out what is not theirs.
After={" ".join(_WIPERS)}
{_modules(setup)}Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={_command(setup, "load")}
# If rules.yaml or the program cannot be used, what was closed before. (If the grants cannot be read, it is closed.)
ExecStopPost=/bin/sh -c '[ "$$SERVICE_RESULT" = success ] || [ ! -r "$$0" ] || exec /bin/sh "$$0"' {closed}
# The machine must boot, and its console must work, whatever becomes of this.
TimeoutStartSec=40
TimeoutStopSec=6
{_sandbox(setup)}
[Install]
WantedBy=sysinit.target
"""


def _sandbox(setup: Setup) -> str:
    return f"""
{_user(setup)}
NoNewPrivileges=yes
UMask=0077
{_places(setup)}
RuntimeDirectory=gatekeeper
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_NETLINK AF_UNIX AF_INET AF_INET6
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service seccomp
SystemCallFilter=~@privileged @resources
{_for_hooks(setup)}{_for_who_steps_back(setup)}SystemCallErrorNumber=EPERM
LimitCORE=0
TasksMax=256
SyslogIdentifier=gatekeeper
"""


def _for_hooks(setup: Setup) -> str:
    if not (setup.is_legacy and setup.has_hooks):
        return ""
    return "# on_open and on_close do not run as root.\nSystemCallFilter=@setuid\n"


def _for_who_steps_back(setup: Setup) -> str:
    if not (setup.has_hooks or setup.has_metrics):
        return ""
    return """\
# Hooks and metrics do without Nice=-10. More than it nobody can have: that takes CAP_SYS_NICE.
SystemCallFilter=setpriority
"""


def _modules(setup: Setup) -> str:
    if not setup.is_legacy:
        return ""
    names = " ".join(f"modprobe@{name}.service" for name in _LEGACY_MODULES)
    return f"""\
# The kernel loads what nftables needs by itself; iptables-legacy runs modprobe, which a unit like this may not.
Wants={names}
After={names}
"""


def _user(setup: Setup) -> str:
    needed = ["CAP_NET_ADMIN", "CAP_NET_RAW"]
    if setup.binds_low_port:
        needed.append("CAP_NET_BIND_SERVICE")
    if setup.is_legacy and setup.has_hooks:
        needed += ["CAP_SETUID", "CAP_SETGID"]
    capabilities = f"CapabilityBoundingSet={' '.join(needed)}"
    if setup.is_legacy:
        return f"""\
# iptables-legacy refuses whoever is not root ({LOCK_OF_LEGACY} and its lists of tables are root's alone). So this is
# root, with no capability but these. With the nft variant of iptables the service has a user of its own.
User=root
{capabilities}"""
    return f"User={USER}\nGroup={USER}\nAmbientCapabilities={' '.join(needed)}\n{capabilities}"


def _places(setup: Setup) -> str:
    lines = []
    if setup.state_dir.startswith(_STATE):
        lines += [f"StateDirectory={_path(setup.state_dir.removeprefix(_STATE))}", "StateDirectoryMode=0700"]
    else:
        lines.append(f"ReadWritePaths={_path(setup.state_dir)}")
    if setup.is_legacy:
        lines += [f"ExecStartPre=+/bin/touch {LOCK_OF_LEGACY}", f"ReadWritePaths=-{LOCK_OF_LEGACY}"]
    return "\n".join(lines)


def state_dir(text: str) -> str | None:
    """Return the state directory that a unit of ours names; ``None`` if it names none."""
    for line in text.splitlines():
        if line.startswith("ExecStart="):
            with contextlib.suppress(ValueError, IndexError):
                words = shlex.split(line)
                return words[words.index("--state-dir") + 1].replace("$$", "$").replace("%%", "%")
    return None


def _command(setup: Setup, name: str) -> str:
    words = [*setup.program, name, "--rules", setup.rules, "--state-dir", setup.state_dir]
    words += ["--log-format", "journal"] if name != "reload" else []
    return " ".join(map(_word, words))


def _word(text: str) -> str:
    """Write one word of a command line (systemd.service(5), "Command lines")."""
    return _path(text).replace("$", "$$")


def _path(text: str) -> str:
    """Write one word of a setting: ``%`` begins a specifier (systemd.unit(5)), and quotes hold a word together."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if all(char.isalnum() or char in "/._-+:@,=" for char in text) else f'"{escaped}"'
