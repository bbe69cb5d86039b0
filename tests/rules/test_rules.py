"""rules.yaml: every problem at its line and column, with a hint; and nothing in it makes us raise."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper import rules, schedule
from gatekeeper.problems import Problem, RulesError
from gatekeeper.settings import (
    Client,
    Established,
    FirewallSettings,
    Guard,
    Mode,
    Ports,
    Refuse,
    Rules,
    Service,
    Transport,
    Via,
)

EXAMPLES = Path(__file__).parent.parent.parent / "rules"
GOOD = """\
services:
  ssh:
    port: tcp/22
    ttl: 1h
    max_ttl: 12h
  web: {port: TCP/443, established: cut}
  vpn: {port: udp/51820, ttl: forever}
knock:
  port: udp/4000
clients:
  laptop:
    open: 0123456789abcdef0
    close: fedcba9876543210f
    services: [ssh, vpn]
  desk: {open: "a key with spaces, 'quotes'", services: [web]}
firewall: {variant: legacy, queue: 7, mark: 0x40}
"""


def problems(text: str | bytes) -> list[Problem]:
    """Return the errors (not warnings) in a text that must have some."""
    with pytest.raises(RulesError) as failure:
        parse(text)
    return [problem for problem in failure.value.problems if not problem.is_warning]


def parse(text: str | bytes) -> tuple[Rules, list[Problem]]:
    content = text.encode() if isinstance(text, str) else text
    return rules.parse(content, file="rules.yaml", read_key=_no_key)


def _no_key(name: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", name)


def test_a_good_file_is_read_as_it_is_meant() -> None:
    found, warnings = parse(GOOD)
    assert found == Rules(
        services={
            "ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600, 12 * 3600),
            "web": Service("web", (Ports(Transport.TCP, 443),), 3600, None, Established.CUT),
            "vpn": Service("vpn", (Ports(Transport.UDP, 51820),), None, None, Established.CUT),
        },
        clients={
            "laptop": Client(
                name="laptop",
                services=("ssh", "vpn"),
                open_key=b"0123456789abcdef0",
                close_key=b"fedcba9876543210f",
            ),
            "desk": Client(name="desk", services=("web",), open_key=b"a key with spaces, 'quotes'"),
        },
        knock_ports=(4000,),
        firewall=FirewallSettings("legacy", 7, 0x40),
    )
    assert warnings == []


def test_defaults() -> None:
    found, _ = parse("services: {ssh: {port: tcp/22}}")
    assert found.services["ssh"] == Service("ssh", (Ports(Transport.TCP, 22),), 3600)
    assert (found.knock_ports, found.firewall) == ((62201,), FirewallSettings())
    capped, _ = parse("services: {ssh: {port: tcp/22, max_ttl: 10m}}")
    assert capped.services["ssh"].ttl == 600


def test_keys_are_taken_as_they_are_written() -> None:
    """YAML's numbers, booleans and dates are not what a key means."""
    for written in ("0123", "yes", "1e3", "2026-11-22", "~x", "0x1F"):
        found, _ = parse(f"services: {{ssh: {{port: tcp/22}}}}\nclients: {{a: {{open: {written}, services: [ssh]}}}}")
        assert found.clients["a"].open_key == written.encode()


