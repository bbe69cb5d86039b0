"""What the early unit does before the network comes up; and the whole as a user who is not root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper import access
from gatekeeper.demo import probe
from gatekeeper.demo.server import gatekeeper_argv
from tests.netns.site import CLIENT, Site

NOBODY = pwd.getpwnam("nobody")
# What the unit gives, and the right to read: the checkout that is tested may lie in a folder of root's.
CAPABILITIES = "-all,+net_admin,+net_raw,+dac_read_search"
AS_NOBODY = [
    *("setpriv", "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid), "--clear-groups", "--no-new-privs"),
    *(f"--{kind}={CAPABILITIES}" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
    *(sys.executable, "-m", "gatekeeper"),
]


def reboot(site: Site) -> None:
    """Leave of the kernel what a reboot leaves: nothing of ours."""
    site.ok("flush")


def test_load_closes_and_lets_in_who_has_a_grant_and_run_takes_over(site: Site) -> None:
    """Over both IP versions, and without a worker; and while run is up, load leaves everything to it."""
    site.ok("grant", CLIENT[4], "ssh")
    site.ok("grant", CLIENT[6], "ssh")
    reboot(site)
    done = site.command("load")
    assert done.returncode == 0, done.stderr
    assert "live grants: 2" in done.stderr
    for version in (4, 6):
        assert site.connect(version) == "open"
        assert site.stranger_connects(version) == "silent"
    assert not site.status()["running"]
    running = site.run()
    assert [site.connect(version) for version in (4, 6)] == ["open", "open"]
    refused = site.command("load")
    assert refused.returncode == 1
    assert "another gatekeeper guards this machine" in refused.stderr
    assert running.stop() == 0


def test_load_needs_nothing_of_the_network(site: Site) -> None:
    """In a namespace where even the loopback is down."""
    places = ["--rules", str(site.rules), "--state-dir", str(site.state), "--log-format", "journal"]
    argv = ["unshare", "--net", *gatekeeper_argv("load", *places)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith("<6>gatekeeper ")


def test_a_store_that_cannot_be_read_leaves_the_ports_closed_and_the_exit_status_says_so(site: Site) -> None:
    site.state.mkdir()
    (site.state / "gatekeeper.db").write_bytes(b"SQLite format 3\0" + b"garbage" * 2000)
    done = site.command("load")
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert site.stranger_connects(4) == "silent"


def test_without_ipset_load_gives_no_grants_for_nobody_would_end_them(site: Site) -> None:
    site.write_rules(f"{site.rules.read_text()}firewall: {{backend: rules}}\n")
    site.ok("grant", CLIENT[4], "ssh")
    reboot(site)
    done = site.command("load")
    assert done.returncode == 0, done.stderr
    assert "grants come back with it" in done.stderr
    assert site.connect(4) == "silent"
    site.run()
    assert site.connect(4) == "open"


@pytest.mark.parametrize("more", ["", "firewall: {backend: rules, variant: legacy}\n"], ids=["ipset", "rules"])
def test_what_was_closed_can_be_closed_without_gatekeeper(site: Site, more: str) -> None:
    """By the script that the last start left behind: it lets nobody in, and leaves alone what is loaded already."""
    site.write_rules(site.rules.read_text() + more)
    site.ok("grant", CLIENT[4], "ssh")
    site.run().stop()
    reboot(site)
    assert site.stranger_connects(4) == "open", "a reboot leaves no ruleset"
    for _ in range(2):
        site.shell("sh", str(site.state / "closed.sh"))
    for version in (4, 6):
        assert site.connect(version, timeout=0.3) == "silent"
    mangle = site.shell("iptables-legacy-save" if more else "iptables-nft-save")
    assert mangle.count("-j GKEEPER-IN\n") == 1
    site.run()
    assert site.connect(4) == "open"


@contextlib.contextmanager
def state_of_nobody(site: Site) -> Iterator[None]:
    """Give nobody a state directory and, for as long as this takes, the folder of the namespaces' locks.

    There is one such folder on a machine, so who else wants it meanwhile, in another process perhaps, waits.
    """
    locks = Path("/run/gatekeeper")
    locks.mkdir(mode=0o700, exist_ok=True)
    alone = os.open(locks, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(alone, fcntl.LOCK_EX)
    before = locks.stat()
    folder = Path(tempfile.mkdtemp(prefix="gatekeeper-test-"))
    try:
        for path in (folder, locks):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        site.state = folder
        yield
    finally:
        os.chown(locks, before.st_uid, before.st_gid)
        os.close(alone)
        shutil.rmtree(folder)


def test_one_at_a_time_is_another_user(tmp_path: Path) -> None:
    """Or the first one's end would take the folder of the locks away from the second."""
    begun = threading.Event()

    def second() -> None:
        with state_of_nobody(Site(tmp_path)):
            begun.set()

    thread = threading.Thread(target=second)
    with state_of_nobody(Site(tmp_path)):
        thread.start()
        assert not begun.wait(0.3)
    thread.join(5)
    assert begun.is_set()


