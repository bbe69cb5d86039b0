"""fwknop's own client (Debian's) against gatekeeper: each of its options, one by one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import netns_argv
from gatekeeper.fwknop.kinds import DIGESTS, MODES
from tests.netns.device import send
from tests.netns.site import CLIENT, SERVER, SSH, STRANGER, UDP, WEB, Site, wait_until
from tests.netns.spa import BY_KEYS, HMAC_KEY, KEY, KEYS, fwknop, granted, refused, start

_HTTP = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode() + b"\\n")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("{SERVER[4]}", 8081), Handler)
print("up", flush=True)
server.handle_request()
"""
BY_PASSPHRASES = ("--key-rijndael", "an old passphrase", "--use-hmac", "--key-hmac", "and another of the same age")
PASSPHRASES = "key: an old passphrase, hmac_key: and another of the same age"


def opened(site: Site, *sources: str, version: int = 4, service: str = "ssh") -> None:
    """Wait until these, and no others, are let in."""
    wait_until(lambda: granted(site, version, service) == sorted(sources))


@contextmanager
def it_says_who_asks(site: Site) -> Iterator[None]:
    """Serve, on the server, what tells each the address that he comes from; once."""
    argv = netns_argv(site.server, sys.executable, "-S", "-c", _HTTP)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            process.kill()


def test_it_opens_at_the_first_syn_for_the_address_that_it_names_and_for_nobody_else(site: Site) -> None:
    running = start(site)
    assert site.connect(4) == "silent"
    knock = fwknop(site, "-T")
    attempt = probe.connect(site.client, SERVER[4], SSH, timeout=3, knock=knock)
    assert (attempt.result, attempt.resent) == ("open", 0)
    assert granted(site) == [CLIENT[4]]
    assert site.stranger_connects(4) == "silent"
    assert "opened client=old" in running.log


@pytest.mark.parametrize("firewall", ["variant: legacy", "variant: nft", "backend: rules"])
def test_so_it_does_with_each_firewall(site: Site, firewall: str) -> None:
    start(site, firewall=f"{{{firewall}}}")
    fwknop(site)
    wait_until(lambda: site.connect(4) == "open")
    assert site.stranger_connects(4) == "silent"


def test_the_doctor_finds_the_rules_in_place(site: Site) -> None:
    start(site)
    said = site.command("doctor", "--verbose").stdout
    assert "the ruleset is in place, and is what the rules say" in said
    assert "nobody can knock" not in said
    assert "1 of 1 clients can knock" in said


@pytest.mark.parametrize("refuse", ["silent", "reset"])
def test_it_opens_whatever_strangers_are_told(site: Site, refuse: str) -> None:
    start(site, refuse=refuse)
    assert site.connect(4) == ("silent" if refuse == "silent" else "refused")
    fwknop(site)
    opened(site, CLIENT[4])
    assert site.connect(4) == "open"


@pytest.mark.parametrize(("asked", "given"), [("90", "90s"), ("65535", "7200s"), ("0", "3600s")])
def test_a_client_may_ask_for_how_long_up_to_what_the_service_allows(site: Site, asked: str, given: str) -> None:
    running = start(site)
    fwknop(site, "-f", asked)
    wait_until(lambda: f"opened client=old source={CLIENT[4]} service=ssh ttl={given}" in running.log)


def test_a_grant_ends_when_the_client_said_and_the_next_knock_opens_again_three_times_over(site: Site) -> None:
    start(site)
    for _ in range(3):
        fwknop(site, "-f", "2")
        begin = time.monotonic()
        opened(site, CLIENT[4])
        assert site.connect(4) == "open"
        wait_until(lambda: not granted(site))
        assert 1 < time.monotonic() - begin < 4
        assert site.connect(4) == "silent"


def test_several_ports_open_their_services(site: Site) -> None:
    start(site, "services: [ssh, web, echo]")
    fwknop(site, access=f"tcp/{SSH},udp/{UDP}")
    opened(site, CLIENT[4])
    opened(site, CLIENT[4], service="echo")
    assert granted(site, service="web") == []


@pytest.mark.parametrize("access", [f"tcp/{WEB}", f"tcp/{SSH},tcp/{WEB}", f"udp/{SSH}", "tcp/1"])
def test_if_one_port_is_none_of_its_services_nothing_opens(site: Site, access: str) -> None:
    running = start(site)
    fwknop(site, access=access)
    refused(running, "service-not-allowed")
    assert "it asks for" in running.log
    assert granted(site) == granted(site, service="web") == []