S = "services: {ssh: {port: tcp/22}}\n"
BAD = [
    ("services: {ssh: {port: tcp/22, prot: x}}", "1:32", 'unknown key "prot" in service "ssh"', 'did you mean "port"?'),
    ("servces: {}", "1:1", 'unknown key "servces" in the file', 'did you mean "services"?'),
    ("services:\n  ssh: {port: tcp/22}\n  ssh: {port: tcp/23}", "3:3", '"ssh" stands twice', None),
    ("services: {ssh: {port: tcp/22, port: tcp/23}}", "1:32", '"port" stands twice', None),
    ("services: {ssh: {port: 22}}", "1:24", '"22" is not a port', "did you mean tcp/22?"),
    ("services: {ssh: {port: 22/tcp}}", "1:24", '"22/tcp" is not a port', "did you mean tcp/22?"),
    ("services: {ssh: {port: tcp/0}}", "1:24", "port 0 is out of range", "1 to 65535"),
    ("services: {ssh: {port: tcp/65536}}", "1:24", "port 65536 is out of range", "1 to 65535"),
    ("services: {ssh: {port: {tcp: 22}}}", "1:24", "port must be a word, not a mapping", None),
    ("services: {ssh: {ttl: 1h}}", "1:12", 'service "ssh" has no port', "add port"),
    ("services: {ssh: }", "1:12", 'service "ssh" has no port', "add port"),
    ("services: {ssh: tcp/22}", "1:17", 'service "ssh" must be a mapping', None),
    ("services: [ssh]", "1:11", "services must be a mapping", None),
    ("services: {}", "1:1", "no services", "add a section"),
    ("services: {ssh: {port: tcp/22, ttl: 0s}}", "1:37", "means nothing", None),
    ("services: {ssh: {port: tcp/22, ttl: -1h}}", "1:37", "is not a duration", "write 30s"),
    ("services: {ssh: {port: tcp/22, ttl: 90}}", "1:37", '"90" is not a duration', "did you mean 90s?"),
    ("services: {ssh: {port: tcp/22, ttl: 2h, max_ttl: 1h}}", "1:37", "longer than max_ttl (1h)", None),
    ("services: {ssh: {port: tcp/22, ttl: forever, max_ttl: 1h}}", "1:37", "longer than max_ttl (1h)", None),
    ("services: {ssh: {port: tcp/22, established: yes}}", "1:45", 'established cannot be "yes"', "keep"),
    ("services: {x: {port: udp/53, established: keep}}", "1:43", "is for tcp only", "take the line out"),
    ("services: {a: {port: tcp/22}, b: {port: tcp/22}}", "1:31", '"b" and "a" both guard tcp/22', "merge"),
    ('services: {"a b": {port: tcp/22}}', "1:12", '"a b" cannot be the name', "letters"),
    ("services: {abcdefghijklmnopq: {port: tcp/22}}", "1:12", "cannot be the name", "1 to 16"),
    (S + "knock: {port: tcp/62201}", "2:15", "knocks come by udp", "udp/62201"),
    ("services: {x: {port: udp/62201}}", "1:1", "the knock port udp/62201 is a port of service", None),
    (S + "clients: {a: {open: k, services: [shh]}}", "2:35", 'there is no service "shh"', 'did you mean "ssh"?'),
    (S + "clients: {a: {open: k}}", "2:11", 'client "a" has no services', "add services"),
    (S + "clients: {a: {open: k, services: []}}", "2:34", 'client "a" has no services', "at least one"),
    (S + "clients: {a: {open: k, services: ssh}}", "2:34", "must be a list", "[ssh]"),
    (S + "clients: {a: {open: k, services: [ssh, ssh]}}", "2:40", '"ssh" stands twice', None),
    (S + "clients: {a: {services: [ssh]}}", "2:11", 'client "a" has no key', "gatekeeper join"),
    (S + "clients: {a: {open: , services: [ssh]}}", "2:21", "open must be a word, not nothing", None),
    (S + 'clients: {a: {open: "", services: [ssh]}}', "2:21", "is empty", None),
    (S + "clients: {a: {open: {x: y}, services: [ssh]}}", "2:21", "open must be a word", None),
    (S + "clients: {a: {open: k, open_file: f, services: [ssh]}}", "2:24", "both open and open_file", None),
    (S + "clients: {a: {open_file: f, services: [ssh]}}", "2:26", "cannot read the key in f: No such file", None),
    (S + "clients: {a: {open: k, close: k, services: [ssh]}}", "2:31", 'is open of client "a" too', "must differ"),
    (S + 'clients: {a: {open: "k\\nl", services: [ssh]}}', "2:21", "more than one line", None),
    (S + "clients: {a: {open: " + "k" * 513 + ", services: [ssh]}}", "2:21", "longer than 512 bytes", None),
    (S + 'clients: {"(admin)": {open: k, services: [ssh]}}', "2:11", "cannot be the name of a client", None),
    (S + "clients: {? [a] : {open: k}}", "2:13", "a key of clients must be a word", None),
    (S + "firewall: {mark: 3}", "2:18", "is not a single bit", "one bit"),
    (S + "firewall: {mark: 0}", "2:18", "out of range", None),
    (S + "firewall: {queue: 65489}", "2:19", "out of range", "0 to 65488"),
    (S + "workers: 0", "2:10", "workers 0 is out of range", "1 to 16"),
    (S + "workers: 17", "2:10", "workers 17 is out of range", "1 to 16"),
    (S + "workers: many", "2:10", 'workers must be auto or a number, not "many"', None),
    (S + "workers: [auto]", "2:10", "workers must be a word", None),
    (S + "workers:", "2:9", "workers must be a word, not nothing", None),
    (S + "firewall: {queue: many}", "2:19", "must be a number", None),
    (S + "firewall: {variant: nftables}", "2:21", 'variant cannot be "nftables"', "auto, nft, legacy"),
    ("services: {ssh: {port: []}}", "1:24", "port is empty", "name one"),
    ("services: {ssh: {port: [tcp/22, 23]}}", "1:33", '"23" is not a port', "did you mean tcp/23?"),
    ("services: {ssh: {port: tcp/30-20}}", "1:24", "tcp/30-20 runs backwards", "did you mean tcp/20-30?"),
    ("services: {ssh: {port: tcp/1-65536}}", "1:24", "port 65536 is out of range", None),
    ("services: {ssh: {port: [tcp/20-30, tcp/25]}}", "1:36", 'tcp/25 stands twice in service "ssh"', None),
    ("services: {a: {port: tcp/20-30}, b: {port: [udp/25, tcp/30-40]}}", "1:34", '"b" and "a" both guard tcp/30', None),
    ("services: {ssh: {port: tcp/22, interface: lo}}", "1:43", "loopback is never guarded", None),
    ("services: {ssh: {port: tcp/22, interface: 'eth0 -j ACCEPT'}}", "1:43", "cannot be the name", "such as eth0"),
    ("services: {ssh: {port: tcp/22, interface: -x}}", "1:43", "cannot be the name", "such as eth0"),
    ("services: {ssh: {port: tcp/22, interface: eth0+x}}", "1:43", "cannot be the name", "eth+"),
    ("services: {ssh: {port: tcp/22, interface: abcdefghijklmnop}}", "1:43", "cannot be the name", None),
    ("services: {ssh: {port: tcp/22, interface: []}}", "1:43", "interface is empty", "take the line out"),
    ("services: {ssh: {port: tcp/22, address: 192.0.2.0/24}}", "1:41", '"192.0.2.0/24" is not an address', None),
    ("services: {ssh: {port: tcp/22, address: 0.0.0.0}}", "1:41", "0.0.0.0 is no address", "take the line out"),
    ("services: {ssh: {port: tcp/22, address: 127.0.0.1}}", "1:41", "no address that can be guarded", None),
    ("services: {ssh: {port: tcp/22, address: 224.0.0.1}}", "1:41", "no address that can be guarded", None),
    ("services: {ssh: {port: tcp/22, address: ['fe80::1%eth0']}}", "1:42", "is not an address", None),
    ("services: {ssh: {port: tcp/22, interface: lo+}}", "1:43", "loopback is never guarded", None),
    ('services: {ssh: {port: tcp/22, never: ["fe80::1%x\\nflush"]}}', "1:40", "neither an address nor a network", None),
    ("services: {ssh: {port: tcp/22, always: 10.0.0.0/8}}", "1:40", "must be a list", "[10.0.0.0/8]"),
    ("services: {ssh: {port: tcp/22, always: [0.0.0.0/0]}}", "1:40", "that is everybody", "take the service out"),
    ("services: {ssh: {port: tcp/22, never: [nobody]}}", "1:40", "neither an address nor a network", None),
    ("services: {ssh: {port: tcp/22, when: 8-18}}", "1:38", "when: ", "Mon-Fri 08:00-18:00 Europe/Berlin"),
    ("services: {ssh: {port: tcp/22, when: [Mon UTC, Tue Nowhere/City]}}", "1:48", "when: ", None),
    ("always: ['::/0']\n" + S, "1:9", "that is everybody", None),
    ("mode: watch\n" + S, "1:7", 'mode cannot be "watch"', "guard, observe"),
    ("refuse: rst\n" + S, "1:9", 'refuse cannot be "rst"', "reset"),
    ("services: {ssh: {port: tcp/22, guard: forwarded}}", "1:39", 'guard cannot be "forwarded"', "forward"),
    ("services: {ssh: {port: tcp/22, guard: forward}}", "1:39", "and names none", "add address: those of the hosts"),
    (
        "services: {ssh: {port: tcp/22, guard: forward, address: 127.0.0.1}}",
        "1:57",
        "no address that can be guarded",
        "that host",
    ),
    (
        "services: {a: {port: tcp/22}, b: {port: tcp/22, guard: published}}",
        "1:31",
        '"b" and "a" both guard tcp/22',
        "merge",
    ),
    (S + "knock: {via: [udp, tcp]}", "2:20", 'via cannot be "tcp"', "udp"),
    (S + "knock: {via: []}", "2:14", "via is empty", "take the line out"),
    (S + "knock: {via: icmp, port: udp/4000}", "2:20", "knock ports are for udp", "add udp to via"),
    ("services: {x: {port: udp/53}}\nknock: {via: syn}", "2:14", "a SYN goes to a protected tcp port", "take syn out"),
    (S + "knock: {port: [udp/1, udp/1]}", "2:23", "udp/1 stands twice", None),
    (S + "knock: {port: udp/1-9}", "2:15", "one by one", None),
    (S + "knock: {port: [" + ", ".join(f"udp/{n}" for n in range(1, 18)) + "]}", "2:15", "there are 17", "16 at most"),
    ("services: {x: {port: udp/1-100}}\nknock: {port: [udp/4000, udp/99]}", "2:15", "udp/99 is a port of", None),
    (S + "clients: {a: {open: k, services: [ssh], prefix: 24}}", "2:49", "prefix of client", None),
    (S + "clients: {a: {open: k, services: [ssh], prefix: {ipv4: 8}}}", "2:56", "ipv4 8 is out of range", "16 to 32"),
    (S + "clients: {a: {open: k, services: [ssh], prefix: {ipv6: 24}}}", "2:56", "out of range", "32 to 128"),
    (S + "clients: {a: {open: k, services: [ssh], prefix: }}", "2:41", "is empty", "{ipv4: 24, ipv6: 56}"),
    (S + "clients: {a: {open: k, services: [ssh], when: Mon}}", "2:47", "when: ", "Mon-Fri"),
    (S + "firewall: {backend: nft}", "2:21", 'backend cannot be "nft"', "auto, ipset, rules"),
    ("", "1:1", "the file is empty", "example"),
    ("# nothing\n", "1:1", "the file is empty", None),
    ("just words", "1:1", "the file must be a mapping", None),
    ("a: [", "2:1", "not YAML", None),
    ("a:\n\t- b", "2:1", "not YAML", "tabs"),
    ("a: 1\n---\nb: 2", "2:1", "not YAML", None),
    ("a: &x [1]\nb: *x", "2:4", "aliases (*x) are not allowed", "write the value out"),
    ("a: !!python/object/apply:os.system [id]", "1:4", "the tag", "take the tag"),
    (S + "clients: {a: {open: !!python/name:os.system k, services: [ssh]}}", "2:21", "the tag", None),
    (S + "clients: {a: {open: k, services: !!set {ssh}}}", "2:34", "the tag", None),
    (S + "clients: {a: {open: foo, close: foo ssh, services: [ssh]}}", "2:33", 'is open of client "a" and a', "same"),
    ("# " + "é" * 12 + "\nservices:\n  \x01: x", "3:3", "the character '\\x01'", "take"),
    ("services: {ssh: {port: 99999}}", "1:24", "is not a port", "write tcp/22"),
    ("services: {ssh: {port: ٣}}", "1:24", "is not a port", "write tcp/22"),
    ("services: {ssh: {port: tcp/22, ttl: 9999999999s}}", "1:37", "longer than ten years", None),
    ("a: !include x", "1:4", 'the tag "!include" is not allowed', None),
    ("[" * 500, "1:17", "nested more than 16 levels deep", None),
    ("{a: " * 500, "1:65", "nested more than 16 levels deep", None),
    (b"services: \xff", "1:11", "is not UTF-8", "save the file"),
    (b"services: {\x00}", "1:12", "not YAML", None),
    ("# é\nservices: é".encode() + b"\xff", "2:12", "is not UTF-8", None),
]


