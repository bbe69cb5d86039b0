"""Our client opens ports of Debian's fwknopd and knockd, so that it serves before its server is moved."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gatekeeper.demo.network import _GATEWAY, mortal_argv, netns_argv
from gatekeeper.demo.server import gatekeeper_argv
from tests.netns.site import CLIENT, SERVER, SSH, STRANGER, WEB, Site, wait_until

KEY = "aSx9C1Ne5B0yqrPpQzJwUJhpuwQW4nXVHvIBuBWqsEw="
HMAC_KEY = "sKsMaOwMhXpwCeQ/Ml4Lsyvy63YjLVMFZd5ZG+8hGTWQxrnhcIIqHj9lA3H0GSw9YcEzVzlGQMWUCZg4ImO4ng=="
KEYS = f"KEY_BASE64 {KEY}\nHMAC_KEY_BASE64 {HMAC_KEY}\n"
FIREWALL = """\
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p udp --dport 62201 -j ACCEPT
COMMIT
"""
NEIGHBOURS = "-A INPUT -p ipv6-icmp -j ACCEPT\nCOMMIT"
"""IPv6 cannot do without."""
READY = {"fwknopd": ("Starting fwknopd main event loop", "Kicking off UDP server"), "knockd": ("listening on",)}
PCAP, UDP_SERVER = "PCAP_FILTER udp port 62201;", "ENABLE_UDP_SERVER Y;"
AT = _GATEWAY["client"]
"""knockd hears what is for the addresses of its interface."""


@contextlib.contextmanager
def daemon(site: Site, *argv: str, log: Path | None = None) -> Iterator[Path]:
    """Run one of the old daemons in the server; it is ready when this begins."""
    name = Path(argv[0]).name
    printed = site.directory / f"{name}.out"
    with printed.open("wb") as sink:
        process = subprocess.Popen(
            mortal_argv(*netns_argv(site.server, *argv)), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:

        def is_ready() -> bool:
            assert process.poll() is None, printed.read_text()
            text = printed.read_text() + (log.read_text() if log is not None and log.exists() else "")
            return any(words in text for words in READY[name])

        wait_until(is_ready, seconds=20)
        yield printed
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextlib.contextmanager
def fwknopd(site: Site, access: str = KEYS, *, how: str = PCAP) -> Iterator[Path]:
    folder = site.directory / "fwknop"
    folder.mkdir(mode=0o700)
    (folder / "run").mkdir(mode=0o700)
    for name, text in (
        ("fwknopd.conf", f"PCAP_INTF client;\nFWKNOP_RUN_DIR {folder}/run;\n{how}\n"),
        ("access.conf", f"SOURCE ANY\n{access}"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    site.shell("iptables-restore", text=FIREWALL)
    with daemon(
        site, "fwknopd", "-f", "-c", str(folder / "fwknopd.conf"), "-a", str(folder / "access.conf")
    ) as printed:
        yield printed


@contextlib.contextmanager
def knockd(site: Site, doors: str) -> Iterator[Path]:
    config, log = site.directory / "knockd.conf", site.directory / "knockd.log"
    config.write_text(f"[options]\n\tLogFile = {log}\n{doors}")
    site.shell("iptables-restore", text=FIREWALL)
    site.shell("ip6tables-restore", text=FIREWALL.replace("COMMIT", NEIGHBOURS))
    with daemon(site, "knockd", "-i", "client", "-c", str(config), log=log) as printed:
        yield printed


def knock(site: Site, *words: str) -> str:
    """Knock from the client with our own program; it must succeed."""
    home = {"HOME": str(site.directory), "XDG_CONFIG_HOME": str(site.directory), "SPOOF_USER": "alice"}
    argv = ["env", *(f"{name}={value}" for name, value in home.items()), *gatekeeper_argv("knock", *words)]
    done = site.inside(site.client, *argv)
    assert done.returncode == 0, done.stderr
    return done.stderr


def rc(site: Site, text: str) -> None:
    """Write the client's ~/.fwknoprc."""
    file = site.directory / ".fwknoprc"
    file.write_text(f"[default]\n[{SERVER[4]}]\n{text}")
    file.chmod(0o600)


