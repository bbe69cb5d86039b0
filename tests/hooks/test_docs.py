"""The scripts of docs/hooks.md do what it says, whatever they are told."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from gatekeeper import rules
from gatekeeper.hooks.running import Running
from gatekeeper.hooks.telling import Event, Teller
from gatekeeper.model import Grant, Outcome
from tests.hooks.test_running import finished

TEXT = (Path(__file__).parents[2] / "docs/hooks.md").read_text()
SCRIPTS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
(YAML,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
SAID = ["laptop: ssh open for 198.51.100.7 (opened)", "open ssh laptop 198.51.100.7 until closed"]


def event() -> Event:
    """What the rules of that page have run when the laptop opens ssh."""
    found, _ = rules.parse(YAML.encode(), file="rules.yaml", read_key=str.encode)
    grant = Grant(ip_network("198.51.100.7/32"), "ssh", "laptop", None)
    (its,) = Teller(found).note("opened", Outcome(admitted=(grant,)), now=0.0)
    return its


@pytest.mark.parametrize(("script", "said"), list(zip(SCRIPTS, SAID, strict=True)), ids=["curl", "logger"])
def test_a_script_passes_on_what_it_is_told(tmp_path: Path, script: str, said: str) -> None:
    for name in ("curl", "logger"):
        (tmp_path / name).write_text('#!/bin/sh\nfor one; do echo "<$one>"; done\n')
        (tmp_path / name).chmod(0o755)
    path = tmp_path / "tell"
    path.write_text(script)
    path.chmod(0o755)
    its = event()
    assert its.argv == ("/usr/local/lib/gatekeeper/tell", "ops")
    environment = its.environment | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    one = Running(Event((str(path), *its.argv[1:]), its.limit, environment))
    assert finished(one) is None
    assert f"<{said}>" in one.said


def test_every_variable_that_a_hook_has_is_in_the_table() -> None:
    for name in event().environment:
        assert f"`{name}" in TEXT, name
    for name in re.findall(r"GATEKEEPER_[A-Z_]+", TEXT):
        assert name in event().environment, name