def test_nesting_that_libyaml_itself_refuses_is_a_problem_like_any_other() -> None:
    assert [one.line for one in problems("[" * 100_000)] == [1]


@pytest.mark.parametrize(("text", "place", "message", "hint"), BAD, ids=[f"{i}-{row[2]}" for i, row in enumerate(BAD)])
def test_a_problem_is_told_with_its_place_and_a_hint(
    text: str | bytes, place: str, message: str, hint: str | None
) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert str(found[0]).startswith(f"rules.yaml:{place}: "), found
    assert message in found[0].message
    if hint is not None:
        assert found[0].hint is not None
        assert hint in found[0].hint


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        "services:\n  ssh: {port: 22, ttl: 0s}\n  web: {port: tcp/99999, x: 1}\n"
        "clients:\n  a: {open: k, services: [ssh, wbe]}\n  b: {}\nfirewall: {queue: x}\n"
    )
    assert [problem.line for problem in found] == [2, 2, 3, 3, 5, 6, 6, 7]


def test_billions_of_laughs_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    (problem,) = problems("\n".join(lines))
    assert "aliases" in problem.message


def test_control_characters_do_not_reach_the_terminal() -> None:
    (problem,) = problems('services: {ssh: {port: tcp/22}, "\\e[31m": {port: tcp/23}}')
    assert "\x1b" not in str(problem)
    assert "\\x1b[31m" in str(problem)


