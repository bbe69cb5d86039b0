"""Servers that know port sequences, and Debian's `knock`: what the tests of them share."""

from __future__ import annotations

import time
from functools import partial
from xml.etree import ElementTree as ET

from gatekeeper.demo.server import Gatekeeper
from tests.netns.device import SERVICES
from tests.netns.site import CLIENT, SERVER, Site, wait_until

SEQUENCE = "sequence: [7000/udp, 8000, 9000], close_sequence: [9000, 8000, 7000/udp]"
CAM = f"cam: {{{SEQUENCE}, within: 5s, services: [ssh]}}"
OPEN, CLOSE = ("7000:udp", "8000", "9000"), ("9000", "8000", "7000:udp")


def start(site: Site, *clients: str, more: str = "") -> Gatekeeper:
    """Run a server that knows these clients."""
    lines = "".join(f"  {one}\n" for one in clients or (CAM,))
    site.write_rules(f"{SERVICES}clients:\n{lines}{more}")
    return site.run()


def knock(site: Site, version: int, *ports: str, delay: int = 1, namespace: str = "") -> None:
    """Run Debian's `knock`."""
    done = site.inside(namespace or site.client, "knock", f"-{version}", "-d", str(delay), SERVER[version], *ports)
    assert done.returncode == 0, done.stderr


def granted(site: Site, version: int) -> bool:
    """Say whether the client has a grant, and nobody else."""
    found = [one["source"] for one in site.status()["grants"]]
    assert found in ([], [CLIENT[version]]), found
    return bool(found)


def opens(site: Site, version: int) -> None:
    wait_until(partial(granted, site, version))
    assert site.connect(version) == "open"
    assert site.stranger_connects(version) == "silent"


def stays_closed(site: Site, version: int) -> None:
    time.sleep(0.2)
    assert not granted(site, version)
    assert site.connect(version, timeout=0.3) == "silent"


def close(site: Site, version: int, *ports: str) -> None:
    knock(site, version, *(ports or CLOSE))
    wait_until(lambda: not granted(site, version))


def granted_to(site: Site, source: str) -> bool:
    return source in [one["source"] for one in site.status()["grants"]]


def seen(site: Site, version: int, *options: str, namespace: str) -> list[tuple[str, ...]]:
    """Ask nmap what each port is, why it thinks so, and what serves there."""
    argv = ["nmap", *(["-6"] if version == 6 else []), "-n", "-Pn", "--reason", "-oX", "-", *options, SERVER[version]]
    done = site.inside(namespace, *argv)
    assert done.returncode == 0, done.stderr
    found = []
    for port in ET.fromstring(done.stdout).iter("port"):  # noqa: S314 (nmap is ours)
        state, service = port.find("state"), port.find("service")
        assert state is not None
        what = (state.get("state", ""), state.get("reason", ""), state.get("reason_ttl", ""))
        by = () if service is None else (service.get("name", ""), service.get("method", ""), service.get("conf", ""))
        found.append((port.get("protocol", ""), port.get("portid", ""), *what, *by))
    return found
