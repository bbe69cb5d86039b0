"""``gatekeeper knock --format``: stanzas of ~/.fwknoprc, sequences, and what of both makes no sense."""

from __future__ import annotations

import contextlib
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper import cli
from gatekeeper.client import fwknoprc, sequence
from gatekeeper.client.sequence import Step
from gatekeeper.errors import ClientError
from gatekeeper.fwknop import envelope, message
from gatekeeper.fwknop.message import Kind, Message
from gatekeeper.settings import FwknopKeys

KEYS = "KEY correct_horse\nHMAC_KEY battery_staple\n"
PAIR = FwknopKeys(key=b"correct_horse", hmac_key=b"battery_staple")
Knock = Callable[..., Message]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home without ~/.fwknoprc."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPOOF_USER", "alice")
    return tmp_path


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(5)
        yield one


@pytest.fixture
def knock(home: Path, port: socket.socket) -> Knock:
    """Knock with a stanza; return what was sent, as the server reads it."""

    def send(text: str, *words: str, keys: FwknopKeys = PAIR) -> Message:
        rc(home, text)
        number = str(port.getsockname()[1])
        assert cli.main(["knock", "127.0.0.1", "--format", "fwknop", "--port", number, *words]) == 0
        payload = port.recv(2048)
        assert envelope.has_shape(payload)
        parts = envelope.parts(payload, keys.hmac)
        assert parts is not None
        assert keys.hmac_key is None or envelope.is_right(envelope.begun(keys), *parts)
        return message.unpack(envelope.opened(parts[0], keys))

    return send


def rc(home: Path, text: str) -> Path:
    file = home / ".fwknoprc"
    file.write_text(text if text.startswith("[") else f"[127.0.0.1]\n{text}")
    file.chmod(0o600)
    return file


def test_a_stanza_says_what_to_send(knock: Knock) -> None:
    found = knock(f"ACCESS tcp/22,udp/53\n{KEYS}FW_TIMEOUT 60\nALLOW_IP 192.0.2.7\nSPOOF_USER bob\nDIGEST_TYPE MD5\n")
    assert (found.text, found.kind, found.timeout) == ("192.0.2.7,tcp/22,udp/53", Kind.TIMED_ACCESS, 60)
    assert (found.user, found.digest) == ("bob", "md5")
    assert abs(found.sent_at - time.time()) < 10


def test_what_a_stanza_does_not_say_is_as_fwknop_has_it(knock: Knock) -> None:
    found = knock(f"ACCESS tcp/22\n{KEYS}")
    assert (found.text, found.kind, found.timeout) == ("0.0.0.0,tcp/22", Kind.ACCESS, None)
    assert (found.user, found.digest, found.version) == ("alice", "sha256", "3.0.0")


def test_the_default_stanza_is_below_the_named_one_and_options_are_above(knock: Knock) -> None:
    text = f"[default]\nACCESS tcp/1\nFW_TIMEOUT 1\n[other]\nKEY x\n[127.0.0.1]\n{KEYS}ACCESS tcp/22\n"
    assert knock(text).text == "0.0.0.0,tcp/22"
    assert knock(text).timeout == 1
    found = knock(text, "--access", "udp/53", "--ttl", "2m", "--source", "192.0.2.9")
    assert (found.text, found.timeout) == ("192.0.2.9,udp/53", 120)


def test_no_two_knocks_are_the_same(knock: Knock) -> None:
    one, other = (knock(f"ACCESS tcp/22\n{KEYS}") for _ in range(2))
    assert one.random != other.random


@pytest.mark.parametrize(
    ("lines", "keys"),
    [
        ("KEY_BASE64: Y29ycmVjdF9ob3JzZQ==\nHMAC_KEY_BASE64: YmF0dGVyeV9zdGFwbGU\n", PAIR),
        (f"{KEYS}KEY_BASE64 AAAA\n", PAIR),
        ("KEY k\nHMAC_KEY h ; comment\nHMAC_DIGEST_TYPE SHA3_256 # comment\n",
         FwknopKeys(key=b"k", hmac_key=b"h", hmac="sha3_256")),
        ("KEY k\nENCRYPTION_MODE legacy\n", FwknopKeys(key=b"k", hmac="none", mode="legacy")),
        ("KEY k\nHMAC_KEY h\nENCRYPTION_MODE CTR\n", FwknopKeys(key=b"k", hmac_key=b"h", mode="ctr")),
    ],
)  # fmt: skip
def test_keys_are_read_as_fwknop_reads_them(knock: Knock, lines: str, keys: FwknopKeys) -> None:
    assert knock(f"ACCESS tcp/22\n{lines}", keys=keys).text == "0.0.0.0,tcp/22"