def test_what_is_unwise_is_a_warning() -> None:
    _, warnings = parse(S + "clients: {a: {open: open_sesame, close: 0123456789abcdef0, services: [ssh]}}")
    (warning,) = warnings
    assert str(warning) == 'rules.yaml:2:21: warning: open of client "a" is easy to guess'
    _, warnings = parse(S)
    assert [warning.message for warning in warnings] == ["no clients"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {ssh: {port: tcp/22, address: 192.0.2.1}}", 'service "ssh" is not guarded over IPv6'),
        ("services: {ssh: {port: tcp/22, address: ['2001:db8::1']}}", 'service "ssh" is not guarded over IPv4'),
        ("services: {x: {port: tcp/1024-65535}}", "tcp/1024-65535 has ports that Linux takes for outgoing connections"),
        (S + "always: [192.0.2.7]\nnever: [192.0.2.0/24]", "192.0.2.7/32 lies in never:, which goes before always:"),
        (
            "services: {ssh: {port: tcp/22, always: [192.0.2.7]}}\nnever: [192.0.2.0/24]",
            "192.0.2.7/32 lies in never:, which goes before always:",
        ),
        (S + "mode: observe", "mode: observe drops nothing"),
        (S + "knock: {via: icmp, ack: true}", "only knocks by udp are answered"),
    ],
)
def test_what_is_odd_is_a_warning(text: str, message: str) -> None:
    _, warnings = parse(text)
    assert message in [warning.message for warning in warnings]


