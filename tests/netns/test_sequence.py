"""Port sequences, knocked by Debian's `knock`: what opens, what does not, and for how long that is remembered."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from gatekeeper.demo import probe
from tests.netns.family import children, kill
from tests.netns.sequences import (
    CAM,
    OPEN,
    SEQUENCE,
    close,
    knock,
    opens,
    start,
    stays_closed,
)
from tests.netns.site import CLIENT, SERVER, SSH, Site, wait_until


def test_a_sequence_opens_for_who_knocked_and_another_one_closes(site: Site, version: int) -> None:
    running = start(site)
    for cycle in range(1, 4):
        knock(site, version, *OPEN)
        opens(site, version)
        close(site, version)
        assert site.connect(version) == "silent"
        assert running.log.count("opened client=cam") == running.log.count("closed client=cam") == cycle
    assert "knocks by udp/62201, port sequences" in running.log


@pytest.mark.timing
@pytest.mark.parametrize("workers", [1, 4])
def test_a_connect_right_behind_the_last_step_succeeds_at_its_first_syn(site: Site, version: int, workers: int) -> None:
    start(site, more=f"workers: {workers}\n")
    site.connect(version, port=9)  # so that the neighbours know each other
    for _ in range(6):  # with more at once it would look like a scan
        knock(site, version, *OPEN, delay=0)
        attempt = probe.connect(site.client, SERVER[version], SSH, timeout=3)
        assert (attempt.result, attempt.resent) == ("open", 0)
        close(site, version)


@pytest.mark.parametrize(
    "wrong",
    [
        ("7000", "8000", "9000"),
        ("7000:udp", "8000:udp", "9000"),
        ("7000:udp", "9000", "8000"),
        ("7000:udp", "8000", "8000", "9000"),
        ("8000", "9000"),
        ("7000:udp", "8000"),
    ],
)
def test_a_wrong_step_resets(site: Site, wrong: Sequence[str]) -> None:
    open_only = "cam: {sequence: [7000/udp, 8000, 9000], services: [ssh]}"
    start(site, open_only, "other: {sequence: [7000, 8000/udp, 1000], services: [ssh]}")
    for version in (4, 6):
        knock(site, version, *wrong)
        stays_closed(site, version)
        knock(site, version, *OPEN)
        opens(site, version)
        site.ok("revoke", CLIENT[version])


def test_half_by_one_and_half_by_another_open_for_nobody(site: Site, version: int) -> None:
    start(site)
    knock(site, version, *OPEN[:2])
    knock(site, version, *OPEN[1:], namespace=site.stranger)
    stays_closed(site, version)
    assert site.stranger_connects(version) == "silent"
    knock(site, version, *OPEN[2:])
    opens(site, version)


def test_a_sequence_must_be_done_in_time(site: Site, version: int) -> None:
    start(site, f"cam: {{{SEQUENCE}, within: 1s, services: [ssh]}}")
    knock(site, version, *OPEN, delay=600)
    stays_closed(site, version)
    knock(site, version, *OPEN, delay=100)
    opens(site, version)


def test_several_that_begin_alike_advance_each_on_its_own(site: Site, version: int) -> None:
    short, long = "short: {sequence: [1, 2, 3], services: [ssh]}", "long: {sequence: [1, 2, 3, 4], services: [web]}"
    running = start(site, short, "other: {sequence: [1, 2, 5], services: [echo]}", long)
    knock(site, version, "1", "2", "5")
    wait_until(lambda: "opened client=other" in running.log)
    knock(site, version, "1", "2", "3", "4")
    wait_until(lambda: "opened client=short" in running.log and "opened client=long" in running.log)
    assert site.ok("check").count("ok") == 1


def test_packets_without_the_flags_are_neither_steps_nor_wrong_ones(site: Site) -> None:
    fin = "fin: {sequence: [7001, 7002, 7003], flags: [fin, '!ack'], services: [ssh]}"
    running = start(site, CAM, fin)
    for port, flags in (("7001", "-F"), ("7002", "-S"), ("7002", "-FA"), ("7002", "-F"), ("7003", "-FP")):
        site.inside(site.client, "hping3", "-q", "-c", "1", flags, "-p", port, SERVER[4])
    wait_until(lambda: "opened client=fin" in running.log)
    knock(site, 4, *OPEN[:2])
    for flags in ("-A", "-R", "-F", "-SA"):
        site.inside(site.client, "hping3", "-q", "-c", "1", flags, "-p", "8000", SERVER[4])
    knock(site, 4, *OPEN[2:])
    wait_until(lambda: "opened client=cam" in running.log)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_any_tcp_packet_may_be_a_step_where_the_flags_say_so(site: Site, variant: str) -> None:
    """As with knockd, if it names none; and all but some."""
    every = "every: {sequence: [7001, 7002, 7003], flags: [], services: [ssh]}"
    running = start(
        site,
        every,
        "some: {sequence: [1, 2, 3], flags: '!rst', services: [ssh]}",
        more=f"firewall: {{variant: {variant}}}\n",
    )
    sent = [("7001", "-A"), ("7002", "-R"), ("7003", "-SA"), ("1", "-A"), ("2", "-R"), ("2", "-F"), ("3", "-S")]
    for port, flags in sent:
        site.inside(site.client, "hping3", "-q", "-c", "1", flags, "-p", port, SERVER[4])
    wait_until(lambda: "opened client=every" in running.log and "opened client=some" in running.log)
    assert "0 wrong" in site.command("doctor").stdout


# -- once


def test_one_time_sequences_count_once_each_also_after_a_restart_and_after_a_kill(site: Site, version: int) -> None:
    (site.directory / "once.txt").write_text(" 7000:udp,8000,9000\n 8001, 8000, 9000\n# 1,2,3\n")
    (site.directory / "once.txt").chmod(0o600)
    running = start(site, "once: {sequence_file: once.txt, close_sequence: [5, 6, 7], services: [ssh]}")
    knock(site, version, *OPEN)
    opens(site, version)
    close(site, version, "5", "6", "7")
    for end in ("", "stop", "kill"):
        if end:
            getattr(running, end)()
            running = site.run()
        knock(site, version, *OPEN)
        knock(site, version, *OPEN, namespace=site.stranger)
        wait_until(lambda running=running: running.log.count("reason=replayed client=once") == 2)  # type: ignore[misc]
        stays_closed(site, version)
        assert site.stranger_connects(version) == "silent"
    knock(site, version, "8001", "8000", "9000")
    opens(site, version)


def test_a_worker_that_dies_loses_what_was_in_progress_and_nothing_else(site: Site) -> None:
    running = start(site)
    knock(site, 4, *OPEN[:2])
    kill(running, "worker")
    wait_until(lambda: "worker" in children(running))
    knock(site, 4, *OPEN)
    opens(site, 4)


# -- as every client


def test_what_holds_for_every_client_holds_for_a_sequence(site: Site) -> None:
    later = (
        time.strftime("%H:%M", time.gmtime(time.time() + 7200)),
        time.strftime("%H:%M", time.gmtime(time.time() + 10800)),
    )
    running = start(
        site,
        "a: {sequence: [1, 2, 3], from: [192.0.2.128/25], services: [ssh]}",
        f"b: {{sequence: [1, 2, 4], when: {later[0]}-{later[1]} UTC, services: [ssh]}}",
        "c: {sequence: [1, 2, 5], not_after: 2026-01-01, services: [ssh]}",
        "d: {sequence: [1, 2, 6], ttl: 90s, prefix: {ipv4: 24}, services: [ssh]}",
        more=f"never: [{CLIENT[6]}]\n",
    )
    for last, said in (("3", "source-not-allowed client=a"), ("4", "outside-hours client=b"), ("5", "client-expired")):
        knock(site, 4, "1", "2", last)
        wait_until(lambda said=said: f"reason={said}" in running.log)  # type: ignore[misc]
    knock(site, 6, "1", "2", "6")
    wait_until(lambda: "reason=never client=d" in running.log)
    assert site.status()["grants"] == []
    knock(site, 4, "1", "2", "6")
    wait_until(lambda: "opened client=d source=198.51.100.0/24 service=ssh ttl=90s" in running.log)
