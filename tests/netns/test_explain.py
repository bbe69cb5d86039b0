"""What tcpdump has captured, and what run has recorded, is explained as it was decided."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.demo.network import netns_argv
from gatekeeper.demo.server import Gatekeeper, gatekeeper_argv
from tests.netns.device import Device, forge, rules_for, send, server_key
from tests.netns.family import children, is_alive, kill, stop
from tests.netns.site import CLIENT, SSH, STRANGER, WEB, Site, wait_until

KEY = "open_sesame_of_nobody"


@contextlib.contextmanager
def tcpdump(site: Site, file: Path, interface: str) -> Iterator[None]:
    """Capture what the server sees meanwhile."""
    argv = netns_argv(site.server, "tcpdump", "-Z", "root", "-U", "-i", interface, "-w", str(file), "not", "arp")
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "listening on" not in (line := process.stderr.readline()):
            assert line, "tcpdump does not listen"
        try:
            yield
            time.sleep(0.3)  # what the kernel has for it
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)


def explain(site: Site, file: Path, *more: str) -> list[dict[str, Any]]:
    """Explain a capture; in no namespace, and without a way to the kernel's firewall."""
    places = ("--rules", str(site.rules), "--state-dir", str(site.state))
    done = subprocess.run(
        gatekeeper_argv("explain", str(file), "--json", *places, *more), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def start(site: Site, *options: str) -> tuple[Gatekeeper, Device]:
    device = Device(server_key(site))
    plain = f"{{open: {KEY}, close: close_of_nobody, services: [web]}}"
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}", old=plain))
    return site.run(*options), device


@pytest.mark.parametrize("interface", ["any", "client"])
def test_what_tcpdump_has_captured_is_explained_as_the_log_had_it(
    site: Site, version: int, tmp_path: Path, interface: str
) -> None:
    """Real knocks against a running server: right, early, replayed, for too much, junk; and connects."""
    running, device = start(site)
    site.connect(version, port=9)  # so that the neighbours know each other
    file = tmp_path / "server.pcap"
    with tcpdump(site, file, interface):
        assert site.connect(version) == "silent"
        wait_until(lambda: "no-grant" in running.log)
        first = device.knock()
        send(site, first, version)
        wait_until(lambda: "opened client=laptop" in running.log)
        assert site.connect(version) == "open"
        for number, datagram in enumerate(
            (first, device.knock(service="web"), device.knock(late=150), b"x" * len(KEY), device.knock(close=True)), 2
        ):
            send(site, datagram, version)
            wait_until(lambda number=number: len(said(running)) > number)  # type: ignore[misc]
        assert site.connect(version) == "silent"
        wait_until(lambda: running.log.count("no-grant") > 1)
        send(site, b"junk", version)  # ends in the kernel
    answers = explain(site, file)
    told = [one["reason"] for one in answers if one["reason"] not in {"granted", "not-guarded", "no-tag"}]
    assert told == said(running)
    assert [one["reason"] for one in answers].count("no-tag") == 1
    assert site.status()["kernel"]["dropped"]["no-tag"] == 1
    assert {one["source"] for one in answers if one["reason"] == "opened"} == {CLIENT[version]}
    assert any(one["reason"] == "granted" for one in answers)


def said(running: Gatekeeper) -> list[str]:
    """List the reasons in the log: of knocks, and of what was refused."""
    found = (re.search(r" info (?:refused reason=([a-z-]+)|(opened|closed) )", line) for line in list(running.lines))
    return [one[1] or one[2] for one in found if one]


def recorded(site: Site, file: Path, number: int) -> list[dict[str, Any]]:
    """Wait until so many packets are in a recording; return what is said of them."""
    wait_until(lambda: file.exists() and len(explain(site, file)) >= number)
    return explain(site, file)