def test_all_that_can_be_said_of_services_is_read() -> None:
    found, _ = parse("""
mode: observe
refuse: reset
always: [10.0.0.0/8]
never: ['::ffff:203.0.113.0/120']
services:
  web:
    port: [tcp/80, tcp/443, udp/443]
    interface: eth0
    address: [192.0.2.1, '2001:db8::1']
    always: [192.0.2.7]
    never: ['2001:db8:bad::/48']
    when: [Mon-Fri 08:00-18:00 Europe/Berlin, Sat UTC]
  x11: {port: tcp/6000-6010, interface: [eth1, wg+]}
clients:
  phone:
    open: 0123456789abcdef0
    services: [web]
    prefix: {ipv4: 24}
    when: Sun UTC
knock: {port: [udp/62201, udp/4443], via: [udp, icmp, syn]}
firewall: {backend: rules}
""")
    hours = tuple(map(schedule.parse, ("Mon-Fri 08:00-18:00 Europe/Berlin", "Sat UTC")))
    never = ip_network("203.0.113.0/24")
    assert found.services["web"] == Service(
        "web",
        (Ports(Transport.TCP, 80), Ports(Transport.TCP, 443), Ports(Transport.UDP, 443)),
        3600,
        addresses=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        interfaces=("eth0",),
        always=(ip_network("10.0.0.0/8"), ip_network("192.0.2.7")),
        never=(never, ip_network("2001:db8:bad::/48")),
        hours=hours,
    )
    assert found.services["x11"].ports == (Ports(Transport.TCP, 6000, 6010),)
    assert found.services["x11"].interfaces == ("eth1", "wg+")
    assert (found.mode, found.refuse, found.never) == (Mode.OBSERVE, Refuse.RESET, (never,))
    assert (found.knock_ports, found.via) == ((62201, 4443), frozenset(Via))
    assert found.firewall.backend == "rules"
    phone = found.clients["phone"]
    assert (phone.prefixes, phone.hours) == ((24, 128), (schedule.parse("Sun UTC"),))


