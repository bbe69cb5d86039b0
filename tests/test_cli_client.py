"""The client's commands from invite to knock: what they write, what they print, and how they say what is wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from gatekeeper import cli, hand, keyfiles
from gatekeeper import rules as rules_file
from gatekeeper.allowlist import Allowlist
from gatekeeper.cli import client, knocking
from gatekeeper.client import invite, profile
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.knocks.fwknop import stamp_key
from gatekeeper.model import Admit, Datagram, Decision, Grant, Reason, Revoke, Stamp, Wanted
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys
from gatekeeper.settings import FwknopKeys, Rules, ServerKey
from gatekeeper.store.sqlite import SqliteStore

SERVER = bytes([1]) * 32
SERVER_PUBLIC = keys.show(keys.public_of(SERVER))
LAPTOP = bytes([2]) * 32
LAPTOP_PUBLIC = keys.show(keys.public_of(LAPTOP))
SERVICES = "services: {ssh: {port: tcp/22, ttl: 1h}, web: {port: tcp/443}}\n"


class Result:
    """What a command printed, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Call = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the client's configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "config" / "gatekeeper"


@pytest.fixture
def call(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Call a command; in the end, no private key that lies in a file was in any output."""
    shown: list[str] = []

    def run(*words: object) -> Result:
        status = cli.main([str(word) for word in words])
        result = Result(status, *capsys.readouterr())
        shown.append(result.out + result.err)
        return result

    yield run
    assert home.parent.parent == tmp_path
    secrets = [keys.show(SERVER), keys.show(LAPTOP)]
    secrets += [path.read_text().strip() for path in tmp_path.rglob("*.key") if path.is_file()]
    for secret in filter(None, secrets):
        assert secret not in "".join(shown)


def failed(result: Result, message: str, hint: str | None) -> None:
    """Check that a command said what is wrong in one line, and what to do in one more at the most."""
    lines = result.err.splitlines()
    assert (result.status, result.out) == (1, ""), result.err
    assert lines[0].startswith("gatekeeper: error: "), result.err
    assert message in lines[0]
    assert len(lines) == (1 if hint is None else 2), result.err
    if hint is not None:
        assert lines[1].startswith("gatekeeper: hint: ")
        assert hint in lines[1]


@pytest.fixture
def server(tmp_path: Path) -> list[str]:
    """Return the arguments that name a server's rules and state directory; it has a key."""
    state = tmp_path / "server"
    state.mkdir()
    keyfiles.write(str(state / "server.key"), SERVER)
    rules = tmp_path / "rules.yaml"
    rules.write_text(SERVICES)
    return ["--rules", str(rules), "--state-dir", str(state)]


def clients(server: list[str], text: str) -> None:
    """Put clients into the server's rules."""
    Path(server[1]).write_text(f"{SERVICES}clients:\n{text}")


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A socket where knocks arrive."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(5)
        yield one


def judge(port: socket.socket, rules: Rules) -> Decision:
    """Ask the gate about the knock that has arrived (and forget the others)."""
    payload, (address, source_port) = port.recvfrom(2048)
    rest(port)
    now = time.time()
    replays = ReplayMemory()
    gate = Gate(rules, enabled(rules, (ServerKey(SERVER),), now=now), Allowlist(()), replays=replays)
    here = ip_address("127.0.0.1")
    return gate.judge(Datagram(ip_address(address), here, source_port, rules.knock_ports[0], payload), now=now)


def rest(port: socket.socket) -> list[bytes]:
    """Return what else has arrived."""
    found = []
    port.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(port.recv(2048))
    port.settimeout(5)
    return found


def rules_for(more: str = "services: [ssh, web]") -> Rules:
    text = f"{SERVICES}clients: {{laptop: {{key: {LAPTOP_PUBLIC}, {more}}}}}"
    return rules_file.parse(text.encode(), file="x", read_key=lambda _: b"")[0]


def join_by_hand(port: socket.socket, *, name: str = "gate", host: str = "localhost", bind: bool = False) -> None:
    """Make a profile for the knock socket."""
    identity = profile.identity_of(name)
    os.makedirs(os.path.dirname(identity))  # noqa: PTH103, PTH120  (as the client names it)
    keyfiles.write(identity, LAPTOP)
    profile.save(
        name,
        profile.Profile(
            host=host,
            server_key=keys.public_of(SERVER),
            identity=identity,
            port=port.getsockname()[1],
            services=("ssh", "web"),
            bind=bind,
        ),
    )


# -- keygen, pubkey


def test_keygen_writes_a_key_for_its_owner_and_prints_its_public_half(call: Call, home: Path, tmp_path: Path) -> None:
    for words, path in (([], home / "identity.key"), ([tmp_path / "my.key"], tmp_path / "my.key")):
        done = call("keygen", *words)
        assert (done.status, done.err) == (0, "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert done.out == keys.show(keys.public_of(keyfiles.read(str(path)))) + "\n"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_keygen_never_overwrites(call: Call, home: Path) -> None:
    call("keygen")
    before = (home / "identity.key").read_text()
    failed(call("keygen"), f"{home / 'identity.key'} exists, and is not overwritten", "name another file")
    failed(call("keygen", home / "identity.key"), "exists, and is not overwritten", "name another file")
    assert (home / "identity.key").read_text() == before
    failed(call("keygen", home / "nowhere" / "a.key"), "cannot write the key", None)
    failed(call("keygen", ""), "a private key goes into a file", "gatekeeper keygen FILE")
    failed(call("keygen", "-"), "a private key goes into a file", "gatekeeper keygen FILE")


def test_pubkey_reads_a_file_standard_input_or_the_default(
    call: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = call("keygen").out
    assert call("pubkey").out == made
    assert call("pubkey", home / "identity.key").out == made
    keyfiles.write(str(tmp_path / "l.key"), LAPTOP)
    assert call("pubkey", tmp_path / "l.key").out == LAPTOP_PUBLIC + "\n"
    for end in ("", "\n"):
        (tmp_path / "input").write_text(keys.show(LAPTOP) + end)
        with (tmp_path / "input").open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            assert call("pubkey", "-").out == LAPTOP_PUBLIC + "\n"


def test_pubkey_tells_what_is_wrong(call: Call, home: Path, tmp_path: Path) -> None:
    failed(call("pubkey"), f"cannot read the key {home / 'identity.key'}: No such file", "gatekeeper keygen")
    failed(call("pubkey", tmp_path), "Is a directory", None)
    path = tmp_path / "a.key"
    path.write_text("correct horse battery staple")
    path.chmod(0o600)
    done = call("pubkey", path)
    failed(done, "is not a private key: a key is 44 characters", "wg genkey")
    assert "horse" not in done.err
    path.chmod(0o640)
    failed(call("pubkey", path), "can be read or written by other users", "chmod 600")


@pytest.mark.parametrize(
    ("redirection", "words"),
    [
        ("<&-", "a key is 44 characters of base64, not 0"),
        ("</dev/null", "a key is 44 characters of base64, not 0"),
        ("</dev/zero", "a key is 44 characters of base64, not 4096"),
        ("<rubbish", ""),
    ],
)
def test_pubkey_of_a_standard_input_of_no_use_is_an_error_and_no_bug(
    tmp_path: Path, redirection: str, words: str
) -> None:
    (tmp_path / "rubbish").write_bytes(b"\xff" * 44)
    argv = ["sh", "-c", f'ulimit -v 2000000; exec "$0" -m gatekeeper pubkey - {redirection}', sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=20)
    result = Result(done.returncode, done.stdout, done.stderr)
    failed(result, f"standard input is not a private key: {words}", None)


def test_pubkey_of_the_server_is_the_rules_key_or_the_state_directorys(call: Call, server: list[str]) -> None:
    assert call("pubkey", "--server", *server).out == SERVER_PUBLIC + "\n"
    other = Path(server[1]).with_name("other.key")
    keyfiles.write(str(other), LAPTOP)
    Path(server[1]).write_text(f"{SERVICES}server: {{key_file: other.key}}\n")
    assert call("pubkey", "--server", *server).out == LAPTOP_PUBLIC + "\n"
    failed(call("pubkey", "--server", "x", *server), "--server takes no FILE", "--state-dir")


def test_a_server_without_a_key_says_what_makes_it(call: Call, server: list[str]) -> None:
    (Path(server[3]) / "server.key").unlink()
    hint = "`gatekeeper run` makes it"
    failed(call("pubkey", "--server", *server), "the server has no key yet", hint)
    failed(call("invite", "a", "--host", "h", "--service", "ssh", *server), "the server has no key yet", hint)


# -- invite, join


def test_from_invite_to_open_door(call: Call, server: list[str], port: socket.socket) -> None:
    """All of it: the invite joins, the line goes into the rules, and what knocks then is let in."""
    number = port.getsockname()[1]
    Path(server[1]).write_text(f"{SERVICES}knock: {{port: udp/{number}}}\n")
    invited = call("invite", "joe@laptop", "--host", "localhost", "--service", "ssh", *server)
    assert invited.status == 0
    text = invited.out.strip()
    assert invite.parse(text).server_key == keys.public_of(SERVER)
    assert invited.err == f"on the device: gatekeeper join {text}\n"
    joined = call("join", text)
    assert joined.status == 0, joined.err
    (line,) = re.findall(r"^  joe@laptop: \{key: \S{44}, services: \[ssh\]\}$", joined.out, re.MULTILINE)
    Path(server[1]).write_text(f"{SERVICES}knock: {{port: udp/{number}}}\nclients:\n{line}\n")
    checked = call("check", *server[:2])
    assert (checked.status, checked.err) == (0, "")
    assert checked.out.endswith("ok (2 services, 1 client)\n")
    knocked = call("knock", "localhost")
    assert knocked.status == 0, knocked.err
    assert f"127.0.0.1 (udp/{number})" in knocked.out.replace("::1, ", "")
    found, _ = rules_file.load(Path(server[1]))
    decision = judge(port, found)
    assert (decision.reason, decision.client) == (Reason.OPENED, "joe@laptop")


INVITE = f"gatekeeper://gate.example:4000/laptop/{SERVER_PUBLIC.translate(str.maketrans('+/', '-_'))[:-1]}/ssh,web"


def test_join_makes_a_profile_and_a_key_and_prints_the_line_for_the_rules(call: Call, home: Path) -> None:
    done = call("join", INVITE)
    assert (done.status, done.err) == (0, "")
    key = home / "keys" / "gate.example.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    public = keys.show(keys.public_of(keyfiles.read(str(key))))
    assert f"\n  laptop: {{key: {public}, services: [ssh, web]}}\n" in done.out
    assert f"key made: {key} (it never leaves this device)" in done.out
    assert done.out.endswith("\nThen, here: gatekeeper knock gate.example\n")
    found = profile.find("gate.example")
    assert found is not None
    assert (found.port, found.services, found.identity) == (4000, ("ssh", "web"), str(key))


def test_a_second_join_of_the_same_host_is_an_error_and_loses_nothing(call: Call, home: Path) -> None:
    call("join", INVITE)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert len(before) == 2
    failed(call("join", INVITE), "there is a profile gate.example already", "choose another with --name")
    failed(call("join", INVITE.replace("4000", "5000")), "already", "--name")
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert call("join", INVITE, "--name", "other").status == 0
    assert {path: path.read_bytes() for path in before} == before
    assert (home / "keys" / "other.key").read_bytes() not in before.values()


def test_join_takes_a_name_and_a_key_of_ones_own(
    call: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyfiles.write(str(tmp_path / "mine.key"), LAPTOP)
    monkeypatch.chdir(tmp_path)
    done = call("join", INVITE, "--name", "work", "--identity", "mine.key")
    assert f"key found: {tmp_path / 'mine.key'}" in done.out
    assert LAPTOP_PUBLIC in done.out
    found = profile.find("work")
    assert found is not None
    assert found.identity == str(tmp_path / "mine.key")
    assert not (home / "keys").exists()
    assert "key made" in call("join", INVITE, "--name", "play", "--identity", "new.key").out
    assert (tmp_path / "new.key").exists()


def test_join_of_an_ipv6_address_has_a_name_that_is_a_file(call: Call, home: Path) -> None:
    done = call("join", INVITE.replace("gate.example", "[2001:db8::1]"))
    assert done.out.endswith("gatekeeper knock 2001-db8--1\n")
    assert (home / "profiles" / "2001-db8--1.conf").exists()
    assert profile.find("2001:db8::1") is not None


def test_join_of_the_shortest_address_has_a_name_too(call: Call) -> None:
    assert call("join", INVITE.replace("gate.example", "[::1]")).out.endswith("gatekeeper knock 1\n")
    assert call("join", INVITE.replace("gate.example", "[::]")).out.endswith("gatekeeper knock server\n")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["gatekeeper://x"], "this is not an invite: a part of it is missing", "copy the whole line"),
        ([INVITE, "--name", "../x"], "a profile cannot be named '../x'", "letters, digits"),
        ([INVITE, "--identity", "rubbish"], "is not a private key", "gatekeeper keygen"),
        ([INVITE, "--identity", "open"], "can be read or written by other users", "chmod 600"),
        ([INVITE, "--identity", "rubbish/x"], "cannot make the folder", None),
        ([INVITE, "--identity", "new\n"], "cannot be written in a line", "line break"),
    ],
)
def test_a_join_that_fails_leaves_no_profile(
    call: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str,
    hint: str | None,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name, mode in (("rubbish", 0o600), ("open", 0o644)):
        (tmp_path / name).write_text("rubbish")
        (tmp_path / name).chmod(mode)
    failed(call("join", *words), message, hint)
    assert not (home / "profiles").exists()


def test_invite_takes_the_services_of_a_client_that_is_in_the_rules(call: Call, server: list[str]) -> None:
    clients(server, f"  laptop: {{key: {LAPTOP_PUBLIC}, services: [web], bind: required}}\n")
    found = invite.parse(call("invite", "laptop", "--host", "2001:db8::1", *server).out)
    assert (found.client, found.services, found.bind, found.ack) == ("laptop", ("web",), True, False)
    assert (found.host, found.port) == ("2001:db8::1", 62201)
    again = call("invite", "laptop", "--host", "h", "--service", "ssh", "--service", "web", *server)
    assert invite.parse(again.out).services == ("ssh", "web")


def test_invite_tells_the_port_and_whether_the_server_answers(call: Call, server: list[str]) -> None:
    Path(server[1]).write_text(f"{SERVICES}knock: {{port: udp/4000, ack: true}}\n")
    found = invite.parse(call("invite", "a", "--host", "h", "--service", "ssh", *server).out)
    assert (found.port, found.ack, found.bind) == (4000, True, False)


def test_invite_prints_a_qr_code_to_standard_output(call: Call, server: list[str]) -> None:
    done = call("invite", "a", "--host", "h", "--service", "ssh", "--qr", *server)
    first, *code = done.out.splitlines()
    assert invite.parse(first).host == "h"
    assert len(code) > 15
    assert set("".join(code)) & set("█▀▄")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["a", "--host", "h", "--service", "shh"], "there is no service 'shh'", 'did you mean "ssh"?'),
        (["a", "--host", "h"], "which services may 'a' open?", "--service"),
        (["(admin)", "--host", "h", "--service", "ssh"], "'(admin)' cannot be the name of a client", None),
        (["a", "--host", "a b", "--service", "ssh"], "'a b' is not the name or address of a host", None),
        (["a", "--host", "", "--service", "ssh"], "'' is not the name or address of a host", None),
    ],
)
def test_an_invite_that_cannot_be_is_an_error(
    call: Call, server: list[str], words: list[str], message: str, hint: str | None
) -> None:
    failed(call("invite", *words, *server), message, hint)


