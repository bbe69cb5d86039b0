"""A stage for what the documents have people type: machines in namespaces, with folders of their own.

What a page changes on a machine (/etc/gatekeeper, /var/lib/gatekeeper, /run, /usr/local, HOME) is changed in a mount
namespace, and is gone with it. ``sudo`` is there, and needs no password.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from gatekeeper.demo.network import SERVER, Network
from gatekeeper.demo.service import tcp_echo
from tests.pages.blocks import ROOT

_OWN = ("/etc/gatekeeper", "/var/lib/gatekeeper", "/run/gatekeeper", "/usr/local/sbin", "/root")
_PATIENCE = 30.0
SERVER_PRIVATE = "ZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5/gIGCg4Q="
DEVICE_PRIVATE = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
"""Of the worked vector in docs/sealed-knock.md, whose public halves stand in all documents."""


class Stage:
    """The machines, as a shell in a checkout on each sees them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.checkout = directory / "checkout"
        self._running: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> Self:
        self.network = Network("gatekeeper-page")
        holder = ["unshare", "--mount", "--propagation", "private", "sleep", "600"]
        self._holder = subprocess.Popen(holder, stdin=subprocess.DEVNULL)
        self._make_checkout()
        self._services = contextlib.ExitStack()
        for port in (22, 80):
            self._services.enter_context(tcp_echo(self.network.server, port))
        for at in range(100):
            if Path(f"/proc/{self._holder.pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink():
                break
            time.sleep(0.01 * at)
        hosts = self.directory / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} server.test\n" for address in SERVER.values()))
        lines = [f"mkdir -p {place}; mount -t tmpfs -o mode=700 tmpfs {place}" for place in _OWN]
        lines += [f"mount --bind {hosts} /etc/hosts", "mkdir -p /root/client"]
        lines += [f"printf '%s\\n' {SERVER_PRIVATE} > /var/lib/gatekeeper/server.key"]
        lines += ["chmod 600 /var/lib/gatekeeper/server.key"]
        said = self.type("; ".join(lines))
        assert said.returncode == 0, said.stderr
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._services.close()
        self._holder.kill()
        self._holder.wait()
        self.network.close()

    def _make_checkout(self) -> None:
        self.checkout.mkdir()
        for name in ("rules", "scripts", "gatekeeper", "pyproject.toml"):
            (self.checkout / name).symlink_to(ROOT / name)
        (self.checkout / ".venv").symlink_to(Path(sys.prefix))
        tools = self.directory / "tools"
        tools.mkdir()
        sudo = tools / "sudo"
        sudo.write_text('#!/bin/sh\nexec "$@"\n')
        sudo.chmod(0o755)

    def _argv(self, command: str, *, on_client: bool) -> list[str]:
        namespace = self.network.client if on_client else self.network.server
        enter = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--net=/run/netns/{namespace}"]
        path = f"{self.directory / 'tools'}:{Path(sys.prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        home = "/root/client" if on_client else "/root"
        own = ["env", f"--chdir={self.checkout}", f"PATH={path}", f"HOME={home}", "LC_ALL=C.UTF-8"]
        return [*enter, *own, "bash", "-c", f"set -o pipefail; {command}"]

    def type(self, command: str, *, on_client: bool = False) -> subprocess.CompletedProcess[str]:
        """Type a command, and wait for its end."""
        argv = self._argv(command, on_client=on_client)
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)

    def start(self, command: str, *, until: str) -> None:
        """Type a command that goes on until somebody ends it; wait until it has said something."""
        output = self.directory / f"said-{len(self._running)}"
        with output.open("wb") as file:
            argv = self._argv(f"exec {command}", on_client=False)
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self._running.append((command, process, output))
        deadline = time.monotonic() + _PATIENCE
        while until not in output.read_text():
            assert process.poll() is None, f"{command}: {output.read_text()}"
            assert time.monotonic() < deadline, f"{command}: {output.read_text()}"
            time.sleep(0.05)

    def is_up(self) -> bool:
        """Whether something that was started goes on."""
        return any(process.poll() is None for _, process, _ in self._running)

    def stop(self) -> str:
        """End all of it with Ctrl-C; return what it has said."""
        said = ""
        for command, process, output in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            said += f"$ {command}\n{output.read_text()}"
        self._running.clear()
        return said
