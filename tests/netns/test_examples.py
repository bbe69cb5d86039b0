"""Every example in rules/ on the real kernel, in every backend and variant; and nothing of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netns.site import Site

EXAMPLES = sorted((Path(__file__).parents[2] / "rules").glob("*.yaml"))


@pytest.mark.parametrize("firewall", ["backend: ipset", "backend: rules", "variant: legacy"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_can_be_taken_out(site: Site, path: Path, firewall: str) -> None:
    site.write_rules(f"{path.read_text()}\nfirewall: {{{firewall}}}\n")
    site.run().stop()
    assert "GKEEPER-IN" in site.shell("iptables-save") + site.shell("iptables-legacy-save")
    site.ok("flush")
    tools = ("iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save")
    assert "GKEEPER" not in "".join(map(site.shell, tools))
    assert site.shell("ipset", "list", "-n") == ""