# -- knock


def test_a_knock_goes_by_the_name_of_a_profile_or_by_its_host(call: Call, port: socket.socket) -> None:
    join_by_hand(port)
    for target in ("gate", "localhost", "LOCALHOST"):
        done = call("knock", target)
        assert (done.status, done.err) == (0, "")
        decision = judge(port, rules_for())
        assert decision.reason is Reason.OPENED
        assert isinstance(decision.effect, Admit)
        assert [grant.service for grant in decision.effect.grants] == ["ssh", "web"]


def test_a_knock_needs_no_profile_where_the_keys_are_named(call: Call, port: socket.socket, tmp_path: Path) -> None:
    identity = tmp_path / "l.key"
    keyfiles.write(str(identity), LAPTOP)
    keyed = ["--server-key", SERVER_PUBLIC, "--port", port.getsockname()[1]]
    done = call("knock", "127.0.0.1", "--identity", identity, *keyed)
    assert done.out == f"knocked at 127.0.0.1 (udp/{port.getsockname()[1]})\n"
    assert judge(port, rules_for()).reason is Reason.OPENED
    failed(call("knock", "127.0.0.1", *keyed), "cannot read the key", "gatekeeper keygen")
    call("keygen")
    assert call("knock", "127.0.0.1", "--quiet", *keyed).out == ""
    assert judge(port, rules_for()).reason is Reason.UNKNOWN_CLIENT