def test_for_another_address_it_opens_only_where_the_rules_say_so(site: Site) -> None:
    running = start(site)
    fwknop(site, who=("-a", STRANGER[4]))
    refused(running, "address-mismatch")
    running.stop()
    running = start(site, "services: [ssh], for_others: true")
    fwknop(site, who=("-a", STRANGER[4]))
    opened(site, STRANGER[4])
    assert site.stranger_connects(4) == "open"


def test_the_source_as_seen_is_good_for_who_need_not_name_it(site: Site, version: int) -> None:
    """Over IPv6 too, though the client cannot send so (nor name such an address): somebody else sends what it made."""
    start(site)
    send(site, fwknop(site, "-T", who=("-s",)), version)
    opened(site, CLIENT[version], version=version)
    assert site.connect(version) == "open"


def test_with_require_source_the_source_as_seen_is_refused(site: Site, version: int) -> None:
    running = start(site, keys=f"{KEYS}, require_source: true")
    send(site, fwknop(site, "-T", who=("-s",)), version)
    refused(running, "address-missing")
    fwknop(site)
    opened(site, CLIENT[4])


def test_an_address_that_was_looked_up_opens(site: Site) -> None:
    """``-R``: by HTTP here, for there is nobody to ask by HTTPS."""
    start(site)
    with it_says_who_asks(site):
        fwknop(site, "--resolve-http-only", "--resolve-url", f"http://{SERVER[4]}:8081/myip", who=("-R",))
    opened(site, CLIENT[4])


@pytest.mark.parametrize("kind", DIGESTS)
def test_each_kind_of_hmac_opens_where_the_rules_name_it(site: Site, kind: str) -> None:
    running = start(site, keys=f"{KEYS}, hmac: {kind}")
    other = "sha512" if kind != "sha512" else "md5"
    fwknop(site, "--hmac-digest-type", other)
    refused(running, "unknown-client")
    fwknop(site, "--hmac-digest-type", kind)
    opened(site, CLIENT[4])


@pytest.mark.parametrize("kind", DIGESTS)
def test_each_kind_of_digest_opens(site: Site, kind: str) -> None:
    start(site)
    fwknop(site, "-m", kind)
    opened(site, CLIENT[4])


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "legacy"])
def test_each_mode_of_encryption_opens_where_the_rules_name_it(site: Site, mode: str) -> None:
    running = start(site, keys=f"{KEYS}, mode: {mode}")
    fwknop(site, "-M", "cbc" if mode != "cbc" else "ctr")
    refused(running, "bad-seal")
    fwknop(site, "-M", mode)
    opened(site, CLIENT[4])


@pytest.mark.parametrize("mode", ["cbc", "legacy"])
def test_without_an_hmac_it_opens_only_where_the_rules_say_so(site: Site, mode: str) -> None:
    """The mode of old goes without one: the client refuses to make one then."""
    passphrase = ("--key-rijndael", "of long ago")
    running = start(site, keys=f"key: of long ago, hmac: none, mode: {mode}")
    fwknop(site, "-M", "cbc" if mode == "legacy" else "cfb", keys=passphrase)
    refused(running, "unknown-client")
    fwknop(site, "-M", mode, keys=passphrase)
    opened(site, CLIENT[4])
    running.stop()
    running = start(site, keys=f"key: of long ago, hmac_key: a key that it does not use, mode: {mode}")
    fwknop(site, "-M", mode, keys=passphrase)
    refused(running, "unknown-client")


def test_keys_may_be_passphrases(site: Site) -> None:
    start(site, keys=PASSPHRASES)
    fwknop(site, keys=BY_PASSPHRASES)
    opened(site, CLIENT[4])


def test_keys_may_be_in_files(site: Site) -> None:
    for name, content in (("key", KEY), ("hmac", "and another of the same age")):
        site.directory.joinpath(name).write_text(f"{content}\n")
        site.directory.joinpath(name).chmod(0o600)
    start(site, keys="key_base64_file: key, hmac_key_file: hmac")
    keys = ("--key-base64-rijndael", KEY, "--use-hmac", "--key-hmac", "and another of the same age")
    fwknop(site, keys=keys)
    opened(site, CLIENT[4])


def test_local_nat_opens_the_service_whose_port_it_leads_to(site: Site) -> None:
    start(site)
    fwknop(site, "--nat-local", "--nat-port", "50022", "-f", "90")
    opened(site, CLIENT[4])


def test_local_nat_opens_the_service_that_guards_the_port_itself(site: Site) -> None:
    start(site, "services: [ssh, web]")
    fwknop(site, "--nat-local", "--nat-port", str(WEB))
    opened(site, CLIENT[4], service="web")
    assert granted(site) == []