def test_what_was_refused_is_recorded_and_nobody_s_key_is(site: Site, version: int, tmp_path: Path) -> None:
    file = tmp_path / "refused.pcapng"
    running, device = start(site, "--capture", str(file))
    assert "recorder" in children(running)
    send(site, device.knock(late=150), version)
    wait_until(lambda: "wrong-epoch" in running.log or "clock-skew" in running.log)
    send(site, f"{KEY} nothing".encode(), version)  # a key of ours, for a service that is none
    wait_until(lambda: "service-not-allowed" in running.log)
    send(site, KEY[:-1].encode() + b"X", version)
    wait_until(lambda: "unknown-key" in running.log)
    assert site.stranger_connects(version, WEB) == "silent"
    wait_until(lambda: "no-grant" in running.log)
    send(site, device.knock(), version)
    wait_until(lambda: "opened" in running.log)
    answers = recorded(site, file, 4)
    assert [one["reason"] for one in answers[1:4]] == ["cut-off", "cut-off", "no-grant"]
    assert answers[0]["reason"] in {"wrong-epoch", "clock-skew"}
    assert [one["recorded"].split()[0] for one in answers] == said(running)[: len(answers)]
    assert answers[1]["recorded"] == "service-not-allowed client=old"
    assert answers[3]["source"] == STRANGER[version]
    data = file.read_bytes()
    assert b"sesame" not in data
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "opened" not in {one["recorded"].split()[0] for one in answers}
    listed = subprocess.run(["tcpdump", "-nr", str(file)], capture_output=True, text=True, check=False)
    assert listed.stdout.count("IP") == len(answers), listed.stderr


@pytest.mark.parametrize("who", ["recorder", "worker", "keeper", "all"])
def test_whoever_is_killed_the_recording_can_be_read_and_goes_on(site: Site, tmp_path: Path, who: str) -> None:
    file = tmp_path / "refused.pcapng"
    running, _ = start(site, "--capture", str(file))
    forge_one = f"{KEY}X".encode()
    for _ in range(5):
        send(site, forge_one)
    recorded(site, file, 5)
    if who == "all":
        pids = children(running).values()
        running.kill()
        wait_until(lambda: not any(map(is_alive, pids)))
        assert len(explain(site, file)) == 5
        running = site.run("--capture", str(file))
    else:
        pid = kill(running, who)
        wait_until(lambda: children(running).get(who, pid) != pid and "replaced" in running.log)
    send(site, forge_one)
    is_new = who in {"recorder", "all"}
    assert len(recorded(site, file, 1 if is_new else 6)) == (1 if is_new else 6)
    if is_new:
        assert len(explain(site, Path(f"{file}.1"))) == 5


@pytest.mark.timing
def test_a_recorder_that_hangs_delays_no_verdict_and_what_is_lost_is_counted(site: Site, tmp_path: Path) -> None:
    """It stands for a disk that does not answer."""
    running, device = start(site, "--capture", str(tmp_path / "refused.pcapng"))
    recorder = stop(children(running)["recorder"])
    try:
        for number in range(3000):  # more than the wire holds
            forge(site, f"{KEY}X".encode(), 4, source=f"198.18.7.{number % 250 + 1}")
        wait_until(lambda: site.status()["counters"].get("not-recorded", 0) > 100)
        begin = time.monotonic()
        send(site, device.knock())
        wait_until(lambda: site.members("ssh", 4) == [CLIENT[4]])
        assert time.monotonic() - begin < 1
        assert site.connect(4, port=SSH) == "open"
    finally:
        os.kill(recorder, signal.SIGCONT)


def test_a_file_of_somebody_else_s_is_not_overwritten_and_nothing_was_closed(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "diary"
    file.write_text("dear diary")
    done = site.command("run", "--capture", str(file))
    assert done.returncode == 1
    assert f"gatekeeper: error: {file} is there, and is no pcapng capture" in done.stderr
    assert file.read_text() == "dear diary"
    assert "GKEEPER" not in site.shell("iptables-save")