def test_what_a_knock_asks_for_is_what_its_options_say(call: Call, port: socket.socket) -> None:
    join_by_hand(port)
    others = rules_for("services: [ssh, web], for_others: true, bind: required")
    call("knock", "gate", "--service", "web", "--ttl", "5m")
    decision = judge(port, others)
    assert isinstance(decision.effect, Admit)
    (grant,) = decision.effect.grants
    assert grant.service == "web"
    assert grant.expires_at == pytest.approx(time.time() + 300, abs=5)
    call("knock", "gate", "--close")
    assert isinstance(judge(port, others).effect, Revoke)
    call("knock", "gate", "--source", "192.0.2.7")
    effect = judge(port, others).effect
    assert isinstance(effect, Admit)
    assert {str(grant.source) for grant in effect.grants} == {"192.0.2.7/32"}
    call("knock", "gate", "--source", "none")
    assert judge(port, others).reason is Reason.ADDRESS_MISSING


def test_a_profile_of_a_client_that_must_bind_names_its_address(call: Call, port: socket.socket) -> None:
    join_by_hand(port, bind=True)
    call("knock", "gate")
    assert judge(port, rules_for("services: [ssh], bind: required")).reason is Reason.OPENED


def test_a_stamp_that_cannot_be_kept_is_a_warning(call: Call, port: socket.socket, tmp_path: Path) -> None:
    join_by_hand(port)
    (tmp_path / "state").write_text("a file in place of the folder")
    done = call("knock", "gate")
    assert done.status == 0
    (line,) = done.err.splitlines()
    assert line.startswith("gatekeeper: warning: the time of this knock cannot be kept")
    assert judge(port, rules_for()).reason is Reason.OPENED


