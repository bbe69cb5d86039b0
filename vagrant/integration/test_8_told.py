"""What the service tells, out of its hardened unit: hooks are as docs/hooks.md has them, metrics as docs/metrics.md."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import CLIENT, OPEN, RULES, SERVER, Machine, connect, connects, ok, revoke_all, say, shut, wait_until

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
    for place in / /dev/shm /etc/gatekeeper /home /opt /root /run /run/gatekeeper /srv /tmp /usr/local /var/lib \\
        {_STATE} /var/log /var/tmp; do
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
    """Rules with hooks and metrics, by a reload; at the end rules and units as they were."""
    server.root("install", "-D", "-m", "755", "/dev/stdin", _HOOK, text=_TELLS)
    server.root("cp", "-p", RULES, f"{RULES}.kept")
    revoke_all(server)  # before there are hooks, which would be told of it
    try:
        server.root("tee", "-a", RULES, text=_MORE_RULES)
        server.root("systemctl", "reload", "gatekeeper")
        yield
    finally:
        server.root("cp", "-p", f"{RULES}.kept", RULES)
        server.root("sh", "-c", f"rm -f {_HOOK} {_STATE}/told.* {_STATE}/hang")
        server.root("gatekeeper", "install", "--no-grant-me")


@pytest.fixture
def untold(server: Machine, telling: None, closed: None) -> None:
    """No hook has written anything yet; those of an earlier close have ended."""
    wait_until(lambda: not _hooks(server), seconds=60)
    server.root("sh", "-c", f"rm -f {_STATE}/told.*")


def _hooks(server: Machine, what: str = _HOOK) -> list[str]:
    """The numbers of hooks that run."""
    return server.tries("pgrep", "--full", f"^(/bin/sh )?{what}").stdout.split()


def _told(server: Machine, event: str) -> list[str]:
    path = f"{_STATE}/told.{event}.{CLIENT[4]}"
    wait_until(lambda: server.tries("sudo", "test", "-e", path).returncode == 0, seconds=60)
    return server.root("cat", path).splitlines()


def _variables(told: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in told if re.match("[A-Z_]+=", line))


def _scraped(server: Machine) -> dict[str, float]:
    lines = server.ok("python3", "-c", _SCRAPE).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}


def _priorities(server: Machine) -> dict[str, int]:
    rows = server.ok("ps", "-C", "gk-keeper,gk-worker,gk-hook-runner,gk-meter,gk-exporter", "-o", "comm=,ni=")
    return {name.removeprefix("gk-"): int(number) for name, number in map(str.split, rows.splitlines())}


def test_a_hook_is_told_and_has_the_rights_that_the_docs_say(server: Machine, untold: None) -> None:
    """At an open and at a close, brought by a reload."""
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
    assert [line.split()[1] for line in opened if line.startswith("Cap")] == ["0" * 16] * 3
    assert "NoNewPrivs 1" in opened
    writes = [line.removeprefix("writes ") for line in opened if line.startswith("writes ")]
    assert writes == ["/dev/shm", "/run/gatekeeper", "/tmp", _STATE, "/var/tmp"]
    said = server.root("journalctl", "-u", "gatekeeper", "-n", "50", "-o", "cat", "GATEKEEPER_EVENT=hook-said")
    assert "told of open" in said
    assert "told of close" in said


def test_a_hook_that_hangs_delays_nothing_and_is_killed(server: Machine, untold: None) -> None:
    """A knock, a login and a close meanwhile are as they are without it."""
    server.root("touch", f"{_STATE}/hang")
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
    wait_until(lambda: len(_hooks(server, f"sleep {_HANGS}")) == 2, seconds=60)
    begun = time.monotonic()
    server.root("rm", f"{_STATE}/hang")
    assert connects() == OPEN
    assert ok("ssh", "server", "hostname") == "server\n"
    ok("gatekeeper", "knock", "server", "--close")
    shut()
    say(f"a login and a close took {time.monotonic() - begun:.1f} s while two hooks hung")
    assert len(_hooks(server, f"sleep {_HANGS}")) == 2, "they ended before, so nothing was shown"
    wait_until(lambda: not _hooks(server, f"sleep {_HANGS}"), seconds=_LIMIT + 40)
    assert _told(server, "close"), "what waited behind it has its turn"
    failed = server.root("journalctl", "-u", "gatekeeper", "-n", "50", "-o", "cat", "GATEKEEPER_EVENT=hook-failed")
    assert failed.count(f"it took longer than {_LIMIT} s, and was killed") == 2, failed


def test_metrics_tell_of_a_knock_and_lack_what_the_docs_say(server: Machine, untold: None) -> None:
    """On the loopback alone; the kernel shows the queues to nobody but root, which the service is not."""
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


def test_after_another_install_they_run_behind_the_door(server: Machine, untold: None) -> None:
    """The unit has a priority of its own, and lets them give it up where it was written for such rules."""
    assert set(_priorities(server).values()) == {-10}, "a unit of before the rules had any of that"
    server.root("gatekeeper", "install", "--no-grant-me")
    wait_until(lambda: _priorities(server).keys() >= {"meter", "exporter", "hook-runner"}, seconds=60)
    door = {"keeper": -10, "worker": -10}
    wait_until(lambda: _priorities(server) == door | {"hook-runner": 0, "meter": 10, "exporter": 10}, seconds=60)
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
    assert "priority 0" in _told(server, "open")
