"""``gatekeeper run`` typed in an ssh session that its rules would close: with a real sshd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gatekeeper
from gatekeeper.demo.network import netns_argv
from gatekeeper.store.lock import runner
from tests.netns import sshd
from tests.netns.site import CLIENT, SERVER, Site, wait_until

RULES = "services:\n  ssh: {port: tcp/22, ttl: 1h}\nclients:\n  laptop: {open: open_sesame, services: [ssh]}\n"


class Session:
    """An ssh session in which ``run`` was typed; its log comes back through it."""

    def __init__(self, site: Site, folder: Path, version: int, *options: str) -> None:
        self._state = site.state
        config = sshd.write_config(folder, "", SERVER[version])
        # as sudo does: the environment is gone
        argv = ["env", "-i", f"PYTHONPATH={Path(gatekeeper.__file__).parents[1]}", f"PATH={os.environ['PATH']}"]
        argv += [sys.executable, "-m", "gatekeeper", "run", "--rules", str(site.rules), "--state-dir", str(site.state)]
        ssh = ["ssh", "-F", str(config), SERVER[version], *argv, *options]
        self.process = subprocess.Popen(
            netns_argv(site.client, *ssh), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: "; ready" in self.log or self.process.poll() is not None, seconds=15)
        assert self.process.poll() is None, self.log

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line

    def end(self) -> None:
        """Stop ``run``; the session tells of it to the last."""
        pid = runner(self._state)
        assert pid
        os.kill(pid, signal.SIGTERM)
        assert self.process.wait(5) == 0, self.log
        self._reader.join(2)
        assert "stopped; the ruleset stays" in self.log


@contextmanager
def typed(site: Site, folder: Path, version: int, *options: str) -> Iterator[Session]:
    session = Session(site, folder, version, *options)
    try:
        yield session
    finally:
        session.process.kill()
        session.process.wait()
        assert session.process.stderr is not None
        session.process.stderr.close()


def test_the_session_lives_on_and_its_address_comes_back(site: Site, version: int) -> None:
    """Where the service cuts, it takes the grant at once; it lasts an hour, and a longer one stays as it is."""
    site.write_rules(RULES.replace("ttl: 1h", "ttl: 5m, established: cut"))
    with sshd.sshd(site) as folder, typed(site, folder, version) as session:
        line = next(line for line in session.log.splitlines() if " granted ssh to " in line)
        assert f" granted ssh to {CLIENT[version]} until 20" in line
        assert "run was started from a session from there (--no-grant-me does without)" in line
        assert f"`gatekeeper revoke {CLIENT[version]} ssh` takes it back" in line
        assert site.connect(version, port=22) == "open"
        assert site.stranger_connects(version, port=22) == "silent"
        (grant,) = site.status()["grants"]
        assert (grant["client"], grant["source"]) == ("(admin)", CLIENT[version])
        assert 3500 < grant["seconds_left"] <= 3600
        site.ok("grant", CLIENT[version], "ssh", "--ttl", "2h")
        session.end()
        with typed(site, folder, version) as again:
            assert " granted ssh " not in again.log
            again.end()


def test_who_needs_no_grant_or_wants_none_gets_none(site: Site) -> None:
    """The session lives on all the same, and nobody else comes in from there."""
    version = 4
    site.write_rules(RULES)
    with sshd.sshd(site) as folder:
        with typed(site, folder, version, "--no-grant-me") as session:
            assert " granted " not in session.log
            assert "open connections that live on without a grant: 1;" in session.log
            assert site.connect(version, port=22) == "silent"
            session.end()
        site.ok("flush")
        site.write_rules(f"always: [{CLIENT[version]}]\n{RULES}")
        with typed(site, folder, version) as session:
            assert " granted " not in session.log
            session.end()
        site.write_rules(f"mode: observe\n{RULES}")
        with typed(site, folder, version) as session:
            assert " granted " not in session.log
            session.end()
        assert site.status()["grants"] == []