def test_knock_waits_until_the_port_answers(call: Call, port: socket.socket) -> None:
    join_by_hand(port, host="127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as service:
        done = call("knock", "gate", "--wait", f"tcp/{service.getsockname()[1]}")
    assert done.status == 0, done.err
    assert re.search(r"^tcp/\d+ answered after \d+\.\d ms$", done.out, re.MULTILINE)
    assert judge(port, rules_for()).reason is Reason.OPENED


def test_a_server_that_gives_no_answer_is_told(call: Call, port: socket.socket) -> None:
    """Nothing listens there any more, so there is nothing to wait for."""
    join_by_hand(port, host="127.0.0.1")
    port.close()
    done = call("knock", "gate", "--ack")
    assert done.out.startswith("knocked at 127.0.0.1")
    failed(Result(done.status, "", done.err), "127.0.0.1 did not answer 3 knocks", "ack: true")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["nowhere"], "there is no profile 'nowhere'", "gatekeeper join"),
        (["../profiles/gate"], "there is no profile", "gatekeeper join"),
        (["\udcff\x1b[31m"], "there is no profile '\\udcff\\x1b[31m'", "gatekeeper join"),
        (["gate", "--service", "db"], "this profile has no service 'db'", "it has: ssh, web"),
        (["gate", "--ttl", "soon"], '--ttl: "soon" is not a duration', "write 30s"),
        (["gate", "--ttl", "0s"], "means nothing", "write 30s"),
        (["gate", "--identity", "nowhere.key"], "cannot read the key nowhere.key: No such file", "keygen"),
        (["h", "--server-key", "x", "--identity", "y"], "--server-key: a key is 44 characters", "--server"),
        (["h", "--server-key", keys.show(bytes(32))], "low order", "gatekeeper pubkey --server"),
        (["h", "--server-key", SERVER_PUBLIC], "cannot read the key", "gatekeeper keygen"),
        (["lost"], "cannot find lost.invalid", "check the name"),
        (["broken"], "broken.conf cannot be used: line 1", "mend it"),
    ],
)
def test_a_knock_that_cannot_be_is_an_error_with_a_hint(
    call: Call, home: Path, port: socket.socket, words: list[str], message: str, hint: str
) -> None:
    join_by_hand(port)
    lost = (home / "profiles" / "gate.conf").read_text().replace("localhost", "lost.invalid")
    (home / "profiles" / "lost.conf").write_text(lost)
    if words == ["broken"]:
        (home / "profiles" / "broken.conf").write_text("rubbish")
    failed(call("knock", *words), message, hint)
    port.settimeout(0)
    with pytest.raises(BlockingIOError):
        port.recv(1)


