"""What the service tells, out of its hardened unit: hooks are as docs/hooks.md has them, metrics as docs/metrics.md."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import CLIENT, OPEN, RULES, SERVER, Machine, connect, connects, ok, say, shut, wait_until

_STATE = "/var/lib/gatekeeper"
_HOOK = "/usr/local/lib/gatekeeper/tell"
_LIMIT = 20
"""Seconds that a hook has."""
_HANGS = 7331
"""Seconds that it sleeps when it is to hang; and by which it is found among processes."""
_TELLS = f"""\
#!/bin/sh
# Writes down what it is told, who it is, and where it can write. Two run side by side: a knock by name is one for IPv4
# and one for IPv6.
cd {_STATE}
[ ! -e hang ] || exec sleep {_HANGS}
{{
    tr '\\0' '\\n' < /proc/$$/environ
    echo "arguments $*"
    echo "user $(id -un)"
    echo "priority $(nice)"
    sed -n 's/:\\t/ /; /^CapPrm \\|^CapEff \\|^CapAmb \\|^NoNewPrivs /p' /proc/$$/status
    for place in / /dev/mqueue /dev/shm /etc/gatekeeper /run /run/gatekeeper /tmp /usr/local {_STATE} \\
        /var/log /var/tmp; do
        (: > "$place/hook.$$") 2> /dev/null && echo "writes $place" && rm "$place/hook.$$"
    done
}} > "told.new.$$" 2>&1
mv "told.new.$$" "told.$GATEKEEPER_EVENT.$GATEKEEPER_SOURCE"
echo "told of $GATEKEEPER_EVENT"
"""
_MORE_RULES = f"""
metrics: true
on_open: [{_HOOK}, '$HOME; who']
on_close: [{_HOOK}]
hook_timeout: {_LIMIT}s
"""
_SCRAPE = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:16220/metrics').read().decode())"


@pytest.fixture(scope="module")
def telling(server: Machine) -> Iterator[None]:
    """Rules with hooks and metrics, and units for them; at the end both are as before."""
    ok("gatekeeper", "knock", "server", "--close")  # while there is no hook to be told
    server.root("install", "-D", "-m", "755", "/dev/stdin", _HOOK, text=_TELLS)
    server.root("cp", "-p", RULES, f"{RULES}.kept")
    try:
        server.root("tee", "-a", RULES, text=_MORE_RULES)
        server.root("gatekeeper", "install", "--no-grant-me")
        yield
    finally:
        server.root("cp", "-p", f"{RULES}.kept", RULES)
        server.root("gatekeeper", "install", "--no-grant-me")
        server.root("sh", "-c", f"rm -f {_HOOK} {_STATE}/told.* {_STATE}/hang")


@pytest.fixture
def untold(server: Machine, telling: None) -> None:
    """No hook runs, and none has written anything yet. Each test leaves the door shut behind it."""
    wait_until(lambda: not _hooks(server), seconds=60)
    server.root("sh", "-c", f"rm -f {_STATE}/told.*")


def _hooks(server: Machine, what: str = _HOOK) -> list[str]:
    """The numbers of hooks that run."""
    return server.tries("pgrep", "--full", f"^(/bin/sh )?{what}").stdout.split()


def _told(server: Machine, event: str) -> list[str]:
    path = f"{_STATE}/told.{event}.{CLIENT[4]}"
    wait_until(lambda: server.tries("sudo", "test", "-e", path).returncode == 0, seconds=60)
    return server.root("cat", path).splitlines()


def _logged(server: Machine, event: str, *, since: str) -> str:
    """The lines of an event: not those of an earlier run on these machines."""
    return server.root(
        "journalctl", "-u", "gatekeeper", "--since", f"@{since}", "-o", "cat", f"GATEKEEPER_EVENT={event}"
    )


def _variables(told: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in told if re.match("[A-Z_]+=", line))


def _scraped(server: Machine) -> dict[str, float]:
    lines = server.ok("python3", "-c", _SCRAPE).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}


def _priorities(server: Machine) -> dict[str, int]:
    rows = server.ok("ps", "-C", "gk-keeper,gk-worker,gk-hook-runner,gk-meter,gk-exporter", "-o", "comm=,ni=")
    return {name.removeprefix("gk-"): int(number) for name, number in map(str.split, rows.splitlines())}


def test_a_hook_is_told_and_has_the_rights_that_the_docs_say(server: Machine, untold: None) -> None:
    """At an open and at a close; and it does not have the priority of the door."""
    since = server.ok("date", "+%s").strip()
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
    opened = _told(server, "open")
    ok("gatekeeper", "knock", "server", "--close")
    ended = _told(server, "close")
    its = _variables(opened)
    moments = [its.pop(f"GATEKEEPER_{name}") for name in ("AT", "EXPIRES_AT")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one) for one in moments), moments
    assert its == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/",
        "GATEKEEPER_EVENT": "open",
        "GATEKEEPER_REASON": "opened",
        "GATEKEEPER_CLIENT": "laptop",
        "GATEKEEPER_SOURCE": CLIENT[4],
        "GATEKEEPER_SERVICE": "ssh",
        "GATEKEEPER_PORTS": "tcp/22",
        "GATEKEEPER_TTL": "3600",
    }
    at_the_end = {"EVENT": "close", "REASON": "closed", "TTL": "", "EXPIRES_AT": ""}
    assert _variables(ended).items() >= {f"GATEKEEPER_{name}": text for name, text in at_the_end.items()}.items()
    assert "arguments $HOME; who" in opened
    assert "user gatekeeper" in opened
    assert "priority 0" in opened
    assert [line.split()[1] for line in opened if line.startswith("Cap")] == ["0" * 16] * 3
    assert "NoNewPrivs 1" in opened
    writes = [line.removeprefix("writes ") for line in opened if line.startswith("writes ")]
    assert writes == ["/dev/mqueue", "/dev/shm", "/run/gatekeeper", "/tmp", _STATE, "/var/tmp"]
    said = _logged(server, "hook-said", since=since)
    assert "told of open" in said
    assert "told of close" in said


def test_a_hook_that_hangs_delays_nothing_and_is_killed(server: Machine, untold: None) -> None:
    """Who has knocked is let in meanwhile, and a close shuts."""
    since = server.ok("date", "+%s").strip()
    server.root("touch", f"{_STATE}/hang")
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
    wait_until(lambda: len(_hooks(server, f"sleep {_HANGS}")) == 2, seconds=60)
    begun = time.monotonic()
    server.root("rm", f"{_STATE}/hang")
    assert connects() == OPEN
    ok("gatekeeper", "knock", "server", "--close")
    shut()
    say(f"connects and a close took {time.monotonic() - begun:.1f} s while two hooks hung")
    assert len(_hooks(server, f"sleep {_HANGS}")) == 2, "they ended before, so nothing was shown"
    wait_until(lambda: not _hooks(server, f"sleep {_HANGS}"), seconds=_LIMIT + 40)
    assert _told(server, "close"), "what waited behind it has its turn"
    failed = _logged(server, "hook-failed", since=since)
    assert failed.count(f"it took longer than {_LIMIT} s, and was killed") == 2, failed


def test_metrics_tell_of_a_knock_and_lack_what_the_docs_say(server: Machine, untold: None) -> None:
    """On the loopback alone, and behind all others. The queues are shown to root alone, which the service is not."""
    before = _scraped(server)
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
    opened, kept = 'gatekeeper_decisions_total{mode="guard",reason="opened"}', 'gatekeeper_grants{service="ssh"}'
    wait_until(lambda: _scraped(server)[opened] == before[opened] + 2, seconds=60)
    now = _scraped(server)
    assert now[kept] == before[kept] + 2
    assert now['gatekeeper_kernel_members{service="ssh"}'] == now[kept]
    assert now["gatekeeper_knock_to_grant_seconds_count"] == before["gatekeeper_knock_to_grant_seconds_count"] + 2
    unreadable = {part: now[f'gatekeeper_unreadable{{part="{part}"}}'] for part in ("store", "kernel", "queues")}
    assert unreadable == {"store": 0, "kernel": 0, "queues": 1}
    page = Path("/gatekeeper/docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(gatekeeper_\w+)` \|.*\| (.*) \|$", page, re.MULTILINE)
    lacking = {name for name, meaning in rows if meaning.endswith("Only where run is root.")}
    names = {re.sub(r"\{.*|_(bucket|sum|count)(?=\{|$).*", "", name) for name in now}
    assert len(lacking) == 2
    assert names == {name for name, _ in rows} - lacking
    assert {connect(version, port=16220) for version in SERVER} == {"refused"}
    assert _priorities(server) == {"keeper": -10, "worker": -10, "hook-runner": 0, "meter": 10, "exporter": 10}
    ok("gatekeeper", "knock", "server", "--close")