def test_nobody_is_asked_for_our_address(knock: Knock, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("RESOLVE_IP_HTTPS Y", "ALLOW_IP resolve"):
        assert knock(f"ACCESS tcp/22\n{KEYS}{line}\n").text == "0.0.0.0,tcp/22"
        assert "nobody is asked for our address" in capsys.readouterr().err


def test_keys_without_a_stanza_come_from_a_file(home: Path, port: socket.socket) -> None:
    file = home / "keys"
    file.write_text("KEY_BASE64: Y29ycmVjdF9ob3JzZQ==\nHMAC_KEY_BASE64: YmF0dGVyeV9zdGFwbGU=\n")
    file.chmod(0o600)
    words = ["--access", "tcp/22", "--key-file", str(file), "--port", str(port.getsockname()[1])]
    assert cli.main(["knock", "127.0.0.1", "--format", "fwknop", *words]) == 0
    assert envelope.has_shape(port.recv(2048))


@pytest.mark.parametrize(
    ("text", "words", "error"),
    [
        (KEYS, (), "it is not said what to open"),
        (f"{KEYS}ACCESS icmp/8\n", (), "'icmp/8' are no ports to ask for"),
        (f"{KEYS}ACCESS tcp/70000\n", (), "'tcp/70000' are no ports to ask for"),
        ("ACCESS tcp/22\n", (), "there is no KEY, and no KEY_BASE64"),
        ("ACCESS tcp/22\nKEY x\nUSE_HMAC Y\n", (), "there is no HMAC_KEY"),
        ("ACCESS tcp/22\nKEY x\nHMAC_KEY x\n", (), "key and HMAC key"),
        ("ACCESS tcp/22\nKEY_BASE64 ?\n", (), "KEY_BASE64 in"),
        (f"ACCESS tcp/22\nKEY {'x' * 33}\n", (), "has 33 bytes: 1 to 32 can be used"),
        (f"ACCESS tcp/22\n{KEYS}USE_GPG Y\n", (), "encryption with GnuPG is not for this client"),
        (f"ACCESS tcp/22\n{KEYS}NAT_LOCAL Y\n", (), "NAT access is not for this client"),
        (f"ACCESS tcp/22\n{KEYS}SPA_SERVER_PROTO tcp\n", (), "knocks go by udp"),
        (f"ACCESS tcp/22\n{KEYS}ALLOW_IP here\n", (), "'here' is no IPv4 address"),
        (f"ACCESS tcp/22\n{KEYS}FW_TIMEOUT soon\n", (), "'soon' is no number of seconds"),
        (f"ACCESS tcp/22\n{KEYS}HMAC_DIGEST_TYPE sha9\n", (), "HMAC_DIGEST_TYPE in"),
        (f"ACCESS tcp/22\n{KEYS}KEY\n", (), ":5: this is no variable with a value"),
        (f"ACCESS tcp/22\n{KEYS}", ("-n", "nosuch"), "there is no stanza 'nosuch'"),
        (f"ACCESS tcp/22\n{KEYS}", ("--ttl", "forever"), "--ttl: fwknop's format has no forever"),
        (f"ACCESS tcp/22\n{KEYS}", ("--source", "2001:db8::1"), "fwknop's format has IPv4 addresses only"),
        (f"ACCESS tcp/22\n{KEYS}", ("--close",), "--close is not for --format fwknop"),
        (f"ACCESS tcp/22\n{KEYS}", ("--service", "ssh"), "--service is not for --format fwknop"),
        (f"ACCESS tcp/22\n{KEYS}", ("7000",), "steps (more words than one) are not for --format fwknop"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_no_key_is_shown(
    home: Path, text: str, words: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rc(home, text)
    assert cli.main(["knock", "127.0.0.1", "--format", "fwknop", *words]) == 1
    said = capsys.readouterr().err
    assert error in said
    assert "correct_horse" not in said


def test_a_file_that_others_can_read_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rc(home, f"ACCESS tcp/22\n{KEYS}")
    file.chmod(0o640)
    assert cli.main(["knock", "127.0.0.1", "--format", "fwknop"]) == 1
    assert f"chmod 600 {file}" in capsys.readouterr().err
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_what_is_only_for_a_format_is_refused_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["7000"], ["--access", "tcp/22"], ["-n", "x"], ["--delay", "5"], ["--rc", "x"]):
        assert cli.main(["knock", "127.0.0.1", *words]) == 1
        assert "name a --format" in capsys.readouterr().err


def test_a_stanza_is_found_by_its_name_whatever_its_letters(home: Path) -> None:
    file = str(rc(home, "[Work]\nSPA_SERVER 192.0.2.1\n"))
    found = fwknoprc.stanza(file, "wORK")
    assert found is not None
    assert (found.get("SPA_SERVER"), fwknoprc.stanza(file, "home")) == ("192.0.2.1", None)


# -- sequences


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["7000", "8000/udp", "udp/9000", "tcp/1"], [Step(7000, False), Step(8000, True), Step(9000, True), Step(1, False)]),  # noqa: E501
        (["7000:udp", "8000:tcp"], [Step(7000, True), Step(8000, False)]),
    ],
)  # fmt: skip
def test_steps_are_read_as_ours_and_as_those_of_knock(words: list[str], steps: list[Step]) -> None:
    assert sequence.parse(words) == steps


@pytest.mark.parametrize("words", [[], ["0"], ["65536"], ["x"], ["7000/icmp"], ["udp/1/udp"], ["1"] * 33])
def test_what_is_no_sequence_is_refused(words: list[str]) -> None:
    with pytest.raises(ClientError):
        sequence.parse(words)


def test_each_step_is_a_packet_and_their_order_is_kept() -> None:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)]
        for one in ports:
            one.bind(("127.0.0.1", 0))
            one.settimeout(5)
        words = [f"{one.getsockname()[1]}/udp" for one in ports]
        begin = time.monotonic()
        assert cli.main(["knock", "127.0.0.1", "--format", "sequence", *words, "--delay", "20", "--quiet"]) == 0
        assert time.monotonic() - begin >= 0.04
        assert [one.recv(16) for one in ports] == [b"\0"] * 3