def test_a_key_that_others_can_read_is_not_used(call: Call, port: socket.socket) -> None:
    join_by_hand(port)
    Path(profile.identity_of("gate")).chmod(0o644)
    failed(call("knock", "gate"), "can be read or written by other users", "chmod 600")


def test_a_clock_that_was_never_set_is_an_error(
    call: Call, port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    join_by_hand(port, host="127.0.0.1")
    monkeypatch.setattr("time.time_ns", lambda: 5)
    failed(call("knock", "gate"), "this machine's clock says 1970-01-01", "set it")


@pytest.mark.parametrize(
    "words",
    [["--ttl"], ["--source", "here"], ["--source", "192.0.2.0/24"], ["--source", ""], ["--wait", "udp/22"],
     ["--wait", "tcp/0"], ["--wait", "ssh"], ["--wait", "22x"], ["--port", "65536"], ["--port", "9" * 5000],
     ["--timeout", "0"], ["--timeout", "nan"], ["--timeout", "inf"], ["--timeout", "soon"], ["--timeout", "-1"]],
    ids=lambda words: " ".join(words)[:20],
)  # fmt: skip
def test_values_that_mean_nothing_are_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["knock", "gate", *words])
    assert stop.value.code == 2
    assert f"error: argument {words[0]}: " in capsys.readouterr().err


