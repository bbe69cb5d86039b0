"""On what it was measured, with which versions, and when."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.bed import ROOT, environment

_PACKAGES = ("fwknop-server", "fwknop-client", "knockd", "iperf3", "iptables", "ipset")


def describe() -> dict[str, Any]:
    """Describe this machine."""
    return {
        "date": dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
        "cpu": _line(Path("/proc/cpuinfo"), "model name", ":"),
        "cpus": os.cpu_count(),
        "memory": round(int(_line(Path("/proc/meminfo"), "MemTotal", ":").split()[0]) * 1024 / 1e9, 1),
        "load": os.getloadavg()[0],
        "write": _write(),
        "kernel": f"{platform.system()} {platform.release()}",
        "system": _line(Path("/etc/os-release"), "PRETTY_NAME", "=").strip('"'),
        "python": platform.python_version(),
        "gatekeeper": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown",
        "packages": {name: _said("dpkg-query", "-W", "-f", "${Version}", name) or "missing" for name in _PACKAGES},
    }


def _write() -> float:
    """Measure how long it takes until a page is on the disk, in seconds: the median of some."""
    taken = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def _line(path: Path, name: str, separator: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(separator)
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment(), timeout=20)
    return done.stdout.strip() if done.returncode == 0 else ""
