"""The package is installed by the documented steps, on a stock kernel; the client joins by an invite."""

from __future__ import annotations

import shutil
from pathlib import Path

from machines import CLIENT, UNGUARDED, Machine, connect, ok, say

_CONFIG = Path("/home/vagrant/.ssh/config")
_KNOWS = """\
Host server
    ProxyCommand gatekeeper connect --timeout 60 %h %p
    IdentityFile ~/.ssh/control_key
    StrictHostKeyChecking accept-new
    LogLevel ERROR
"""
_MODULES = {"nfnetlink_queue", "xt_NFQUEUE", "xt_set", "ip_set", "ip_set_hash_net", "nf_conntrack_netlink", "nf_tables"}


def test_the_service_is_up_and_enabled(server: Machine) -> None:
    """What docs/install.md says to type is enough."""
    for unit in ("gatekeeper.service", "gatekeeper-early.service"):
        assert server.ok("systemctl", "is-active", unit) == "active\n"
        assert server.ok("systemctl", "is-enabled", unit) == "enabled\n"
    say(server.root("gatekeeper", "--version").strip() + ", " + server.ok("uname", "-sr").strip())


def test_the_session_that_installed_it_was_granted(server: Machine) -> None:
    """Vagrant's own ssh session typed the steps, by sudo, and is told that it can come back."""
    said = server.root("cat", "/var/log/documented-steps")
    assert "from where this is typed" in said, said
    assert "started gatekeeper.service: it is ready (user gatekeeper)" in said, said


def test_modules_came_by_themselves(server: Machine) -> None:
    """Nothing names a module, and the service may load none: the kernel does when rules need them."""
    files = server.ok("sh", "-c", "cat /etc/modules /etc/modules-load.d/* 2>/dev/null || true")
    named = [line for line in files.splitlines() if line.strip() and not line.startswith("#")]
    assert not _MODULES & set(named)
    loaded = {line.split()[0] for line in server.ok("cat", "/proc/modules").splitlines()}
    assert loaded >= _MODULES, _MODULES - loaded
    say(f"loaded by themselves: {', '.join(sorted(one for one in loaded if one.startswith(('xt_', 'ip_set', 'nf'))))}")


def test_the_client_joins(server: Machine) -> None:
    """Invite, join, and the line that it prints in rules.yaml."""
    shutil.rmtree("/home/vagrant/.config/gatekeeper", ignore_errors=True)  # of an earlier run
    server.root("sed", "-i", "/^  laptop: /d", "/etc/gatekeeper/rules.yaml")
    invite = server.root("gatekeeper", "invite", "laptop", "--service", "ssh", "--host", "server").strip()
    said = ok("gatekeeper", "join", invite)
    line = next(line.strip() for line in said.splitlines() if line.strip().startswith("laptop: {"))
    server.root("sed", "-i", f"s|^clients:.*|clients:\\n  {line}|", "/etc/gatekeeper/rules.yaml")
    server.root("gatekeeper", "check")
    server.root("systemctl", "restart", "gatekeeper")  # done when it is ready: it notifies systemd
    _CONFIG.write_text(_KNOWS)


def test_the_world_is_there(closed: None) -> None:
    """The server answers in the world, over IPv4 and IPv6, at a port that nobody guards; and ssh is shut."""
    assert [connect(version, port=UNGUARDED, source=CLIENT[version]) for version in (4, 6)] == ["open", "open"]