# -- connect


def gatekeeper(*words: object, **more: object) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "gatekeeper", *map(str, words)]
    return subprocess.Popen(argv, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.usefixtures("home")
def test_connect_knocks_and_joins_the_connection_to_standard_input_and_output(port: socket.socket) -> None:
    join_by_hand(port, host="127.0.0.1")

    def echo(service: socket.socket) -> None:
        with service.accept()[0] as one:
            while chunk := one.recv(1000):
                one.sendall(chunk.upper())

    with socket.create_server(("127.0.0.1", 0)) as service:
        thread = threading.Thread(target=echo, args=(service,))
        thread.start()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with gatekeeper("connect", "127.0.0.1", service.getsockname()[1], **pipes) as process:
            assert process.communicate(b"hello", timeout=20) == (b"HELLO", b"")
            assert process.returncode == 0
        thread.join(20)
    assert judge(port, rules_for()).reason is Reason.OPENED


@pytest.mark.usefixtures("home")
def test_connect_hands_the_connection_over(port: socket.socket) -> None:
    join_by_hand(port, host="name-of-nobody.invalid")
    ssh, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as service, ssh, theirs:
        at = service.getsockname()[1]
        with gatekeeper("connect", "127.0.0.1", at, "--profile", "gate", "--fdpass", stdout=theirs) as process:
            _, (fd,), _, _ = socket.recv_fds(ssh, 1, 1)
            assert process.wait(20) == 0
        with socket.socket(fileno=fd) as got, service.accept()[0] as one:
            one.sendall(b"SSH-2.0")
            assert got.recv(100) == b"SSH-2.0"
        assert judge(port, rules_for()).reason is Reason.OPENED
        with gatekeeper(
            "connect", "127.0.0.1", at, "--profile", "gate", "--fdpass", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            out, err = process.communicate(timeout=20)
    failed(Result(process.returncode, out.decode(), err.decode()), "cannot hand over", "ProxyUseFdpass")


# -- the short way


@pytest.mark.parametrize(
    "words",
    [["knock", "gate"], ["knock", ""], ["connect", "gate", "22"], ["connect", "2001:db8::1", "65535"],
     ["connect", "gate", "007"], ["knock", "gate", "--quiet"], ["knock", "--quiet", "gate"],
     ["connect", "--fdpass", "gate", "22"], ["connect", "gate", "22", "--fdpass"]],
)  # fmt: skip
def test_the_short_way_gives_the_same_options_as_argparse(words: list[str]) -> None:
    short = knocking.short_way(words)
    assert short is not None
    parser = argparse.ArgumentParser()
    getattr(client, words[0])(parser)
    assert vars(short) == vars(parser.parse_args(words[1:]))


@pytest.mark.parametrize(
    "words",
    [["knock"], ["knock", "a", "--format", "x"], ["connect"], ["connect", "a"], ["connect", "a", "ssh"],
     ["connect", "a", "0"], ["connect", "a", "65536"], ["connect", "a", "22", "x"], ["connect", "a", ""],
     ["connect", "a", "²"], ["connect", "a", "9" * 5000]],
    ids=lambda words: " ".join(words)[:20],
)  # fmt: skip
def test_what_the_short_way_does_not_know_is_wrong_usage_by_argparse(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert f"usage: gatekeeper {words[0]} " in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_knock_imports_nothing_that_takes_long(port: socket.socket) -> None:
    join_by_hand(port, host="127.0.0.1")
    code = (
        "import sys; at_start = set(sys.modules); from gatekeeper import cli; assert cli.main(['knock', 'gate']) == 0;"
        "print(sorted(set(sys.modules) - at_start))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1].replace("'", '"')))
    assert "gatekeeper.client.knocker" in modules
    heavy = {"yaml", "scapy", "netfilterqueue", "sqlite3", "argparse", "json", "typing", "dataclasses", "pathlib",
             "logging", "ipaddress", "hashlib", "inspect", "segno", "subprocess", "gatekeeper.client.ways",
             "gatekeeper.client.packets"}  # fmt: skip
    assert not modules & heavy
    assert judge(port, rules_for()).reason is Reason.OPENED


# -- reset-floor

FWKNOP = FwknopKeys(key=b"a passphrase that is long", hmac_key=b"and another one like it")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        (f"key: {LAPTOP_PUBLIC}", keys.public_of(LAPTOP)),
        ("fwknop: {key: a passphrase that is long, hmac_key: and another one like it}", stamp_key(FWKNOP)),
    ],
    ids=["sealed", "fwknop"],
)
def test_reset_floor_repairs_what_a_wrong_clock_has_done(
    call: Call, server: list[str], fields: str, key: bytes
) -> None:
    clients(server, f"  laptop: {{{fields}, services: [ssh]}}\n")
    now = time.time()
    ahead = int((now + 86_400) * 1e9)
    with closing(SqliteStore(Path(server[3]))) as store:
        grant = Grant(ip_network("192.0.2.7"), "ssh", "laptop", now + 60)
        store.commit([Admit((grant,), Stamp(key, ahead))], now=now + 86_400)
        (before,) = store.floors().values()
    assert before.floor > now * 1e9
    done = call("reset-floor", "laptop", *server)
    assert (done.status, done.out, done.err) == (0, "set back 1 replay floor of laptop to now\n", "")
    with closing(SqliteStore(Path(server[3]))) as store:
        (after,) = store.floors().values()
        (entry,) = store.trail(Wanted(reason="floor-reset"))
    assert after.floor <= time.time() * 1e9
    assert (entry.client, entry.note) == ("laptop", f"by {hand.whose()}")
    assert ahead in after.spent
    again = call("reset-floor", "laptop", *server)
    assert (again.status, again.err) == (0, "")
    assert again.out == "nothing to do: no replay floor of laptop is ahead of this clock\n"


def test_reset_floor_of_nobody_is_an_error(call: Call, server: list[str]) -> None:
    clients(server, f"  laptop: {{key: {LAPTOP_PUBLIC}, services: [ssh]}}\n")
    failed(call("reset-floor", "laptop", *server), f"no store in {server[3]}", "")
    SqliteStore(Path(server[3])).close()
    failed(call("reset-floor", "labtop", *server), "there is no client 'labtop'", 'did you mean "laptop"?')


def test_between_private_addresses_a_knock_is_sent_with_its_address_and_without(
    call: Call, port: socket.socket
) -> None:
    """There may be NAT between them, or not; and there is no second try that could find out."""
    join_by_hand(port)
    call("knock", "gate")
    assert len(rest(port)) == 2
    for source in ("none", "127.0.0.1"):
        call("knock", "gate", "--source", source)
        assert len(rest(port)) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--close", "--wait", "tcp/22"],
        ["--close", "--ttl", "1h"],
        ["--wait", "tcp/22", "--ack"],
        ["--key-file", "x", "--ttl", "1h"],
        ["--key-file", "x", "--identity", "y"],
        ["--key-file", "x", "--source", "none"],
        ["--key-file", "x", "--ack"],
        ["--service", ""],
        ["--service", "a-name-that-is-too-long"],
        ["--service", "\udcff"],
    ],
)
def test_options_that_would_be_ignored_are_refused(call: Call, port: socket.socket, words: list[str]) -> None:
    join_by_hand(port)
    done = call("knock", "gate", *words)
    assert done.status == 1
    assert done.err.startswith("gatekeeper: error: ")
    assert rest(port) == []


@pytest.mark.parametrize("words", ["knock {port} >&-", "knock {port} 2>&-", "keygen {file} >&-"])
def test_a_closed_output_is_no_bug(port: socket.socket, tmp_path: Path, words: str) -> None:
    """What was to be done is done."""
    key = tmp_path / "a.key"
    keyfiles.write(str(key), LAPTOP)
    knock = f"127.0.0.1 --identity {key} --server-key {SERVER_PUBLIC} --port {port.getsockname()[1]}"
    line = words.format(port=knock, file=tmp_path / "new.key")
    argv = ["sh", "-c", f"{sys.executable} -m gatekeeper {line}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_home_nothing_is_written_anywhere_else(tmp_path: Path) -> None:
    """No folder that is called ~, say."""
    for home in ("", "relative"):
        argv = ["env", f"HOME={home}", "XDG_CONFIG_HOME=", sys.executable, "-m", "gatekeeper", "keygen"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 1
        assert "there is no home folder" in done.stderr
        assert list(tmp_path.iterdir()) == []
