"""What the doctor makes of texts: of the kernel's, of tools', of files'."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

from gatekeeper import rules
from gatekeeper.doctor import kernel, neighbours, placed, queue, services, session, versions
from gatekeeper.doctor.finding import Finding, Level
from gatekeeper.doctor.modules import Facts, State, module_names, parse_config
from gatekeeper.firewall import nfqueue
from gatekeeper.settings import Transport

RULES = "services: {ssh: {port: tcp/22}}\n"
CONFIG = "# CONFIG_NFT_QUEUE is not set\nCONFIG_NF_TABLES=m\nCONFIG_IP_SET=y\nCONFIG_IP_SET_MAX=256\n"
SEQUENCE = "clients: {cam: {sequence: [7000, 8000, 9000], services: [ssh]}}\n"
DEBIAN = Facts(
    "6.1.0-13-amd64",
    config=parse_config(CONFIG),
    loaded=module_names("nf_tables 303104 45 - Live 0x0\nx_tables 61440 3 - Live 0x0\n", " "),
    built_in=module_names("kernel/lib/crc32.ko\n", "\n"),
    on_disk=module_names("kernel/net/netfilter/xt_set.ko.xz: kernel/net/netfilter/x-tables.ko.xz\n", ":"),
)


def levels(findings: list[Finding]) -> list[Level]:
    return [one.level for one in findings]


def test_where_a_kernel_has_something() -> None:
    assert DEBIAN.state("ip_set", "IP_SET") is State.BUILT_IN
    assert DEBIAN.state("nf_tables", "NF_TABLES") is State.LOADED
    assert DEBIAN.state("nft_queue", "NFT_QUEUE") is State.ABSENT
    told_nothing = Facts("6.1")
    assert told_nothing.state("xt_set", "NETFILTER_XT_SET") is State.UNKNOWN
    assert Facts("6.1", extensions=frozenset({"set"})).state("xt_set", "NETFILTER_XT_SET", "set") is State.LOADED
    without_config = Facts("6.1", built_in=DEBIAN.built_in, on_disk=DEBIAN.on_disk)
    assert without_config.state("xt_set", "NETFILTER_XT_SET") is State.LOADABLE
    assert without_config.state("crc32", "CRC32") is State.BUILT_IN
    assert without_config.state("xt_bpf", "NETFILTER_XT_MATCH_BPF") is State.ABSENT


def test_a_kernel_that_lacks_something_is_told_of_as_the_rules_need_it() -> None:
    def lacking(text: str) -> dict[str, Level]:
        the_rules, _ = rules.parse(f"{RULES}{text}".encode(), file="rules.yaml", read_key=str.encode)
        found = kernel.judge(Facts("6.1", config={"IP_SET": "n"}), the_rules, "nft")
        return {one.what: one.level for one in found}

    found = lacking("")
    assert found["the kernel lacks the target NFQUEUE"] is Level.WRONG
    assert found["the kernel cannot destroy sockets"] is Level.WARNING
    assert next(level for what, level in found.items() if "lacks ipset" in what) is Level.NOTE
    assert not any("bpf" in what for what in found)
    found = lacking("firewall: {backend: ipset}\nknock: {via: [udp, syn]}\n")
    assert found["the kernel lacks ipset"] is Level.WRONG
    assert found["the kernel lacks the match bpf, for what knocks begin with, and knocks in SYNs"] is Level.WRONG


def test_port_sequences_need_the_match_multiport() -> None:
    for text, expected in ((RULES, False), (RULES + SEQUENCE, True)):
        the_rules, _ = rules.parse(text.encode(), file="rules.yaml", read_key=lambda _: b"")
        words = [one.what for one in kernel.judge(Facts("6.1"), the_rules, "nft")]
        assert any("multiport" in one for one in words) is expected


def test_what_a_queue_lost_is_told_apart() -> None:
    row = "{} 4242 {} 2 65531 {} {} 1000 1\n"

    def judged(*numbers: int) -> list[Finding]:
        return list(queue.judge(nfqueue.parse(row.format(*numbers)), [6220], os.getpid(), lambda _: os.getpid()))

    assert levels(judged(6220, 0, 0, 0)) == [Level.OK, Level.OK]
    (_, full) = judged(6220, 0, 7, 0)
    assert full.level is Level.WARNING
    assert "7 packets were dropped since `run` started, for queue 6220 was full" in full.what
    (_, unsent) = judged(6220, 0, 0, 9)
    assert "9 packets" in unsent.what
    assert "net.core.rmem_max" in unsent.hint
    assert any("1000 packets wait" in one.what for one in judged(6220, 1000, 0, 0))
    (nobody,) = judged(1, 0, 0, 0)
    assert nobody.what == "`gatekeeper run` is up, but nobody has queue 6220: nobody new gets in"


def test_every_queue_is_looked_at() -> None:
    """Each worker has one in each lane; that one of them is missing or somebody else's is told by its number."""
    rows = nfqueue.parse("".join(f"{number} {number} 0 2 65531 0 0 1 1\n" for number in (6220, 6221, 6236)))
    owners = {6220: os.getpid(), 6221: os.getpid(), 6236: 1}
    found = list(queue.judge(rows, [6220, 6221, 6236, 6237], os.getpid(), owners.get))
    assert [one.what for one in found][0::2] == [
        "`gatekeeper run` is up, but nobody has queue 6237: nobody new gets in",
        "`run` has queues 6220-6221",
    ]
    assert found[1].what.startswith("queue 6236 is taken by process 1 (")


