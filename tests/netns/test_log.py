"""The audit trail of a real run: knocks, refusals of clients, time, and what is done by hand."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from functools import partial

from gatekeeper import hand
from gatekeeper.demo.network import CLIENT
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.store.sqlite import FILE
from tests.netns.device import Device, rules_for, send, server_key
from tests.netns.family import kill
from tests.netns.site import Site, wait_until


def test_what_came_of_each_knock_can_be_read(site: Site, version: int) -> None:
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}"))
    running = site.run()

    def log(*options: str) -> list[tuple[str, str, str | None]]:
        lines = map(json.loads, site.ok("log", "--json", *options).splitlines())
        return [(line["reason"], line["client"], line.get("service")) for line in lines]

    send(site, device.knock(), version)
    wait_until(lambda: "opened client=laptop" in running.log)
    assert log() == [("opened", "laptop", "ssh")]  # at once: it is in the transaction of the grant
    send(site, device.knock(service="web"), version)
    wait_until(lambda: len(log()) == 2)
    site.ok("revoke", CLIENT[version])
    site.ok("grant", CLIENT[version], "ssh", "--ttl", "1s")
    wait_until(lambda: log("--reason", "expired") == [("expired", "(admin)", "ssh")])
    assert log("--source", CLIENT[version]) == [
        ("opened", "laptop", "ssh"),
        ("service-not-allowed", "laptop", None),
        ("revoked", "laptop", "ssh"),
        ("granted", "(admin)", "ssh"),
        ("expired", "(admin)", "ssh"),
    ]


def _noted(site: Site) -> list[tuple[str, str]]:
    """Return what was noted of the rules, the oldest first."""
    lines = map(json.loads, site.ok("log", "--json").splitlines())
    return [(line["reason"], line.get("note", "")) for line in lines if "client" not in line]


def test_reloads_and_what_takes_all_out_are_in_it_with_who_did_it(site: Site) -> None:
    rules, who = site.rules.read_text(), hand.whose()
    more = "  trial: {open: sesame_of_trial, services: [ssh]}\n"
    running = site.run()
    site.write_rules(rules + more)
    site.ok("reload")
    expected = [("reloaded", f"by {who}: 1 client added")]
    wait_until(lambda: _noted(site) == expected)
    site.write_rules(f"{rules}watch: true\n")
    running.process.send_signal(signal.SIGHUP)
    expected.append(("reloaded", "by SIGHUP: 1 client removed, watch changed"))
    wait_until(lambda: _noted(site) == expected)
    site.write_rules(f"{rules}{more}watch: true\n")
    expected.append(("reloaded", "watched: 1 client added"))
    wait_until(lambda: _noted(site) == expected, seconds=12)
    site.write_rules("services: [")
    assert site.command("reload").returncode == 1
    wait_until(lambda: len(_noted(site)) > len(expected))
    reason, note = _noted(site)[-1]
    assert reason == "reload-failed"
    assert note.startswith((f"by {who}: {site.rules}:", f"watched: {site.rules}:"))
    before = _noted(site)
    site.ok("flush", "--stop")
    assert _noted(site) == [*before, ("flushed", f"by {who}: run was stopped")]
    site.ok("flush")
    assert len(_noted(site)) == len(before) + 1, "nothing was taken out"


def test_a_start_is_in_it_if_it_is_by_other_rules_than_the_last_one(site: Site) -> None:
    rules = site.rules.read_text()
    site.run().stop()
    site.run().stop()
    assert _noted(site) == []
    site.write_rules(f"{rules}  trial: {{open: sesame_of_trial, services: [ssh]}}\n")
    running = site.run()
    expected = [("reloaded", "at a start: 1 client added")]
    wait_until(lambda: _noted(site) == expected)
    running.stop()
    running = site.run("--observe")
    expected.append(("reloaded", "at a start: mode changed"))
    wait_until(lambda: _noted(site) == expected)


def test_a_reload_that_failed_is_in_it_also_if_run_is_stopped_at_once(site: Site) -> None:
    running = site.run()
    site.write_rules("services: [")
    assert site.command("reload").returncode == 1
    running.stop()
    assert [reason for reason, _ in _noted(site)] == ["reload-failed"]


def test_what_a_keeper_without_a_store_was_told_is_in_it_by_the_time_of_then(site: Site) -> None:
    running, store = site.run(), site.state / FILE
    aside = store.with_name("aside")
    store.rename(aside)
    store.mkdir()
    kill(running, "keeper")
    wait_until(lambda: "the keeper cannot go on" in running.log)
    site.write_rules("services: [")
    assert site.command("reload").returncode == 1
    asked = time.time()
    time.sleep(2.5)  # keepers begin, and fail, all the time
    store.rmdir()
    aside.rename(store)
    wait_until(lambda: [reason for reason, _ in _noted(site)] == ["reload-failed"], seconds=10)
    (line,) = map(json.loads, site.ok("log", "--json").splitlines())
    assert abs(datetime.fromisoformat(line["time"]).timestamp() - asked) < 1.5


def _was_reloaded(running: Gatekeeper, before: int) -> bool:
    return running.log.count(" reloaded in ") > before


def test_who_asks_for_reloads_in_a_loop_fills_no_trail(site: Site) -> None:
    running = site.run()
    for _ in range(25):
        before = running.log.count(" reloaded in ")
        running.process.send_signal(signal.SIGHUP)
        wait_until(partial(_was_reloaded, running, before))
    wait_until(lambda: len(_noted(site)) >= 20)
    assert len(_noted(site)) <= 21
