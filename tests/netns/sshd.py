"""A real sshd in the server's namespace, and what a client needs to log in to it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gatekeeper.demo.network import netns_argv
from gatekeeper.demo.probe import connect
from tests.netns.site import SERVER, Site, wait_until

PORT = 22
DOCS = Path(__file__).parents[2] / "docs" / "client.md"
HOST = "bastion.example.org"


@contextlib.contextmanager
def sshd(site: Site) -> Iterator[Path]:
    """Serve ssh on both addresses; yield the folder with the client's key and known_hosts."""
    folder = site.directory / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text("".join(f"{address} {host_key}" for address in SERVER.values()))
    lines = {
        "Port": PORT,
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "PidFile": "none",
        "MaxStartups": 100,
        "Subsystem": "sftp internal-sftp",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    argv = ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
    with subprocess.Popen(netns_argv(site.server, *argv), stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: connect(site.server, "127.0.0.1", PORT, timeout=0.5).result == "open")
            yield folder
        finally:
            process.terminate()


def snippets() -> list[str]:
    """Return the ssh_config snippets of docs/client.md, as they stand there."""
    found = re.findall(r"```ssh-config\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(found) == 3
    return found


def environment(site: Site) -> dict[str, str]:
    """Give the client a home of its own, and the command on its path."""
    home = site.directory / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "GATEKEEPER_"))}
    return {**kept, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def as_client(site: Site, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program as the client."""
    return subprocess.run(
        netns_argv(site.client, *argv),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env=environment(site),
        stdin=subprocess.DEVNULL,
    )


def write_config(folder: Path, snippet: str, address: str) -> Path:
    """Write an ssh_config: a snippet of the docs for the server's address, and where the keys are."""
    config = folder / "config"
    config.write_text(
        f"{snippet.replace(HOST, address)}\nHost *\n    User root\n    IdentityFile {folder}/user\n"
        f"    UserKnownHostsFile {folder}/known_hosts\n    BatchMode yes\n    IdentitiesOnly yes\n    LogLevel ERROR\n"
    )
    return config
