"""The Debian package's files agree with the program; scripts/deb --test tries the package itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gatekeeper import __version__, units

TOP = Path(__file__).parents[1]
DEBIAN = TOP / "debian"
BUNDLED = {"netfilterqueue", "scapy", "shtab"}
"""What debian/rules puts into the package, for Debian 12 has none, or an older one."""


def test_the_package_has_the_program_s_version() -> None:
    assert (DEBIAN / "changelog").read_text().startswith(f"gatekeeper ({__version__}) ")


def test_the_package_depends_on_all_that_the_server_imports_and_on_the_tools_that_it_runs() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    names = {re.split(r"[^a-z-]", one)[0] for one in wanted if "win32" not in one}
    packages = {f"python3-{name.removeprefix('py') if name == 'pyyaml' else name}" for name in names - BUNDLED}
    assert set(depends()) >= packages | {"iptables", "ipset", "conntrack", "libseccomp2", "${shlibs:Depends}"}
    assert not {f"python3-{name}" for name in BUNDLED} & set(depends())


def test_its_user_and_its_units_are_those_of_gatekeeper_install(tmp_path: Path) -> None:
    assert f"\nu {units.USER} " in (DEBIAN / "gatekeeper.sysusers").read_text()
    subprocess.run([sys.executable, DEBIAN / "units.py", tmp_path], check=True, env={"PYTHONPATH": str(TOP)})
    assert {path.name for path in tmp_path.iterdir()} == {units.SERVICE, units.EARLY}
    program = "ExecStart=/usr/lib/gatekeeper/bin/python3 -I -m gatekeeper run "
    assert program in (tmp_path / units.SERVICE).read_text()
    assert program.split(" ", 1)[1].removesuffix("run ") in (DEBIAN / "gatekeeper-program").read_text()


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_its_scripts_are_whole(name: str) -> None:
    script = DEBIAN / f"gatekeeper.{name}"
    subprocess.run(["sh", "-n", script], check=True)
    assert "\n#DEBHELPER#\n" in script.read_text()
    assert script.read_text().startswith("#!/bin/sh\nset -e\n")


def depends() -> list[str]:
    text = (DEBIAN / "control").read_text().split("\nDepends:\n", 1)[1].split("\nDescription:", 1)[0]
    return [line.strip().rstrip(",") for line in text.splitlines()]
