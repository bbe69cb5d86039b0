"""What the doctor says of other people's firewalls, in texts such as their tools load."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper.doctor import nft, others, saved
from gatekeeper.doctor.finding import CannotLookError, Finding, Level
from gatekeeper.doctor.scene import Saved, Scene

UFW = """\
*filter
:INPUT DROP [0:0]
:ufw-before-input - [0:0]
:ufw-not-local - [0:0]
:ufw-user-input - [0:0]
:ufw-logging-deny - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-logging-deny -m limit --limit 3/min -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-user-input -p tcp -m tcp --dport 443 -j ACCEPT
COMMIT
"""
DOCKER = """\
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""
FIREWALLD = nft.parse((Path(__file__).parent / "nft.json").read_text())


def scene(tmp_path: Path, port: str, text: str = "", tables: list[nft.Table] | None = None) -> Scene:
    file = tmp_path / "rules.yaml"
    file.write_text(f"services: {{it: {{port: {port}}}}}\n")
    made = Scene(file, tmp_path)
    made.__dict__["saved"] = [Saved("nft", 4, text, saved.parse(text))]
    made.__dict__["tables"] = tables or []
    return made


def faults(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.level is not Level.OK]


def test_a_port_that_ufw_does_not_allow_is_found_with_its_command(tmp_path: Path) -> None:
    (one,) = faults(list(others.behind(scene(tmp_path, "tcp/22", UFW))))
    assert one.level is Level.WARNING
    assert one.hint == "ufw allow 22/tcp"
    assert not faults(list(others.behind(scene(tmp_path, "tcp/443", UFW))))
    some = UFW.replace("COMMIT", "-A ufw-user-input -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT")
    (one,) = faults(list(others.behind(scene(tmp_path, "tcp/22", some))))
    assert one.level is Level.NOTE
    assert not faults(list(others.eaten(scene(tmp_path, "tcp/22", UFW)))), "ufw denies the knock port behind gatekeeper"


def test_a_port_that_docker_publishes_is_found(tmp_path: Path) -> None:
    (one,) = faults(list(others.diverted(scene(tmp_path, "tcp/8000-8080", DOCKER))))
    assert one.level is Level.WRONG
    assert one.what == "Docker's translation sends what is for tcp/8080 (it) elsewhere: that is not guarded"
    assert "-p 127.0.0.1:" in one.hint
    assert not faults(list(others.diverted(scene(tmp_path, "tcp/80", DOCKER))))


def test_tables_of_nftables_are_looked_at_too(tmp_path: Path) -> None:
    there = scene(tmp_path, "tcp/8080", tables=FIREWALLD)
    whats = [one.what for one in faults(list(others.diverted(there)))]
    assert any("sends some of what is for tcp/8080 (it) elsewhere" in what for what in whats)
    assert any("knocks to udp/62201 are sent elsewhere" in what for what in whats)
    assert {one.level for one in faults(list(others.marks(there)))} == {Level.WRONG, Level.WARNING}
    kept_out = faults(list(others.behind(there)))
    assert {one.level for one in kept_out} == {Level.NOTE, Level.WARNING}, "10.0.0.0/8 gets in; by IPv6 nobody does"
    assert {one.hint for one in kept_out} == {"firewall-cmd --permanent --add-port=8080/tcp && firewall-cmd --reload"}


def test_tables_that_only_nft_can_show_are_said_not_to_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tables(_: Scene) -> list[nft.Table]:
        raise CannotLookError("only nft can show what is in inet firewalld, and it is not installed")

    there = scene(tmp_path, "tcp/8080")
    del there.__dict__["tables"]
    monkeypatch.setattr(Scene, "tables", property(tables))
    there.is_root = True
    (one,) = others.nftables(there)
    assert (one.level, one.hint) == (Level.UNKNOWN, "apt-get install nftables")
    assert not faults(list(others.diverted(there)))
