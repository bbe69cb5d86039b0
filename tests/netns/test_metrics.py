"""What Prometheus is told of a real run, whoever dies meanwhile."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

from gatekeeper.demo.network import inside
from gatekeeper.demo.server import Gatekeeper
from tests.netns.family import children, kill
from tests.netns.site import CLIENT, RULES, Site, wait_until
from tests.netns.test_load import AS_NOBODY, state_of_nobody

METRICS = f"metrics: true\n{RULES}"
PORT = 16220


def ask(site: Site, port: int = PORT, *, address: str = "127.0.0.1", path: str = "/metrics") -> str | None:
    """Return the answer; ``None`` if nobody listens."""
    with inside(site.server), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as stream:
        stream.settimeout(8)
        try:
            stream.connect((address, port))
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return b"".join(iter(lambda: stream.recv(65536), b"")).decode()
        except OSError:
            return None


def series(site: Site, port: int = PORT) -> dict[str, float]:
    text = ask(site, port) or ""
    rows = (line.rpartition(" ") for line in text.partition("\r\n\r\n")[2].splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def value(site: Site, name: str) -> float:
    return series(site).get(name, -1.0)


def died(site: Site, who: str) -> float:
    return value(site, f'gatekeeper_process_replacements_total{{process="{who}"}}')


def is_there(site: Site, running: Gatekeeper) -> bool:
    return {"meter", "exporter"} <= set(children(running)) and ask(site) is not None


OPENED = 'gatekeeper_decisions_total{mode="guard",reason="opened"}'
TOOK = "gatekeeper_knock_to_grant_seconds_count"


def test_a_knock_is_told_and_goes_on_counting_whoever_dies(site: Site) -> None:
    site.write_rules(METRICS)
    running = site.run()
    site.knock(b"open_sesame", 4)
    wait_until(lambda: value(site, OPENED) == 1)
    found = series(site)
    assert found[TOOK] == 1
    assert 0 < found["gatekeeper_knock_to_grant_seconds_sum"] < 5
    assert [found[f'gatekeeper_{what}{{service="ssh"}}'] for what in ("grants", "kernel_members")] == [1, 1]
    assert [found[f'gatekeeper_grants{{service="{name}"}}'] for name in ("web", "echo")] == [0, 1]
    assert found["gatekeeper_ruleset_loaded"] == found["gatekeeper_last_reload_successful"] == 1
    assert found["gatekeeper_clients"] == 2
    assert all(found[f'gatekeeper_unreadable{{part="{one}"}}'] == 0 for one in ("store", "kernel", "queues"))
    for who in ("worker", "exporter", "meter"):
        before = kill(running, who)
        wait_until(lambda who=who, before=before: children(running).get(who, before) != before)  # type: ignore[misc]
        wait_until(lambda who=who: died(site, who) == 1)  # type: ignore[misc]
    wait_until(lambda: is_there(site, running))
    site.knock(b"open_sesame", 6)
    wait_until(lambda: value(site, OPENED) == 2)
    assert value(site, TOOK) == 2, "who takes a worker's place goes on where it was"
    assert site.connect(6) == "open"
    assert running.stop() == 0
    assert "Traceback" not in running.log


def test_a_reload_takes_it_elsewhere_and_away_and_says_how_the_last_one_went(site: Site) -> None:
    site.write_rules(METRICS)
    running = site.run()
    wait_until(lambda: is_there(site, running))
    exporter, loaded = children(running)["exporter"], value(site, "gatekeeper_rules_loaded_timestamp_seconds")
    site.write_rules(f"{METRICS}nonsense: 1\n")
    assert site.command("reload").returncode == 1
    wait_until(lambda: value(site, "gatekeeper_last_reload_successful") == 0)
    assert value(site, "gatekeeper_rules_loaded_timestamp_seconds") == loaded
    site.write_rules(METRICS.replace("  echo:", "  ekko:").replace("ssh, echo", "ssh, ekko"))
    site.ok("reload")
    wait_until(lambda: value(site, 'gatekeeper_grants{service="ekko"}') == 0)
    assert value(site, "gatekeeper_last_reload_successful") == 1
    assert value(site, "gatekeeper_rules_loaded_timestamp_seconds") > loaded
    assert children(running)["exporter"] == exporter, "who only tells need not be replaced"
    site.write_rules(METRICS.replace("true", "'[::1]:9200'"))
    site.ok("reload")
    wait_until(lambda: ask(site, 9200, address="::1") is not None)
    assert ask(site) is None
    site.write_rules(RULES)
    site.ok("reload")
    wait_until(lambda: ask(site, 9200, address="::1") is None)
    assert not {"meter", "exporter"} & set(children(running))
    assert running.stop() == 0
    assert "Traceback" not in running.log


def test_a_port_that_is_taken_keeps_no_door_from_starting_and_is_had_when_it_is_free(site: Site) -> None:
    site.write_rules(METRICS)
    with inside(site.server):
        squatter = socket.create_server(("127.0.0.1", PORT))
    with squatter:
        running = site.run()
        wait_until(lambda: "no metrics: 127.0.0.1:16220 cannot be listened on: Address already in use" in running.log)
        site.knock(b"open_sesame", 4)
        assert site.connect(4) == "open"
    wait_until(lambda: ask(site) is not None, seconds=8)
    assert running.stop() == 0


def test_the_exporter_has_no_rights_and_a_run_that_is_not_root_tells_of_store_and_kernel(site: Site) -> None:
    site.write_rules(METRICS)
    with state_of_nobody(site):
        running = site.run(program=AS_NOBODY)
        wait_until(lambda: is_there(site, running))
        status = Path(f"/proc/{children(running)['exporter']}/status").read_text()
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert re.search(r"^CapPrm:\t0+$", status, re.MULTILINE)
        assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
        assert [os.getpriority(os.PRIO_PROCESS, children(running)[one]) for one in ("exporter", "meter")] == [10, 10]
        found = series(site)
        parts = {one: found[f'gatekeeper_unreadable{{part="{one}"}}'] for one in ("store", "kernel")}
        assert parts == {"store": 0, "kernel": 0}
        assert found['gatekeeper_queue_socket_bytes{lane="knocks",worker="1"}'] >= 0
        assert running.stop() == 0


def test_who_does_ill_to_the_exporter_harms_nobody(site: Site) -> None:
    """Idle connections, nonsense, long requests; and Prometheus is answered all the same, and the client let in."""
    site.write_rules(METRICS)
    running = site.run()
    wait_until(lambda: is_there(site, running))
    pids = children(running)
    with inside(site.server):
        idle = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(40)]
        for words in (b"\xff" * 100, b"\0", b"GET " * 5000, b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 20000):
            with socket.create_connection(("127.0.0.1", PORT)) as stream:
                stream.sendall(words)
    assert "200 OK" in (ask(site) or "")
    assert "404 Not Found" in (ask(site, path="/../../etc/passwd") or "")
    begun = time.monotonic()
    site.knock(b"open_sesame", 4)
    assert site.connect(4) == "open"
    assert time.monotonic() - begun < 1
    for one in idle:
        one.close()
    assert children(running) == pids
    wait_until(lambda: value(site, OPENED) == 1)
    assert CLIENT[4] not in (ask(site) or CLIENT[4]), "who has a grant is nobody else's business"
    assert running.stop() == 0
    assert "Traceback" not in running.log
