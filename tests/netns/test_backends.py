"""One contract for every backend: who is let in, who is not, and what is cut, seen from the outside."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from gatekeeper.firewall import apply, backends
from gatekeeper.firewall.backends import KernelBackend
from gatekeeper.networks import Address, Source
from gatekeeper.rules import load
from gatekeeper.settings import Rules
from tests.netns.site import CLIENT, MANY, RULES, WEB, Site, wait_until


@pytest.fixture(params=["ipset", "rules"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rules(site: Site, kind: str) -> Rules:
    return rules_with(site, kind)


def rules_with(site: Site, kind: str, more: str = "") -> Rules:
    site.write_rules(f"{RULES}firewall: {{backend: {kind}{more}}}\n")
    return load(site.rules)[0]


@pytest.fixture
def backend(site: Site, rules: Rules) -> Iterator[KernelBackend]:
    """A backend in the server's namespace, with the ruleset loaded and no worker."""
    with inside(site.server):
        made, _, warnings = backends.load(rules)
        assert warnings == []
        with contextlib.closing(made):
            yield made


def source(version: int) -> Source:
    return ip_network(CLIENT[version])


def put(backend: KernelBackend, service: str, source: Source, *, timeout: int | None) -> None:
    """Let one in; nothing may be refused."""
    assert backend.change({(service, source): timeout}, []) == {}


def remove(backend: KernelBackend, service: str, source: Source) -> None:
    """Let one in no longer; nothing may be refused."""
    assert backend.change({}, [(service, source)]) == {}


def nobody(_: Address) -> bool:
    return False


def test_nobody_is_let_in_at_first(site: Site, version: int, backend: KernelBackend) -> None:
    assert site.connect(version, timeout=0.3) == "silent"
    assert backend.count("ssh") == 0


def test_who_is_put_is_let_in_and_nobody_else(site: Site, version: int, backend: KernelBackend) -> None:
    put(backend, "ssh", source(version), timeout=60)
    assert site.connect(version) == "open"
    assert site.connect(version, port=WEB, timeout=0.3) == "silent"
    assert site.stranger_connects(version) == "silent"
    assert site.connect(10 - version, timeout=0.3) == "silent"
    assert backend.count("ssh") == 1


def test_a_network_is_let_in_as_a_whole(site: Site, version: int, backend: KernelBackend) -> None:
    put(backend, "ssh", ip_network((CLIENT[version], 24 if version == 4 else 64), strict=False), timeout=60)
    assert site.connect(version) == "open"


def test_putting_twice_is_as_once_and_removing_ends_it(site: Site, version: int, backend: KernelBackend) -> None:
    for timeout in (60, None, 30):
        put(backend, "ssh", source(version), timeout=timeout)
    assert backend.count("ssh") == 1
    remove(backend, "ssh", source(version))
    assert backend.count("ssh") == 0
    assert site.connect(version, timeout=0.3) == "silent"
    remove(backend, "ssh", source(version))  # what is gone may go again


def test_removing_one_leaves_the_others(site: Site, version: int, backend: KernelBackend) -> None:
    others = [ip_network(ip_network(MANY[version])[number]) for number in range(20, 30)]
    for one in (*others, source(version)):
        put(backend, "ssh", one, timeout=None)
    for one in others:
        remove(backend, "ssh", one)
    assert site.connect(version) == "open"
    assert backend.count("ssh") == 1


def test_replacing_makes_these_and_no_others(site: Site, version: int, backend: KernelBackend) -> None:
    put(backend, "web", source(version), timeout=None)
    put(backend, "ssh", ip_network(MANY[version]), timeout=None)
    backend.replace({"ssh": {source(version): 60}, "web": {}, "echo": {}})
    assert [backend.count(name) for name in ("ssh", "web", "echo")] == [1, 0, 0]
    assert site.connect(version) == "open"
    assert site.connect(version, port=WEB, timeout=0.3) == "silent"
    put(backend, "web", source(version), timeout=60)
    assert site.connect(version, port=WEB) == "open", "what comes behind a replacement works as before"
    remove(backend, "ssh", source(version))
    assert site.connect(version, timeout=0.3) == "silent"


def test_a_service_that_is_not_there_can_be_closed_and_not_opened(version: int, backend: KernelBackend) -> None:
    remove(backend, "nosuch", source(version))
    assert backend.change({("nosuch", source(version)): 60}, []).keys() == {("nosuch", source(version))}
    assert backend.change({("nosuch", source(version)): 60}, [("ssh", source(version))]), "the rest is done"


def test_a_cut_ends_a_stream_for_good_and_spares_others(
    site: Site, version: int, rules: Rules, backend: KernelBackend
) -> None:
    put(backend, "ssh", source(version), timeout=None)
    with site.stream(version) as stream:
        stream.recv(100)
        assert backend.cut(rules.services["ssh"], [source(version)], spare=lambda _: True) == 0
        stream.sendall(b"still there")
        assert stream.recv(100) == b"still there"
        remove(backend, "ssh", source(version))
        assert backend.cut(rules.services["ssh"], [source(version)], spare=nobody) == 1
        assert probe.until_end(stream, timeout=2) is not None


def test_an_end_by_time_keeps_a_stream_where_that_is_wanted(site: Site, version: int, backend: KernelBackend) -> None:
    put(backend, "ssh", source(version), timeout=None)
    with site.stream(version) as stream:
        stream.recv(100)
        remove(backend, "ssh", source(version))
        for _ in range(5):
            stream.sendall(b"on")
            assert stream.recv(100) == b"on"
        assert site.connect(version, timeout=0.3) == "silent"