def test_where_a_port_is_guarded_is_read() -> None:
    """A host behind may have a port that this machine has too."""
    found, _ = parse("""
services:
  own: {port: tcp/22}
  web: {port: tcp/80, guard: published}
  host: {port: [tcp/22, tcp/80], address: [10.0.0.2, 'fd00::2'], guard: forward}
  other: {port: tcp/22, address: [10.0.0.3, 'fd00::3'], guard: forward}
""")
    guards = [service.guard for service in found.services.values()]
    assert guards == [Guard.INPUT, Guard.PUBLISHED, Guard.FORWARD, Guard.FORWARD]


def test_workers_are_a_number_or_auto_which_is_half_of_the_processors_up_to_four() -> None:
    def workers(text: str, processors: int) -> int:
        found, _ = rules.parse(f"{S}{text}".encode(), file="x", read_key=_no_key, processors=processors)
        return found.workers

    assert [workers("", processors) for processors in (1, 64)] == [1, 1]
    assert [workers(f"workers: {n}", 2) for n in (1, 16)] == [1, 16]
    by_processors = {1: 1, 2: 1, 3: 1, 4: 2, 6: 3, 8: 4, 64: 4}
    assert {n: workers("workers: auto", n) for n in by_processors} == by_processors


def test_without_udp_there_is_no_knock_port() -> None:
    found, _ = parse(S + "knock: {via: [icmp]}")
    assert (found.knock_ports, found.via) == ((), frozenset({Via.ICMP}))


# -- files