def test_a_process_that_run_has_started_may_have_the_queue() -> None:
    rows = nfqueue.parse("6220 7 0 2 65531 0 0 1 1\n")
    me, parent = os.getpid(), os.getppid()
    assert levels(list(queue.judge(rows, [6220], parent, lambda _: me)))[0] is Level.OK
    assert levels(list(queue.judge(rows, [6220], None, lambda _: me)))[0] is Level.WRONG


def test_who_listens_is_read_as_the_kernel_writes_it() -> None:
    """In the machine's own order of bytes; this is of one that has the low ones first."""
    text = """  sl  local_address                         remote_address                        st
   0: 0100007F:0016 00000000:0000 0A 00000000:00000000
   1: 0100007F:0016 0200007F:D431 01 00000000:00000000
"""
    assert list(services.parse(text, Transport.TCP)) == [(Transport.TCP, ip_address("127.0.0.1"), 22)]
    text = "head\n 0: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A\n"
    assert list(services.parse(text, Transport.TCP)) == [(Transport.TCP, ip_address("2001:db8::1"), 80)]


def test_the_ssh_session_is_found_in_an_environment() -> None:
    found = session.parse(b"HOME=/root\0SSH_CONNECTION=fe80::1%eth0 5000 2001:db8::1 22\0")
    assert found == (ip_address("fe80::1"), ip_address("2001:db8::1"), 22)
    for other in (b"", b"SSH_CONNECTION=\0", b"SSH_CONNECTION=a b c d\0", b"XSSH_CONNECTION=1.2.3.4 5 1.2.3.4 6\0"):
        assert session.parse(other) is None


def test_what_systemd_ufw_and_ipset_say_is_read() -> None:
    text = (
        "Id=gatekeeper.service\nLoadState=loaded\nUnitFileState=enabled\n\nId=nftables.service\nLoadState=not-found\n"
    )
    assert neighbours.parse(text)["gatekeeper.service"]["UnitFileState"] == "enabled"
    assert neighbours.ufw_is_on("# ufw\nENABLED=yes\n")
    assert not neighbours.ufw_is_on("ENABLED=no\n#ENABLED=yes\n")
    listed = (
        "Name: gatekeeper-4-ssh\nType: hash:net\nHeader: family inet hashsize 1024 maxelem 1048576 timeout 0\n"
        "Number of entries: 12\n\nName: other\nHeader: size 8\nNumber of entries: 1\n"
    )
    assert placed.set_sizes(listed) == {"gatekeeper-4-ssh": (12, 1_048_576), "other": (1, 2**32)}


def test_what_is_too_old_is_told_of() -> None:
    assert versions.first_version("iptables v1.8.9 (nf_tables)") == (1, 8, 9)
    assert versions.kernel("6.18.44-fc").level is Level.OK
    assert "tracked connections" in versions.kernel("5.4.0-150-generic").what
    assert versions.kernel("4.9.0").level is Level.WARNING
    assert versions.tool("iptables", "iptables v1.6.1", (1, 8, 2), "it fails").level is Level.WARNING
    assert versions.library("scapy", (99,)).level is Level.WRONG
    assert versions.library("no-such-library", (1,)).level is Level.WRONG


def test_the_oldest_libraries_are_those_of_pyproject() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, oldest in versions.LIBRARIES.items():
        assert f'"{name}>={".".join(map(str, oldest))}' in text