def test_a_tcp_step_is_a_connection_that_is_begun_and_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        assert cli.main(["knock", "127.0.0.1", "--format", "sequence", str(server.getsockname()[1]), "9"]) == 0
        with server.accept()[0] as stream:
            assert stream.recv(1) == b""


def test_a_sequence_can_be_a_file_whose_second_line_closes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "steps"
    file.write_text("9/udp 9/udp 9/udp\n9/udp\n")
    words = ["knock", "127.0.0.1", "--format", "sequence", "--key-file", str(file)]
    assert cli.main(words) == 0
    assert "a sequence of 3 ports" in capsys.readouterr().out
    assert cli.main([*words, "--close"]) == 0
    assert "a sequence of 1 ports" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "no steps are named"),
        (("7000", "--close"), "--close: the steps that are named are knocked at"),
        (("7000", "--ttl", "1h"), "--ttl is not for --format sequence"),
        (("7000", "--source", "192.0.2.1"), "a sequence opens for the address that it comes from"),
        (("7000", "--port", "9"), "--port is not for --format sequence"),
        (("7000", "--access", "tcp/22"), "--access is not for --format sequence"),
    ],
)
def test_what_makes_no_sense_with_a_sequence_is_refused(
    words: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["knock", "127.0.0.1", "--format", "sequence", *words]) == 1
    assert error in capsys.readouterr().err


def test_an_ordinary_knock_imports_none_of_it() -> None:
    program = "import sys; from gatekeeper.cli import knocking; print([one for one in sys.modules if 'fwknop' in one])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