def test_key_files_are_read_beside_the_rules_file(tmp_path: Path) -> None:
    key = tmp_path / "laptop.open"
    key.write_text("0123456789abcdef0\n")
    key.chmod(0o600)
    file = tmp_path / "rules.yaml"
    file.write_text(S + "clients: {a: {open_file: laptop.open, services: [ssh]}}")
    file.chmod(0o600)
    found, warnings = rules.load(file)
    assert found.clients["a"].open_key == b"0123456789abcdef0"
    assert warnings == []
    key.chmod(0o644)
    file.chmod(0o644)
    _, warnings = rules.load(file)
    assert [(Path(warning.file).name, warning.message) for warning in warnings] == [
        ("rules.yaml", "other users can read or write this file"),
        ("laptop.open", "other users can read or write this file"),
    ]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(RulesError, match="cannot be read"):
            rules.load(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_good_once_their_key_files_are_there(path: Path) -> None:
    found, _ = rules.parse(path.read_bytes(), file=path.name, read_key=lambda name: f"the key in {name}".encode())
    assert found.services
    assert found.clients or path.name == "ssh.yaml", "which tells how to get the first one"


def test_the_first_example_runs_as_it_is_and_can_lock_nobody_out() -> None:
    found, _ = rules.load(EXAMPLES / "rules.yaml")
    ports = {ports.first for service in found.services.values() for ports in service.ports}
    assert ports.isdisjoint({22, 80, 443})


def test_what_the_first_example_suggests_is_good_too() -> None:
    """The block that it tells people to put in place, without the comment signs."""
    text = (EXAMPLES / "rules.yaml").read_text().split("and start `sudo gatekeeper run`:\n#\n")[1]
    block = "".join(line.removeprefix("# ").removeprefix("#") for line in text.splitlines(keepends=True))
    found, _ = rules.parse(block.encode(), file="x", read_key=lambda name: f"the key in {name}".encode())
    assert found.services["ssh"].ports == (Ports(Transport.TCP, 22),)
    assert found.clients["laptop"].keys
    assert found.firewall == FirewallSettings()


# -- whatever comes


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise_anything_else(content: bytes) -> None:
    try:
        parse(content)
    except RulesError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


_WORDS = """services clients knock firewall ssh port ttl max_ttl established open close open_file tcp/22 udp/62201
1h 0s keep forever laptop : , { } [ ] - & * ! | > ' " # ? %YAML --- ... !!binary <<: @ ` ~ null 0x40"""
_words = st.sampled_from([*_WORDS.split(), "\n", "\t"])


@given(st.lists(_words, max_size=40), st.sampled_from(["", " ", "\n", "\n  "]))
def test_no_words_of_ours_make_it_raise_anything_else(words: list[str], glue: str) -> None:
    try:
        parse(glue.join(words))
    except RulesError as error:
        assert error.problems


def test_the_line_of_a_join_goes_below_the_example_for_ssh() -> None:
    text = (
        EXAMPLES / "ssh.yaml"
    ).read_text() + "  laptop: {key: B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=, services: [ssh]}\n"
    found, warnings = rules.parse(text.encode(), file="x", read_key=lambda _: b"")
    assert list(found.clients) == ["laptop"]
    assert warnings == []


def test_nulls_are_nothing_where_they_are_not_quoted() -> None:
    for nothing in ("", "~", "null", "Null", "NULL"):
        assert "must be a word, not nothing" in problems(f"services: {{ssh: {{port: {nothing} }}}}")[0].message
    for word in ("'null'", '"~"', "nULL", "!!str null"):
        assert "is not a port" in problems(f"services: {{ssh: {{port: {word} }}}}")[0].message


def test_it_tells_how_much_of_a_long_file_is_read() -> None:
    told: list[float] = []
    clients = "".join(f"  c{n}: {{open: a-key-that-is-{n}-long, services: [ssh]}}\n" for n in range(1000))
    text = f"services: {{ssh: {{port: tcp/22}}}}\nclients:\n{clients}".encode()
    rules.parse(text, file="rules.yaml", read_key=lambda _: b"", tell=told.append)
    assert told == sorted(told)
    assert len(told) > 20
    assert 0 <= told[0] < 0.1
    assert 0.9 < told[-1] <= 1
