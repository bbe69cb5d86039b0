"""The systemd units: what they say, what systemd makes of them, and that they come and go whole."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gatekeeper import access, cli, units
from gatekeeper.errors import UsageError

SETUP = units.Setup((sys.executable, "-I", "-m", "gatekeeper"), "/etc/gatekeeper/rules.yaml", "/var/lib/gatekeeper")
LEGACY = replace(SETUP, is_legacy=True)
HOOKS = replace(SETUP, has_hooks=True)
METRICS = replace(SETUP, has_metrics=True)
LEGACY_HOOKS = replace(LEGACY, has_hooks=True)
ODD = replace(SETUP, rules="/srv/100% $HOME/my rules.yaml", state_dir="/srv/s t", binds_low_port=True)
UNITS = (units.SERVICE, units.EARLY)


def written(folder: Path, setup: units.Setup) -> list[Path]:
    for name, text in units.texts(setup).items():
        (folder / name).write_text(text)
    return [folder / name for name in UNITS]


@pytest.mark.parametrize(
    "setup", [SETUP, LEGACY, ODD, HOOKS, LEGACY_HOOKS], ids=["nft", "legacy", "odd", "hooks", "legacy with hooks"]
)
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, setup: units.Setup) -> None:
    for path in written(tmp_path, setup):
        done = subprocess.run(
            ["systemd-analyze", "--man=no", "verify", path], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if "gatekeeper" in line]
        assert complaints == []


@pytest.mark.parametrize("setup", [SETUP, ODD], ids=["plain", "odd"])
def test_the_state_directory_can_be_read_in_the_units(setup: units.Setup) -> None:
    """By who removes them, and then notes in the audit trail that they are gone."""
    assert {units.state_dir(text) for text in units.texts(setup).values()} == {setup.state_dir}
    dollars = units.texts(replace(setup, state_dir="/srv/a$b $$ ${c} 100%%"))
    assert {units.state_dir(text) for text in dollars.values()} == {"/srv/a$b $$ ${c} 100%%"}
    assert units.state_dir("[Service]\nExecStart=/bin/true 'half\n") is None
    assert units.state_dir("[Service]\nExecStart=/bin/true --state-dir\n") is None


@pytest.mark.parametrize(
    ("setup", "bound"),
    [(SETUP, 18), (ODD, 19), (HOOKS, 19), (METRICS, 19), (LEGACY, 21), (LEGACY_HOOKS, 26)],
    ids=["nft", "odd", "hooks", "metrics", "legacy", "legacy with hooks"],
)
def test_the_exposure_of_the_units_is_what_the_docs_say(tmp_path: Path, setup: units.Setup, bound: int) -> None:
    """Below 2.0; but for iptables-legacy, which takes root."""
    for path in written(tmp_path, setup):
        argv = ["systemd-analyze", "security", "--offline=true", f"--threshold={bound}", "--no-pager", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_the_service_has_a_user_of_its_own_and_no_capability_that_it_does_not_need() -> None:
    for text in units.texts(SETUP).values():
        assert "User=gatekeeper\n" in text
        assert "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n" in text
    for text in (*units.texts(HOOKS).values(), units.texts(LEGACY_HOOKS)[units.EARLY]):
        assert "SETUID" not in text
        assert "@setuid" not in text
    for text in units.texts(LEGACY).values():
        assert "User=root\n" in text
        assert "# iptables-legacy refuses whoever is not root" in text
        assert "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n" in text


def test_a_service_that_must_be_root_can_become_another_user_for_hooks_and_only_for_them() -> None:
    text = units.texts(LEGACY_HOOKS)[units.SERVICE]
    assert "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SETUID CAP_SETGID\n" in text
    assert "SystemCallFilter=~@privileged @resources\n# " in text
    assert "SystemCallFilter=@setuid\n" in text
    assert "@setuid" not in units.texts(LEGACY)[units.SERVICE]


def test_only_a_service_with_hooks_or_metrics_may_change_priorities() -> None:
    for setup in (HOOKS, METRICS, LEGACY_HOOKS):
        written_by = units.texts(setup)
        assert "SystemCallFilter=setpriority\n" in written_by[units.SERVICE]
        assert "setpriority" not in written_by[units.EARLY]
    for setup in (SETUP, LEGACY, ODD):
        assert not any("setpriority" in text for text in units.texts(setup).values())


@pytest.mark.parametrize(("more", "may"), [("", False), ("metrics: true\n", True), ("on_open: [/bin/true]\n", True)])
def test_the_rules_say_whether_the_service_may_change_priorities(tmp_path: Path, more: str, may: bool) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("services: {ssh: {port: tcp/22}}\nclients: {}\nfirewall: {variant: nft}\n" + more)
    assert cli.main(["install", "--rules", str(rules), "--root", str(tmp_path)]) == 0
    text = (tmp_path / "etc/systemd/system" / units.SERVICE).read_text()
    assert ("SystemCallFilter=setpriority\n" in text) is may


def test_whichever_unit_starts_first_has_the_modules_of_legacy_loaded() -> None:
    """Also where the early unit has run before the variant changed: the service may load none by itself."""
    for name, text in units.texts(LEGACY).items():
        assert "Wants=modprobe@iptable_raw.service " in text, name
        assert text.count("modprobe@ip6table_mangle.service") == 2, name
    for text in units.texts(SETUP).values():
        assert "modprobe@" not in text


def test_a_reload_is_waited_for_and_has_its_words_for_systemctl() -> None:
    text = units.texts(SETUP)[units.SERVICE]
    line = next(line for line in text.splitlines() if line.startswith("ExecReload="))
    assert line.endswith("-m gatekeeper reload --rules /etc/gatekeeper/rules.yaml --state-dir /var/lib/gatekeeper")


def test_odd_paths_are_quoted_for_systemd_and_impossible_ones_refused() -> None:
    text = units.texts(ODD)[units.SERVICE]
    assert '--rules "/srv/100%% $$HOME/my rules.yaml" --state-dir "/srv/s t"' in text
    assert 'ReadWritePaths="/srv/s t"' in text
    assert "CAP_NET_BIND_SERVICE" in text
    with pytest.raises(ValueError, match="cannot stand in a systemd unit"):
        units.texts(replace(SETUP, rules="/etc/a\nExecStart=/bin/evil"))


def test_units_are_written_once_replaced_when_older_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("services: {ssh: {port: tcp/22}}\nclients: {}\nfirewall: {variant: nft}\n")
    root = tmp_path / "root"
    places = [root / "etc/systemd/system" / name for name in UNITS]
    command = ["install", "--rules", str(rules), "--root", str(root)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "".join(f"wrote {path}\n" for path in places)
    assert [path.stat().st_mode & 0o777 for path in places] == [0o644, 0o644]
    assert f"--rules {rules} " in places[0].read_text()
    assert sorted(path.name for path in places[0].parent.iterdir()) == sorted(UNITS)
    places[1].write_text("an older one\n")
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{places[0]} is as it should be\nwrote {places[1]}\n"
    assert cli.main(["uninstall", "--root", str(root)]) == 0
    assert list(places[0].parent.iterdir()) == []
    capsys.readouterr()
    assert cli.main(["uninstall", "--root", str(root)]) == 1
    assert "not installed as a service here" in capsys.readouterr().err


def test_a_package_s_own_units_are_used_where_they_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, root = tmp_path / "rules.yaml", tmp_path / "root"
    rules.write_text("services: {ssh: {port: tcp/22}}\nclients: {}\nfirewall: {variant: nft}\n")
    command = ["install", "--rules", str(rules), "--root", str(root)]
    assert cli.main(command) == 0
    own, packaged = root / "etc/systemd/system", root / "usr/lib/systemd/system"
    packaged.mkdir(parents=True)
    for name in UNITS:
        (packaged / name).write_bytes((own / name).read_bytes())
    capsys.readouterr()
    assert cli.main(command) == 0
    assert f"{packaged / units.SERVICE} is as it should be" in capsys.readouterr().out
    assert list(own.iterdir()) == []
    (packaged / units.SERVICE).write_text("of another version")
    assert cli.main(command) == 0
    assert [path.name for path in own.iterdir()] == [units.SERVICE]
    assert cli.main(["uninstall", "--root", str(root)]) == 0
    assert {path.name for path in packaged.iterdir()} == set(UNITS)


def test_an_install_whose_output_nobody_reads_is_not_left_half_done(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("services: {ssh: {port: tcp/22}}\nclients: {}\nfirewall: {variant: nft}\n")
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "gatekeeper", "install", "--rules", str(rules), "--root", str(tmp_path)]
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "etc/systemd/system").iterdir()) == sorted(UNITS)


@pytest.mark.parametrize("place", ["/home/me/told", "/tmp/told"])
def test_a_hook_that_the_service_could_not_see_is_refused_with_where_to_put_it(place: str) -> None:
    access.require_reachable_hooks([Path("/usr/bin/logger")])
    with pytest.raises(UsageError, match="out of a service's sight") as refused:
        access.require_reachable_hooks([Path("/usr/bin/logger"), Path(place)])
    assert "/usr/local/lib/gatekeeper" in (refused.value.hint or "")


def test_bad_rules_install_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("services: {ssh: {port: 22}}\n")
    assert cli.main(["install", "--rules", str(rules), "--root", str(tmp_path / "root")]) == 1
    assert "did you mean tcp/22?" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/home/me/.venv/bin/python3", "python3 -m venv /opt/gatekeeper"),
        ("/root/gatekeeper/gatekeeper/__init__.py", "python3 -m venv /opt/gatekeeper"),
        ("/root/rules.yaml", "/etc/gatekeeper/rules.yaml"),
    ],
)
def test_what_the_units_hide_from_the_service_is_refused_with_what_to_do(path: str, hint: str) -> None:
    access.require_reachable([Path("/usr/bin/python3"), Path("/opt/gatekeeper/bin/python3")])
    with pytest.raises(UsageError) as refused:
        access.require_reachable([Path("/usr/bin/python3"), Path(path)])
    assert path in refused.value.message
    assert hint in (refused.value.hint or "")
