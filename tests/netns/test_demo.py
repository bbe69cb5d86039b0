"""`gatekeeper demo` and the simple variant, as a user runs them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.demo import network as network_module
from gatekeeper.demo.network import Network, netns_argv
from gatekeeper.demo.server import gatekeeper_argv
from tests.netns.site import wait_until


def _host_firewall() -> str:
    """Return the host's own rules and sets, without counters."""
    tools = ("iptables-nft-save", "ip6tables-nft-save", "ipset")
    texts = [
        subprocess.run(
            [tool, *(["list"] if tool == "ipset" else [])], capture_output=True, text=True, check=False
        ).stdout
        for tool in tools
    ]
    return re.sub(r"\[\d+:\d+\]|# .*", "", "\n".join(texts))


def _left_behind() -> set[str]:
    """Return the namespaces of demos that have ended; others may run beside this one."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    demos = {name: name.split("-")[2] for name in listed if name.startswith("gatekeeper-demo-")}
    return {name for name, pid in demos.items() if not Path("/proc", pid).exists()}


@pytest.fixture
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that the host's firewall, namespaces and temporary files are as they were."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before, left_before = _host_firewall(), _left_behind()
    yield
    assert _host_firewall() == before
    assert _left_behind() <= left_before
    assert list(tmp_path.glob("gatekeeper-demo-*")) == []


def _handles_sigterm(pid: int) -> bool:
    """Whether the demo has begun: before, there is nothing to clean up."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.usefixtures("untouched")
def test_the_demo_shows_everything_going_as_it_should() -> None:
    limited = ["prlimit", "--nofile=1024"]  # as many open files as a user may have
    done = subprocess.run(
        [*limited, *gatekeeper_argv("demo", "--show-rules")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "open at the first SYN" in done.stdout
    assert "the stream is cut after" in done.stdout
    assert done.stdout.count("no port is open") == 2
    assert "Name: gatekeeper-4-ssh" in done.stdout
    assert "-A GKEEPER-IN" in done.stdout
    assert done.stdout.rstrip().endswith("all went as it should")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("name", "delay"), [("SIGINT", 0.02), ("SIGINT", 0.4), ("SIGINT", 3.5), ("SIGTERM", 0.4), ("SIGHUP", 3.5)]
)
def test_the_demo_cleans_up_when_it_is_interrupted(name: str, delay: float) -> None:
    process = subprocess.Popen(gatekeeper_argv("demo"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: _handles_sigterm(process.pid))
    time.sleep(delay)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors


_OWNER = Path(__file__).stat()
"""Whose checkout this is: the user who tries things without sudo (or root, without a single capability)."""
_NO_RIGHTS = [
    *("setpriv", f"--reuid={_OWNER.st_uid}", f"--regid={_OWNER.st_gid}", "--clear-groups"),
    *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"),
]


@pytest.fixture
def home() -> Iterator[Path]:
    """Make a folder of that user's."""
    with tempfile.TemporaryDirectory() as made:
        os.chown(made, _OWNER.st_uid, _OWNER.st_gid)
        yield Path(made)


def test_a_dry_run_needs_no_rights_and_touches_no_firewall(home: Path) -> None:
    """Without a single capability, and without a word about where its state should be: it logs what it would do."""
    before = _host_firewall()
    rules = home / "rules.yaml"
    rules.write_text(
        "services: {ssh: {port: tcp/22, ttl: 1s}}\nknock: {port: udp/62999}\n"
        "clients: {laptop: {open: open_sesame, close: close_sesame, services: [ssh]}}\n"
    )
    argv = [*_NO_RIGHTS, *gatekeeper_argv("run", "--dry-run", "--rules", str(rules))]
    lines: list[str] = []
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines.append(line)
                if line.rstrip().endswith("ready"):
                    break
            for address in ("127.0.0.1", "::1"):
                for payload in ("open_sesame", "wrong"):
                    nc = ["nc", "-u", "-w1", address, "62999"]
                    subprocess.run(nc, input=payload, text=True, check=True, timeout=10)
            process.send_signal(signal.SIGTERM)
            lines += list(process.stderr)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    log = "".join(lines)
    assert process.returncode == 0, log
    for source in ("127.0.0.1", "::1"):
        assert f"would-open client=laptop source={source} service=ssh ttl=1s" in log
        assert f"would-refuse reason=unknown-key source={source} bytes=5" in log
    assert "would-expire client=laptop source=127.0.0.1" in log
    assert _host_firewall() == before


def test_run_without_root_is_refused_with_a_hint(home: Path) -> None:
    rules = home / "rules.yaml"
    rules.write_text("services: {ssh: {port: tcp/22}}\n")
    done = subprocess.run(
        [*_NO_RIGHTS, *gatekeeper_argv("run", "--rules", str(rules))],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={**os.environ, "GATEKEEPER_STATE_DIR": str(home / "state")},
    )
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr
    assert "hint: run it as root or with sudo, or try `gatekeeper run --dry-run`" in done.stderr
    assert not (home / "state").exists()


def test_whoever_is_left_in_a_namespace_ends_with_it() -> None:
    """What an ssh session started outlives the session, say, after a test that failed."""
    with Network("gatekeeper-test") as network:
        stray = subprocess.Popen(netns_argv(network.server, "sleep", "60"), start_new_session=True)
        wait_until(lambda: Path(f"/proc/{stray.pid}/comm").read_text() == "sleep\n")
    try:
        assert stray.wait(2) == -signal.SIGKILL
    finally:
        stray.kill()
        stray.wait()


def test_a_number_that_was_given_to_somebody_else_meanwhile_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a process and its end it may end by itself, and its number be another's, outside."""
    network = Network("gatekeeper-test")
    inside = subprocess.Popen(netns_argv(network.stranger, "sleep", "60"))
    its = Path(f"/proc/{inside.pid}/ns/net")
    wait_until(lambda: not its.samefile("/proc/self/ns/net"))
    identity, end = network_module._identity, os.kill

    def ends_when_looked_at(namespace: Path) -> tuple[int, int]:
        found = identity(namespace)
        if namespace == its:
            end(inside.pid, signal.SIGKILL)
            inside.wait()
        return found

    by_number: list[int] = []
    monkeypatch.setattr(network_module, "_identity", ends_when_looked_at)
    monkeypatch.setattr(os, "kill", lambda pid, _signal: by_number.append(pid))
    network.close()
    assert by_number == []