def test_it_all_works_as_another_user_with_two_capabilities_beside_the_commands_of_root(site: Site) -> None:
    """With the nft variant: a knock opens, a close cuts; and what root makes in the state directory is that user's."""
    with state_of_nobody(site):
        site.ok("grant", "10.9.8.7", "ssh")
        running = site.run(program=AS_NOBODY)
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t" in status
        for version in (4, 6):
            assert site.stranger_connects(version) == "silent"
            with site.stream(version, knock=b"open_sesame") as stream:
                site.knock(b"close_sesame", version)
                assert probe.until_end(stream, timeout=2) is not None
            assert site.connect(version) == "silent"
        site.ok("grant", CLIENT[4], "ssh")
        assert site.connect(4) == "open"
        assert site.status()["running"]
        assert running.stop() == 0
        reboot(site)
        argv = [*AS_NOBODY, "load", "--rules", str(site.rules), "--state-dir", str(site.state)]
        done = site.inside(site.server, *argv)
        assert done.returncode == 0, done.stderr
        assert site.connect(4) == "open"
        site.run().stop()  # by root, by hand: what that makes must not be in the service's way
        owners = {path.name: path.stat().st_uid for path in site.state.iterdir()}
        assert set(owners.values()) == {NOBODY.pw_uid}, owners
        site.run(program=AS_NOBODY).stop()


def test_a_service_that_is_not_root_reloads_when_root_says_so_and_when_its_own_unit_does(site: Site) -> None:
    """The unit's ExecReload= has the rights of the service, and no others."""
    with state_of_nobody(site):
        running = site.run(program=AS_NOBODY)
        assert "reloaded in" in site.ok("reload")
        places = ["--rules", str(site.rules), "--state-dir", str(site.state)]
        site.write_rules(site.rules.read_text().replace("tcp/8080", "tcp/8081"))
        done = site.inside(site.server, *AS_NOBODY, "reload", *places)
        assert done.returncode == 0, done.stderr
        assert "1 service changed" in done.stdout
        site.write_rules("services: 3\n")
        done = site.inside(site.server, *AS_NOBODY, "reload", *places)
        assert done.returncode == 1
        assert "must be a mapping" in done.stderr
        assert "must be a mapping" in site.ok("status")
        owners = {path.name: path.stat().st_uid for path in site.state.iterdir()}
        assert set(owners.values()) == {NOBODY.pw_uid}, owners
        assert running.stop() == 0


def test_a_trap_in_the_state_directory_is_not_stepped_into(site: Site) -> None:
    """Root's commands follow no link that the service's user could have laid there."""
    with state_of_nobody(site):
        for name in ("gatekeeper.db", "change.lock"):
            target = site.directory / f"target-{name}"
            (site.state / name).symlink_to(target)
            done = site.command("grant", CLIENT[4], "ssh")
            assert done.returncode == 1
            assert "Traceback" not in done.stderr
            assert not target.exists()
            (site.state / name).unlink()


def test_rules_are_opened_to_the_services_group_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_OWN", tmp_path / "etc")
    rules = tmp_path / "etc" / "rules.yaml"
    rules.parent.mkdir(mode=0o700)
    rules.touch(mode=0o600)
    folder = rules.parent / "rules.d"
    folder.mkdir(mode=0o700)
    (folder / "ann.yaml").touch(mode=0o600)
    folders, files = [rules.parent, folder], [rules, folder / "ann.yaml"]
    said: list[str] = []
    for _ in range(2):
        access.let_read(files, folders, "daemon", say=said.append)
    assert said == [f"let the group daemon, and nobody else, read {path}" for path in (*folders, *files)]
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o640
        assert path.stat().st_gid == pwd.getpwnam("daemon").pw_gid
    for path in folders:
        assert path.stat().st_mode & 0o777 == 0o750
