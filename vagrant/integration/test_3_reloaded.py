"""`systemctl reload` goes over to other rules; a bad file changes nothing; the journal has a knock and its fields."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from machines import CLOSED, OPEN, RULES, Machine, connects, ok, say


@pytest.fixture
def kept_rules(server: Machine) -> Iterator[None]:
    """Put the rules back as they are now; `sed -i` and `cp -p` make a file anew, and leave its owner and mode."""
    server.root("cp", "-p", RULES, f"{RULES}.kept")
    try:
        yield
    finally:
        server.root("cp", "-p", f"{RULES}.kept", RULES)
        server.root("systemctl", "reload", "gatekeeper")


def test_a_reload_leaves_sessions_alone_and_closes_for_who_is_gone(
    server: Machine, kept_rules: None, opened: None
) -> None:
    """Another ttl is in force, while a session talks on; then the client is gone from the file, and cannot come in."""
    main = server.ok("systemctl", "show", "-p", "MainPID", "gatekeeper")
    with subprocess.Popen(
        ["ssh", "server", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdin is not None
        assert session.stdout is not None

        def talks() -> bool:
            assert session.stdin is not None
            assert session.stdout is not None
            session.stdin.write("still there?\n")
            session.stdin.flush()
            return session.stdout.readline() == "still there?\n"

        assert talks()
        server.root("sed", "-i", "s/ttl: [^,}#]*/ttl: 59m /", RULES)
        assert "59m" in server.root("gatekeeper", "diff")
        server.root("systemctl", "reload", "gatekeeper")
        assert talks()
        assert "59m" in server.root("gatekeeper", "status")
        server.root("sed", "-i", "/^  laptop: /d", RULES)
        server.root("systemctl", "reload", "gatekeeper")
        session.kill()
    assert connects() == CLOSED
    assert server.ok("systemctl", "show", "-p", "MainPID", "gatekeeper") == main


def test_a_bad_file_changes_nothing_and_systemd_says_so(server: Machine, kept_rules: None, opened: None) -> None:
    server.root("sh", "-c", f"echo 'oops: 1' >> {RULES}")
    failed = server.tries("sudo", "systemctl", "reload", "gatekeeper")
    assert failed.returncode != 0
    assert server.ok("systemctl", "is-active", "gatekeeper") == "active\n"
    assert "oops" in server.root("gatekeeper", "status")
    said = server.root("journalctl", "-u", "gatekeeper", "-n", "50", "--no-pager")
    assert "oops" in said, said
    assert connects() == OPEN


def test_the_journal_has_a_knock_with_its_fields(server: Machine, closed: None) -> None:
    ok("gatekeeper", "knock", "server", "--wait", "tcp/22", "--timeout", "60")
    asked = ["journalctl", "-u", "gatekeeper", "-o", "json", "-n", "20", "GATEKEEPER_CLIENT=laptop"]
    lines = [json.loads(line) for line in server.root(*asked).splitlines()]
    last = lines[-1]
    assert last["GATEKEEPER_SERVICE"] == "ssh", last
    assert last["PRIORITY"] == "6", last
    say(f"journald: {last['MESSAGE']}")