@pytest.mark.parametrize(
    ("options", "access", "words"),
    [
        (("-N", "192.168.10.2:22"), f"tcp/{SSH}", "NAT access"),
        (("-N", "192.168.10.2:22", "-f", "90"), f"tcp/{SSH}", "NAT access"),
        (("-C", "touch /tmp/gatekeeper-was-here"), "", "a command: nothing is ever run"),
    ],
    ids=["nat", "nat-timeout", "command"],
)
def test_what_gatekeeper_does_not_do_is_refused_and_said(
    site: Site, options: tuple[str, ...], access: str, words: str
) -> None:
    running = start(site)
    fwknop(site, *options, access=access)
    refused(running, "unsupported")
    assert words in running.log
    assert granted(site) == []


def test_where_a_user_is_named_it_must_be_that_one(site: Site) -> None:
    running = start(site, keys=f"{KEYS}, user: alice")
    fwknop(site, "-U", "mallory")
    refused(running, "user-not-allowed")
    assert "mallory" in running.log
    fwknop(site, "-U", "alice")
    opened(site, CLIENT[4])


@pytest.mark.parametrize(
    "offset", [("--time-offset-minus", "125"), ("--time-offset-plus", "125")], ids=["old", "early"]
)
def test_a_knock_of_another_time_is_refused_and_said_how_far_off(site: Site, offset: tuple[str, str]) -> None:
    running = start(site)
    fwknop(site, *offset)
    refused(running, "clock-skew")
    assert f"{'behind' if 'minus' in offset[0] else 'ahead of'} this clock" in running.log
    fwknop(site, offset[0], "115")
    opened(site, CLIENT[4])


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ((*BY_KEYS[:1], "A" + KEY[1:], *BY_KEYS[2:]), "bad-seal"),
        ((*BY_KEYS[:-1], "A" + HMAC_KEY[1:]), "unknown-client"),
        (BY_KEYS[:2], "unknown-client"),
    ],
    ids=["key", "hmac", "no-hmac"],
)
def test_wrong_keys_open_nothing(site: Site, keys: tuple[str, ...], reason: str) -> None:
    running = start(site)
    fwknop(site, keys=keys)
    refused(running, reason)
    assert granted(site) == []


def test_from_elsewhere_than_its_networks_it_is_refused(site: Site) -> None:
    running = start(site, "services: [ssh], from: [203.0.113.0/24]")
    fwknop(site)
    refused(running, "source-not-allowed")


def test_among_many_keys_each_opens_its_own(site: Site) -> None:
    """Also where clients share an HMAC key, and where others have none."""
    shared = f"hmac_key_base64: {HMAC_KEY}"
    start(
        site,
        "services: [web]",
        keys=f"key: another one of these, {shared}",
        others={
            "second": f"{{fwknop: {{{KEYS}}}, services: [ssh]}}",
            "third": "{fwknop: {key: of long ago, hmac: none}, services: [echo]}",
            "desk": "{open: open_sesame_of_old, services: [echo]}",
        },
    )
    fwknop(site)
    opened(site, CLIENT[4])
    fwknop(site, access=f"udp/{UDP}", keys=("--key-rijndael", "of long ago"))
    opened(site, CLIENT[4], service="echo")
    fwknop(site, access=f"tcp/{WEB}", keys=("--key-rijndael", "another one of these", *BY_KEYS[2:]))
    opened(site, CLIENT[4], service="web")


@pytest.mark.parametrize(
    ("knock", "options"),
    [
        ("{port: [udp/62201, udp/443]}", ("-p", "443")),
        ("{via: icmp}", ("-P", "icmp", "--icmp-type", "8", "--icmp-code", "0")),
        ("{}", ("-P", "udpraw", "-Q", CLIENT[4])),
        ("{}", ("-S", "40123")),
    ],
    ids=["port", "icmp", "udpraw", "source-port"],
)
def test_its_other_ways_to_send_are_heard_where_the_rules_say_so(
    site: Site, knock: str, options: tuple[str, ...]
) -> None:
    start(site, knock=knock)
    fwknop(site, *options)
    opened(site, CLIENT[4])


def test_in_a_syn_it_is_refused_for_the_client_makes_no_checksum(site: Site) -> None:
    """``-P tcpraw``: it leaves that at 0, which over TCP is wrong."""
    running = start(site, knock="{via: syn}")
    fwknop(site, "-P", "tcpraw", "-p", str(SSH))
    refused(running, "bad-checksum")
    assert granted(site) == []