def rules(site: Site, version: int = 4) -> list[str]:
    return site.shell("iptables" if version == 4 else "ip6tables", "-S").splitlines()


def opened(site: Site, address: str, port: str) -> list[str]:
    """List the rules that let an address into a port."""
    return [rule for rule in rules(site) if f"-s {address}/32" in rule and f"--dport {port} " in rule]


def wait_for(site: Site, address: str, port: int) -> str:
    wait_until(lambda: bool(opened(site, address, str(port))), seconds=10)
    (rule,) = opened(site, address, str(port))
    return rule


# -- fwknopd


@pytest.mark.parametrize("how", [PCAP, UDP_SERVER], ids=["pcap", "udp-server"])
def test_our_knock_opens_a_port_of_fwknopd(site: Site, how: str) -> None:
    rc(site, f"ACCESS tcp/{SSH}\n{KEYS}USE_HMAC Y\n")
    with fwknopd(site, how=how):
        assert site.connect(4) == "silent"
        knock(site, SERVER[4], "--format", "fwknop")
        wait_for(site, CLIENT[4], SSH)
        assert site.connect(4) == "open"
        assert site.stranger_connects(4) == "silent"


def test_our_knock_waits_for_the_port_that_fwknopd_opens(site: Site) -> None:
    rc(site, KEYS)
    with fwknopd(site):
        knock(site, SERVER[4], "--format", "fwknop", "--access", f"tcp/{SSH}", "--wait", f"tcp/{SSH}")


def test_connect_knocks_at_fwknopd_for_ssh(site: Site) -> None:
    rc(site, f"ACCESS tcp/{SSH}\n{KEYS}")
    argv = gatekeeper_argv("connect", "--format", "fwknop", SERVER[4], str(SSH))
    with fwknopd(site):
        done = site.inside(site.client, "env", f"HOME={site.directory}", *argv, text="hello")
        assert (done.returncode, done.stdout) == (0, "welcome\nhello"), done.stderr


