"""A server is moved from fwknopd: gatekeeper beside it with rules that were imported, then in its place."""

from __future__ import annotations

import pytest

from gatekeeper import cli
from tests.netns.device import server_key
from tests.netns.site import CLIENT, SERVER, SSH, Site, wait_until
from tests.netns.test_old_servers import KEYS, PCAP, UDP_SERVER, fwknopd, knock, opened, rc


def import_rules(site: Site) -> None:
    """Make rules of what fwknopd has."""
    made = site.directory / "imported.yaml"
    access = str(site.directory / "fwknop" / "access.conf")
    assert cli.main(["import", "fwknop", access, "-o", str(made), "--service", f"ssh=tcp/{SSH}"]) == 0
    site.write_rules(made.read_text())
    server_key(site)


def granted(site: Site) -> list[str]:
    return [grant["source"] for grant in site.status()["grants"]]


@pytest.mark.parametrize("how", [PCAP, UDP_SERVER], ids=["pcap", "udp-server"])
def test_one_knock_is_heard_by_both_while_gatekeeper_observes(site: Site, how: str) -> None:
    rc(site, f"ACCESS tcp/{SSH}\n{KEYS}")
    with fwknopd(site, how=how):
        import_rules(site)
        site.run("--observe")
        knock(site, SERVER[4], "--format", "fwknop")
        wait_until(lambda: bool(opened(site, CLIENT[4], str(SSH))) and granted(site) == [CLIENT[4]], seconds=10)
        assert site.connect(4) == "open"
        assert site.stranger_connects(4) == "silent"


def test_the_port_is_never_open_for_strangers_while_the_guard_changes(site: Site) -> None:
    """As docs/migrating.md has it: guard, then let the port pass in the firewall, then stop fwknopd."""
    rc(site, f"ACCESS tcp/{SSH}\n{KEYS}")
    with fwknopd(site):
        import_rules(site)
        running = site.run()
        assert site.stranger_connects(4) == "silent"
        site.shell("iptables", "-I", "INPUT", "-p", "tcp", "--dport", str(SSH), "-j", "ACCEPT")
        assert site.stranger_connects(4) == "silent"
        knock(site, SERVER[4], "--format", "fwknop")
        wait_until(lambda: granted(site) == [CLIENT[4]])
        wait_until(lambda: bool(opened(site, CLIENT[4], str(SSH))), seconds=10)
    assert site.connect(4) == "open"
    assert site.stranger_connects(4) == "silent"
    assert running.log.count("refused reason=") == running.log.count("refused reason=no-grant")
