"""access.conf and fwknopd.conf: clients with the same effect, and each line that has no equal is named."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.errors import ConversionError
from gatekeeper.migrate.access import KEY_VARIABLES, VARIABLES
from gatekeeper.settings import Ports, Transport
from tests.migrate.files import KEYS, SSH, from_fwknop

OPEN = f"{KEYS}OPEN_PORTS tcp/22\n"


def test_a_stanza_becomes_a_client_with_the_same_rights() -> None:
    found = from_fwknop(
        f"SOURCE: 10.0.0.0/8, 192.0.2.7\n{KEYS}HMAC_DIGEST_TYPE SHA512\nENCRYPTION_MODE CTR\n"
        "OPEN_PORTS tcp/22, udp/53\nFW_ACCESS_TIMEOUT 60;\nMAX_FW_TIMEOUT 600\n"
        "REQUIRE_SOURCE_ADDRESS Y\nREQUIRE_USERNAME alice\n"
    )
    client = found.client
    assert found.notes == []
    assert client.fwknop is not None
    assert (client.fwknop.key, client.fwknop.hmac_key) == (b"sixteen bytes of", b"something else to sign")
    assert (client.fwknop.hmac, client.fwknop.mode, client.fwknop.user) == ("sha512", "ctr", "alice")
    assert (client.name, client.services, client.ttl, client.must_bind) == ("alice", ("ssh", "domain"), 60, True)
    assert client.for_others, "fwknopd lets a packet name any address"
    assert client.sources == (ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"))
    assert {one.max_ttl for one in found.rules.services.values()} == {600}


def test_what_a_stanza_does_not_say_is_as_fwknopd_has_it() -> None:
    found = from_fwknop(f"SOURCE ANY\n{OPEN}")
    assert (found.client.ttl, found.client.sources, found.client.not_after) == (30, (), None)
    assert found.rules.services["ssh"].max_ttl == 300
    assert found.client.fwknop is not None
    assert (found.client.fwknop.hmac, found.client.fwknop.mode, found.client.fwknop.user) == ("sha256", "cbc", None)
    assert not found.client.must_bind


def test_the_last_of_several_values_counts() -> None:
    found = from_fwknop(
        "SOURCE ANY\nKEY first\nKEY second\nHMAC_KEY_BASE64 Zmlyc3Q=\nHMAC_KEY hmac\nOPEN_PORTS tcp/22\n"
    )
    assert found.client.fwknop is not None
    assert (found.client.fwknop.key, found.client.fwknop.hmac_key) == (b"second", b"hmac")


@pytest.mark.parametrize("key", ["it's", "a: b", "#x", "'", '"', "null", "0123", "{a}", "*x", "äö", "-", "a # b"])
def test_a_passphrase_stays_what_it_is(key: str) -> None:
    found = from_fwknop(f"SOURCE ANY\nKEY {key}\nHMAC_KEY other\nOPEN_PORTS tcp/22\nREQUIRE_USERNAME {key}\n")
    assert found.client.fwknop is not None
    assert found.client.fwknop.key == key.encode()
    assert found.client.fwknop.user == key


def test_a_passphrase_need_not_be_text() -> None:
    found = from_fwknop(b"SOURCE ANY\nKEY \xff\xfe1\nHMAC_KEY other\nOPEN_PORTS tcp/22\n")
    assert found.client.fwknop is not None
    assert found.client.fwknop.key == b"\xff\xfe1"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (f"{OPEN}GPG_DECRYPT_ID ABCD\nGPG_DECRYPT_PW secret\n", ":6: GPG_DECRYPT_PW: knocks that are encrypted"),
        (f"{OPEN}ENABLE_CMD_EXEC Y\nCMD_EXEC_USER root\n", ":5: ENABLE_CMD_EXEC: messages with commands are refused"),
        (f"{OPEN}DESTINATION 192.0.2.1\n", ":5: DESTINATION: a knock may go to any address"),
        (f"{OPEN}FORCE_SNAT 192.0.2.1\n", ":5: FORCE_SNAT: nothing is translated"),
        (f"{KEYS}", ":1: it has no OPEN_PORTS: any port may be asked for"),
        (f"{KEYS}RESTRICT_PORTS tcp/80\n", ":4: it has no OPEN_PORTS: any port may be asked for, but for a few"),
        ("KEY some\nOPEN_PORTS tcp/22\n", ":1: it has no HMAC_KEY"),
        (f"{OPEN}FW_ACCESS_TIMEOUT soon\n", ":5: FW_ACCESS_TIMEOUT: 'soon' is no number of seconds; 30 is taken"),
        (f"{OPEN}HMAC_DIGEST_TYPE sha9\n", ":5: HMAC_DIGEST_TYPE: 'sha9' is none that fwknopd knows"),
        (f"{OPEN}ENCRYPTION_MODE Asymmetric\n", ":5: ENCRYPTION_MODE: 'Asymmetric' is none that a KEY can have"),
        (f"{OPEN}OPEN_DOORS 7\n", ":5: 'OPEN_DOORS' is no variable of access.conf"),
        (f"{OPEN}KEY\n", ":5: this is no variable with a value"),
        ("KEY 17_characters_it_is\nENCRYPTION_MODE legacy\nOPEN_PORTS tcp/22\n", ":2: KEY: its first 16 bytes"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_named_with_its_line_and_the_rest_is_taken_over(lines: str, expected: str) -> None:
    found = from_fwknop(f"SOURCE ANY\n{lines}")
    assert any(f"/etc/access.conf{expected}" in note for note in found.notes), found.notes
    assert found.client.services == ("ssh",)
    assert "secret" not in found.text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("KEY __CHANGEME__\n", ":2: KEY has not been set"),
        ("OPEN_PORTS tcp/22\n", ":1: this stanza has no KEY"),
        ("GPG_DECRYPT_PW secret\n", ":2: GPG_DECRYPT_PW"),
        ("GPG_ALLOW_NO_PW Y\n", ":2: GPG_ALLOW_NO_PW"),
        (f"{OPEN}CMD_CYCLE_OPEN /bin/open $IP\n", ":5: CMD_CYCLE_OPEN: commands that open and close have no equal"),
        (f"{OPEN}FORCE_NAT 192.0.2.9 22\n", ":5: FORCE_NAT: leading connections elsewhere has no equal"),
        (f"{OPEN}FORWARD_ALL Y\n", ":5: FORWARD_ALL: leading connections elsewhere has no equal"),
        (f"{KEYS}OPEN_PORTS tcp/22\nRESTRICT_PORTS tcp/22\n", ":4: there is no port left"),
        (f"{KEYS}OPEN_PORTS icmp/8\n", ":4: 'icmp/8' is no port"),
        (f"{KEYS}OPEN_PORTS tcp/0,tcp/65536\n", ":4: 'tcp/65536' is no port"),
        ("KEY_BASE64 a$b\nOPEN_PORTS tcp/22\n", ":2: KEY_BASE64 is not base64"),
        ("KEY_BASE64 =\nOPEN_PORTS tcp/22\n", ":2: KEY_BASE64 is empty"),
        ("KEY same\nHMAC_KEY same\nOPEN_PORTS tcp/22\n", ":2: KEY is the HMAC key too"),
        (f"KEY {'k' * 33}\nOPEN_PORTS tcp/22\n", ":2: KEY: it has 33 bytes"),
        (f"{OPEN}ACCESS_EXPIRE soon\n", ":5: ACCESS_EXPIRE: 'soon' cannot be read"),
        (f"{OPEN}ACCESS_EXPIRE_EPOCH never\n", ":5: ACCESS_EXPIRE_EPOCH: 'never' cannot be read"),
    ],
)  # fmt: skip
def test_a_stanza_that_has_no_equal_is_left_out_and_says_why(lines: str, expected: str) -> None:
    found = from_fwknop(f"SOURCE ANY\n{lines}")
    assert any(f"/etc/access.conf{expected}" in note for note in found.notes), found.notes
    assert found.draft.clients == {}
    assert "# /etc/access.conf:1: left out" in found.text
    assert f"#   /etc/access.conf{expected}" in found.text, "the file says it as well"


def test_nothing_is_opened_for_whoever_may_ask_for_any_port_unless_a_service_is_named() -> None:
    found = from_fwknop(f"SOURCE ANY\n{KEYS}", wanted={})
    assert found.draft.clients == {}
    assert "--service ssh=tcp/22" in found.text


def test_services_that_are_named_have_their_names_and_restricted_ports_are_left_out() -> None:
    wanted = {**SSH, "shop": Ports(Transport.TCP, 443)}
    text = f"SOURCE ANY\n{KEYS}RESTRICT_PORTS tcp/22\n"
    assert from_fwknop(text, wanted=wanted).client.services == ("shop",)
    assert from_fwknop(f"SOURCE ANY\n{KEYS}OPEN_PORTS tcp/443,tcp/8022\n", wanted=wanted).client.services == (
        "shop",
        "tcp-8022",
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("ACCESS_EXPIRE 12/31/2030\n", (2030 * 372 + 12 * 31 + 31) * 86_400.0),
        ("ACCESS_EXPIRE 1/2/30\n", (2030 * 372 + 31 + 2) * 86_400.0),
        ("ACCESS_EXPIRE_EPOCH 2000000000\n", 2_000_000_000.0),
        ("ACCESS_EXPIRE_EPOCH 0\n", None),
        ("ACCESS_EXPIRE_EPOCH 99999999999999\n", None),
    ],
)
def test_a_stanza_expires_when_fwknopd_would_have_it_expire(lines: str, expected: float | None) -> None:
    assert from_fwknop(f"SOURCE ANY\n{OPEN}{lines}").client.not_after == expected


def test_stanzas_with_the_same_keys_are_one_client_if_their_rights_are_the_same() -> None:
    found = from_fwknop(f"SOURCE 10.0.0.0/8\n{OPEN}SOURCE 192.0.2.0/24\n{OPEN}SOURCE 192.0.2.9\n{OPEN}")
    assert [str(one) for one in found.client.sources] == ["10.0.0.0/8", "192.0.2.0/24", "192.0.2.9/32"]
    assert from_fwknop(f"SOURCE 10.0.0.0/8\n{OPEN}SOURCE ANY\n{OPEN}").client.sources == ()


def test_stanzas_with_the_same_keys_and_other_rights_are_named() -> None:
    found = from_fwknop(f"SOURCE 10.0.0.0/8\n{KEYS}OPEN_PORTS tcp/22,tcp/80\nSOURCE ANY\n{OPEN}")
    assert found.client.services == ("ssh", "http")
    (note,) = found.notes
    assert "/etc/access.conf:5: its keys are those of /etc/access.conf:1, its rights are others" in note


def test_the_longest_that_may_be_asked_for_is_the_services_and_who_had_less_is_named() -> None:
    others = "KEY other\nHMAC_KEY else\nOPEN_PORTS tcp/22\n"
    found = from_fwknop(f"SOURCE ANY\n{OPEN}MAX_FW_TIMEOUT 60\nSOURCE ANY\n{others}FW_ACCESS_TIMEOUT 1000\n")
    assert found.rules.services["ssh"].max_ttl == 1000
    assert any(":5: MAX_FW_TIMEOUT: its clients may ask for 16m40s of ssh, not 1m" in note for note in found.notes)


# -- includes


def test_files_and_folders_and_keys_are_included() -> None:
    found = from_fwknop(
        "%include /etc/one.conf\n%include_folder /etc/more/\nSOURCE ANY\nOPEN_PORTS tcp/22\n%include_keys keys.conf\n",
        files={
            "/etc/one.conf": "SOURCE ANY\nKEY one\nHMAC_KEY 2\nREQUIRE_USERNAME one\n%include two.conf\nOPEN_PORTS tcp/22",  # noqa: E501
            "/etc/two.conf": "SOURCE ANY\nKEY three\nHMAC_KEY four\nREQUIRE_USERNAME two\nOPEN_PORTS tcp/22\n",
            "/etc/more/a.conf": "SOURCE ANY\nKEY five\nHMAC_KEY six\nREQUIRE_USERNAME three\nOPEN_PORTS tcp/22\n",
            "/etc/more/b.txt": "SOURCE ANY\n",
            "/etc/keys.conf": "KEY: seven\nHMAC_KEY: eight\nOPEN_PORTS tcp/80\n",
        },
    )  # fmt: skip
    assert list(found.rules.clients) == ["one", "two", "three", "fwknop-4"]
    assert [one.services for one in found.rules.clients.values()] == [("ssh",)] * 4
    (note,) = found.notes
    assert "/etc/keys.conf:3: 'OPEN_PORTS' sets no key" in note


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("%include /etc/access.conf\n", {}, "/etc/access.conf:1: '/etc/access.conf' is being read already"),
        ("%include /etc/./access.conf\n", {}, "is being read already"),
        ("%include a\n", {"/etc/a": "%include access.conf\n"}, "/etc/a:1: '/etc/access.conf' is being read already"),
        ("%include_folder /etc\n", {}, "/etc/access.conf:1: '/etc/access.conf' is being read already"),
        ("%include a\n", {"/etc/a": "%include b\n", "/etc/b": "%include c\n"}, "/etc/b:1: files are included more"),
        ("%include_folder /x\n", {"/x/a.conf": "%include_folder /x\n"}, "/x/a.conf:1: '/x/a.conf' is being read"),
        ("%include /nowhere\n", {}, "/etc/access.conf:1: '/nowhere' cannot be read: No such file or directory"),
        ("%include_folder /nowhere\n", {}, "'/nowhere' cannot be read"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\n%include_keys /nowhere\n", {}, "access.conf:3: '/nowhere' cannot be read"),
    ],
)  # fmt: skip
def test_an_include_that_cannot_be_followed_is_named_and_the_rest_is_read(
    text: str, files: dict[str, str], expected: str
) -> None:
    found = from_fwknop(f"{text}SOURCE ANY\n{OPEN}", files=files)
    assert any(expected in note for note in found.notes), found.notes
    assert found.client.services == ("ssh",)


def test_many_includes_come_to_an_end() -> None:
    files = {f"/x/{number}.conf": "%include_folder /y\n" for number in range(60)}
    files |= {f"/y/{number}.conf": "SOURCE ANY\n" for number in range(60)}
    with pytest.raises(ConversionError, match="more than 1000 files"):
        from_fwknop("%include_folder /x\n", files=files)


# -- fwknopd.conf


@pytest.mark.parametrize(
    ("server", "ports", "skew"),
    [
        ("", (62201,), 120),
        ("PCAP_FILTER udp port 5000;\nMAX_SPA_PACKET_AGE 60;\n", (5000,), 60),
        ("PCAP_FILTER (udp dst port 5000) or udp dst port 5001;\n", (5000, 5001), 120),
        ("ENABLE_UDP_SERVER Y;\nUDPSERV_PORT 5000;\nPCAP_FILTER udp port 1;\n", (5000,), 120),
        ("ENABLE_UDP_SERVER N;\nUDPSERV_PORT 5000;\n", (62201,), 120),
        ("# PCAP_FILTER udp port 1;\n", (62201,), 120),
    ],
)
def test_the_knock_port_and_the_age_come_from_fwknopd_conf(server: str, ports: tuple[int, ...], skew: int) -> None:
    found = from_fwknop(f"SOURCE ANY\n{OPEN}", server=server)
    assert (found.rules.knock_ports, found.rules.skew, found.notes) == (ports, skew, [])


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("PCAP_FILTER udp dst portrange 10000-65535;\n", "PCAP_FILTER: 'udp dst portrange 10000-65535' is not"),
        ("PCAP_INTF eth1;\n", "PCAP_INTF: knocks are heard at all interfaces, not at 'eth1' only"),
        ("MAX_SPA_PACKET_AGE 600;\n", "MAX_SPA_PACKET_AGE: '600' is not taken over"),
        ("ENABLE_SPA_PACKET_AGING N;\n", "ENABLE_SPA_PACKET_AGING: a knock may be 120 s old or early here"),
        ("ENABLE_SPA_OVER_HTTP Y;\n", "ENABLE_SPA_OVER_HTTP: knocks over HTTP are not heard"),
        ("ENABLE_TCP_SERVER Y;\n", "ENABLE_TCP_SERVER: knocks over TCP are not heard"),
        ("ENABLE_IPT_FORWARDING Y;\n", "ENABLE_IPT_FORWARDING: NAT access (fwknop -N) is refused"),
        ("ENABLE_DIGEST_PERSISTENCE N;\n", "ENABLE_DIGEST_PERSISTENCE: replays are refused here"),
        ("IPT_INPUT_ACCESS ACCEPT, filter, INPUT, 1, X, 1;\n", "IPT_INPUT_ACCESS: there are no such chains"),
        ("NO_SUCH_THING 1;\n", "'NO_SUCH_THING' is no variable of fwknopd.conf"),
    ],
)  # fmt: skip
def test_what_of_fwknopd_conf_has_no_equal_is_named(server: str, expected: str) -> None:
    found = from_fwknop(f"SOURCE ANY\n{OPEN}", server=server)
    (note,) = found.notes
    assert note.startswith(f"/etc/fwknopd.conf:1: {expected}")


# -- whatever comes

WORDS = st.sampled_from([*sorted(VARIABLES), "%include", "%include_folder", "%include_keys", "#", "SOURCE", "SOURCE"])
VALUES = st.one_of(
    st.sampled_from(
        ["Y", "ANY", "tcp/22", "10.0.0.0/8", "/etc/access.conf", "/etc", "30", "01/01/2030", "a", "c2VjcmV0"]
    ),
    st.text(max_size=40),
)


@given(st.lists(st.tuples(WORDS, VALUES), max_size=30))
def test_whatever_stands_there_gives_rules_that_load_or_a_reason(entries: list[tuple[str, str]]) -> None:
    text = "".join(f"{name} {value}\n" for name, value in entries)
    try:
        found = from_fwknop(text.encode(errors="surrogatepass"))
    except ConversionError:
        return
    if found.draft.clients:
        assert found.rules.clients
    assert all(line.isprintable() for line in found.text.split("\n"))


@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_notes_and_never_a_traceback(content: bytes) -> None:
    try:
        from_fwknop(content)
    except ConversionError as error:
        assert "/etc/access.conf:" in error.message


def test_every_variable_is_decided_about() -> None:
    """None of those that fwknopd knows is taken for unknown."""
    for name in VARIABLES:
        assert not any("is no variable" in note for note in from_fwknop(f"SOURCE ANY\n{OPEN}{name} 1\n").notes)
    assert KEY_VARIABLES < VARIABLES