def test_udp_stops_both_ways(site: Site, version: int, rules: Rules, backend: KernelBackend) -> None:
    with site.udp_talker(), site.udp_socket(version) as one:
        put(backend, "echo", source(version), timeout=None)
        one.send(b"hello")
        one.settimeout(1)
        assert one.recv(100) == b"tick"
        remove(backend, "echo", source(version))
        backend.cut(rules.services["echo"], [source(version)], spare=nobody)
        time.sleep(0.05)
        one.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while one.recv(100):
                pass
        time.sleep(0.3)
        with pytest.raises(BlockingIOError):
            one.recv(100)


def test_loading_again_lets_in_whom_it_let_in_before(
    site: Site, version: int, rules: Rules, backend: KernelBackend
) -> None:
    """A restart must not shut out those who are in, not for a moment."""
    put(backend, "ssh", source(version), timeout=None)
    again, _, _ = backends.load(rules)
    with contextlib.closing(again):
        assert again.count("ssh") == 1
        assert site.connect(version) == "open"


def test_another_process_finds_what_is_loaded(
    site: Site, version: int, rules: Rules, backend: KernelBackend, kind: str
) -> None:
    with contextlib.closing(backends.attach(rules)) as other:
        assert other.name == kind
        put(other, "ssh", source(version), timeout=60)
        assert site.connect(version) == "open"
        remove(backend, "ssh", source(version))
        assert other.count("ssh") == 0
        for one in (backend, other, backend):
            put(one, "ssh", source(version), timeout=60)
        assert (backend.count("ssh"), other.count("ssh")) == (1, 1)
        remove(other, "ssh", source(version))
        assert site.connect(version, timeout=0.3) == "silent", "what two have opened one can close"
        put(backend, "ssh", source(version), timeout=60)
        assert site.connect(version) == "open", "what another has closed can be opened again"


def test_one_backend_takes_the_place_of_the_other_and_nothing_stays(
    site: Site, version: int, kind: str, backend: KernelBackend
) -> None:
    put(backend, "ssh", source(version), timeout=None)
    other, _, _ = backends.load(rules_with(site, "rules" if kind == "ipset" else "ipset"))
    with contextlib.closing(other):
        assert other.count("ssh") == 0
        assert site.connect(version, timeout=0.3) == "silent"
        assert bool(site.shell("ipset", "list", "-n").strip()) is (other.name == "ipset")
        assert ("GKEEPER-SRC-ssh" in site.shell("iptables-save")) is (other.name == "rules")
    assert apply.flush()
    assert site.connect(version) == "open"
    assert "GKEEPER" not in site.shell("iptables-save") + site.shell("ip6tables-save")


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_both_variants_of_iptables_will_do(site: Site, version: int, kind: str, variant: str) -> None:
    rules = rules_with(site, kind, f", variant: {variant}")
    with inside(site.server):
        made, chosen, _ = backends.load(rules)
        assert chosen == variant
        with contextlib.closing(made):
            put(made, "ssh", source(version), timeout=60)
            assert site.connect(version) == "open"
            remove(made, "ssh", source(version))
            assert site.connect(version, timeout=0.3) == "silent"
            assert made.count("ssh") == 0


# -- the whole thing, without ipset


def test_without_ipset_a_knock_opens_and_time_and_a_close_end_it(site: Site, version: int) -> None:
    """Where there is no ipset command, `backend: auto` says so and makes a rule of each grant."""
    site.write_rules(RULES.replace("port: tcp/8080, ttl: 1h", "port: tcp/8080, ttl: 2s"))
    running = site.run(program=without_ipset())
    assert "no ipset here" in running.log
    assert "iptables nft, rules;" in running.log
    with site.stream(version, knock=b"open_sesame") as stream:
        stream.recv(100)
        assert site.stranger_connects(version) == "silent"
        site.knock(b"close_sesame", version)
        assert probe.until_end(stream, timeout=2) is not None
    assert site.connect(version, timeout=0.3) == "silent"
    site.knock(b"open_desk web", version)
    wait_until(lambda: site.connect(version, port=WEB, timeout=0.3) == "open")
    began = time.monotonic()
    wait_until(lambda: "GKEEPER-SRC-web -s" not in site.shell("iptables-save") + site.shell("ip6tables-save"))
    assert time.monotonic() - began < 4
    assert site.connect(version, port=WEB, timeout=0.3) == "silent"


def without_ipset() -> list[str]:
    """Build the command of gatekeeper on a machine that has iptables, and no ipset."""
    code = (
        "import shutil; which = shutil.which\n"
        "shutil.which = lambda name, **more: None if name == 'ipset' else which(name, **more)\n"
        "import gatekeeper.cli, sys; sys.exit(gatekeeper.cli.main())"
    )
    return [sys.executable, "-c", code]


def test_grants_as_rules_survive_a_restart_and_a_kill_and_status_counts_them(site: Site, version: int) -> None:
    site.write_rules(f"{RULES}firewall: {{backend: rules}}\n")
    running = site.run()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version, timeout=0.3) == "open")
    with site.stream(version) as stream:
        stream.recv(100)
        running.kill()
        assert site.connect(version) == "open", "the kernel alone passes who is in"
        site.run()
        stream.sendall(b"on")
        assert stream.recv(100) == b"on"
    assert site.connect(version) == "open"
    assert site.status()["kernel"] == {
        "ruleset": True,
        "observes": False,
        "backend": "rules",
        "members": {"ssh": 1, "web": 0, "echo": 1},
        "dropped": {},
    }
    site.ok("revoke", CLIENT[version])
    assert site.connect(version, timeout=0.3) == "silent"
    site.ok("grant", CLIENT[version], "ssh", "--ttl", "1h")
    assert site.connect(version) == "open"