PASSPHRASES = "KEY correct_horse\nHMAC_KEY battery_staple\n"
KINDS = {
    "passphrases": (PASSPHRASES, ""),
    "without an HMAC": ("KEY correct_horse\n", ""),
    **{f"hmac {kind}": (PASSPHRASES, f"HMAC_DIGEST_TYPE {kind}\n") for kind in ("MD5", "SHA1", "SHA384", "SHA512")},
    **{f"hmac {kind}": (PASSPHRASES, f"HMAC_DIGEST_TYPE {kind}\n") for kind in ("SHA3_256", "SHA3_512")},
    **{f"mode {mode}": (PASSPHRASES, f"ENCRYPTION_MODE {mode}\n") for mode in ("CFB", "OFB", "CTR", "ECB")},
    "mode legacy": ("KEY correct_horse\n", "ENCRYPTION_MODE legacy\n"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fwknopd_reads_every_kind_that_we_write(site: Site, kind: str) -> None:
    keys, also = KINDS[kind]
    rc(site, f"ACCESS tcp/{SSH}\n{keys}{also}")
    with fwknopd(site, keys + also):
        knock(site, SERVER[4], "--format", "fwknop")
        wait_for(site, CLIENT[4], SSH)


def test_what_is_asked_for_is_what_fwknopd_opens(site: Site) -> None:
    """Several ports, another address, a time, a user's name, and a digest of another kind."""
    rc(site, f"ACCESS tcp/{SSH},tcp/{WEB}\n{KEYS}FW_TIMEOUT 200\nALLOW_IP {STRANGER[4]}\nDIGEST_TYPE SHA512\n")
    with fwknopd(site, f"{KEYS}REQUIRE_USERNAME alice\nREQUIRE_SOURCE_ADDRESS Y\nOPEN_PORTS tcp/{SSH},tcp/{WEB}\n"):
        knock(site, SERVER[4], "--format", "fwknop")
        expiry = wait_for(site, STRANGER[4], SSH).partition("_exp_")[2].split('"')[0].split()[0]
        assert abs(int(expiry) - time.time() - 200) < 20
        wait_for(site, STRANGER[4], WEB)
        assert opened(site, CLIENT[4], str(SSH)) == []
        assert site.stranger_connects(4) == "open"


def test_options_go_before_the_stanza(site: Site) -> None:
    rc(site, f"ACCESS tcp/{WEB}\n{KEYS}FW_TIMEOUT 200\nSPA_SERVER {SERVER[4]}\nRESOLVE_IP_HTTPS Y\nSPA_SERVER_PORT 9\n")
    with fwknopd(site):
        words = ("--access", f"tcp/{SSH}", "--ttl", "100s", "--port", "62201", "-n", SERVER[4])
        said = knock(site, SERVER[4], "--format", "fwknop", *words)
        assert "nobody is asked for our address" in said
        expiry = wait_for(site, CLIENT[4], SSH).partition("_exp_")[2].split('"')[0].split()[0]
        assert abs(int(expiry) - time.time() - 100) < 20


def test_keys_can_be_a_file_that_fwknop_has_made(site: Site) -> None:
    """In the client, which has no ~/.fwknoprc."""
    made = site.directory / "keys"
    done = subprocess.run(
        ["fwknop", "--key-gen", "--key-gen-file", str(made), "--no-rc-file"],
        env={**os.environ, "HOME": str(site.directory)}, capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made.chmod(0o600)
    with fwknopd(site, made.read_text()):
        knock(site, SERVER[4], "--format", "fwknop", "--key-file", str(made), "--access", f"tcp/{SSH}")
        wait_for(site, CLIENT[4], SSH)


# -- knockd


def door(name: str, sequence: str, action: str, *more: str) -> str:
    lines = [
        f"[{name}]",
        f"sequence = {sequence}",
        "seq_timeout = 5",
        f"start_command = /usr/sbin/iptables {action} INPUT -s %IP% -p tcp --dport {SSH} -j ACCEPT",
        f"start_command_6 = /usr/sbin/ip6tables {action} INPUT -s %IP% -p tcp --dport {SSH} -j ACCEPT",
        *more,
    ]
    return "\n".join(lines) + "\n"


SYN = "tcpflags = syn"


def knocks_in(version: int, site: Site) -> list[str]:
    return [rule for rule in rules(site, version) if f"-s {CLIENT[version]}/" in rule]


@pytest.mark.parametrize(
    ("configured", "steps"),
    [
        ("7000,8000,9000", ("7000", "8000", "9000")),
        ("7000:udp,8000:tcp,9000:udp,7000", ("7000/udp", "8000", "9000:udp", "tcp/7000")),
        ("7000:udp,8000:udp", ("7000/udp", "8000/udp")),
    ],
    ids=["tcp", "mixed", "udp"],
)
def test_our_sequence_opens_a_port_of_knockd(site: Site, version: int, configured: str, steps: Sequence[str]) -> None:
    with knockd(site, door("open", configured, "-A", SYN)):
        knock(site, AT[version], "--format", "sequence", *steps)
        wait_until(lambda: len(knocks_in(version, site)) == 1)
        assert site.connect(version) == "open"
        assert site.stranger_connects(version) == "silent"


def test_sequences_come_from_a_file_too_and_close_again(site: Site, version: int) -> None:
    file = site.directory / "steps"
    file.write_text("# the door\n7000 8000 9000\n9000, 8000, 7000\n")
    with knockd(site, door("open", "7000,8000,9000", "-A", SYN) + door("close", "9000,8000,7000", "-D", SYN)):
        knock(site, AT[version], "--format", "sequence", "--key-file", str(file), "--wait", f"tcp/{SSH}")
        assert len(knocks_in(version, site)) == 1
        knock(site, AT[version], "--format", "sequence", "--key-file", str(file), "--close", "--delay", "20")
        wait_until(lambda: knocks_in(version, site) == [])


def test_a_sequence_in_another_order_opens_nothing(site: Site) -> None:
    with knockd(site, door("open", "7000,8000,9000", "-A", SYN)):
        knock(site, AT[4], "--format", "sequence", "7000", "9000", "8000")
        time.sleep(0.5)
        assert knocks_in(4, site) == []
