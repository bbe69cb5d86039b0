"""``--via`` and a profile's ``via``: which goes with what, what is printed, and what is refused."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers import inet

from gatekeeper import cli, keyfiles
from gatekeeper.cli import knocking
from gatekeeper.client import profile
from gatekeeper.sealed import keys, wire
from tests.client.sockets import DGRAM, RAW, Recorder

SERVER = bytes([1]) * 32
Call = Callable[..., tuple[int, str, str]]
DENIED = PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call a command; there is a plain key, and a profile for each way."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    Path("plain").write_text("open sesame\n")
    keyfiles.write("laptop.key", bytes([2]) * 32)
    public = keys.public_of(SERVER)
    for via in profile.WAYS:
        made = profile.Profile(
            host="127.0.0.1", server_key=public, identity=str(tmp_path / "laptop.key"), port=4000, via=via
        )
        made.ack = via != profile.UDP  # which these ways do not wait for
        profile.save(via, made)

    def run(*words: object) -> tuple[int, str, str]:
        status = cli.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


PLAIN = ["127.0.0.1", "--key-file", "plain"]
DIRECT = ["127.0.0.1", "--identity", "laptop.key", "--server-key", keys.show(keys.public_of(SERVER))]


@pytest.mark.parametrize(
    ("words", "printed", "kind"),
    [
        ([*PLAIN, "--via", "icmp"], "icmp echo", "plain"),
        ([*PLAIN, "--via", "syn", "--port", "22"], "a SYN to tcp/22", "plain"),
        ([*DIRECT, "--via", "icmp"], "icmp echo", "sealed"),
        ([*DIRECT, "--via", "syn", "--port", "22"], "a SYN to tcp/22", "sealed"),
        (["udp", "--via", "icmp"], "icmp echo", "sealed"),
        (["udp", "--via", "syn", "--port", "22"], "a SYN to tcp/22", "sealed"),
        (["icmp"], "icmp echo", "sealed"),
        (["icmp", "--close"], "icmp echo", "sealed"),
        (["syn", "--port", "22"], "a SYN to tcp/22", "sealed"),
        (["icmp", "--via", "syn", "--port", "22"], "a SYN to tcp/22", "sealed"),
        (["syn", "--via", "icmp"], "icmp echo", "sealed"),
    ],
)
def test_a_knock_of_either_kind_goes_by_the_way_that_is_asked_for(
    call: Call, sockets: type[Recorder], words: list[str], printed: str, kind: str
) -> None:
    assert call("knock", *words) == (0, f"knocked at 127.0.0.1 ({printed})\n", "")
    tries = 1 if kind == "plain" else 2  # between private addresses: once with its address, and once without
    assert len(sockets.sent) == tries
    for _, _, raw in sockets.sent:
        packet = inet.ICMP(raw) if printed == "icmp echo" else inet.TCP(raw)
        data = bytes(packet.payload)
        assert data == b"open sesame" if kind == "plain" else len(data) == wire.SIZE
        assert printed == "icmp echo" or packet.dport == 22


def test_udp_is_the_way_unless_something_else_is_said_and_overrides_a_profile(call: Call) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        door.settimeout(5)
        port = door.getsockname()[1]
        for words in (["udp"], ["udp", "--via", "udp"], ["icmp", "--via", "udp"], ["syn", "--via", "udp"]):
            done = call("knock", *words, "--port", port, "--source", "none", "--wait", "tcp/1", "--timeout", "0.1")
            assert done[1] == f"knocked at 127.0.0.1 (udp/{port})\n"
            assert len(door.recv(2048)) == wire.SIZE


def test_the_short_way_honours_the_profile(call: Call, sockets: type[Recorder]) -> None:
    assert knocking.short_way(["knock", "icmp"]) is not None
    assert call("knock", "icmp") == (0, "knocked at 127.0.0.1 (icmp echo)\n", "")
    assert call("knock", "icmp", "--quiet") == (0, "", "")
    assert len(sockets.sent) == 4


@pytest.mark.parametrize("words", [["syn"], ["udp", "--via", "syn"]])
def test_knock_and_wait_knocks_at_the_port_that_it_waits_for_until_it_answers(
    call: Call, sockets: type[Recorder], words: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        status, out, err = call("knock", *words, "--wait", f"tcp/{port}")
        assert (status, err) == (0, "")
        assert re.fullmatch(rf"knocked at 127\.0\.0\.1 \(a SYN to tcp/{port}\)\ntcp/{port} answered .*\n", out)
        assert call("knock", *words, "--wait", f"tcp/{port}", "--port", "22", "--quiet")[0] == 0
    assert [inet.TCP(raw).dport for _, _, raw in sockets.sent] == [port, 22]


@pytest.mark.parametrize("words", [["icmp"], ["syn"]])
def test_every_further_knock_of_a_connect_goes_the_same_way(
    call: Call, sockets: type[Recorder], words: list[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        status, _, err = call("connect", "127.0.0.1", port, "--profile", *words)
    assert status == 1
    assert "connection refused" in err
    assert len(sockets.sent) > 2
    if words == ["syn"]:
        assert {inet.TCP(raw).dport for _, _, raw in sockets.sent} == {port}


BY_UDP = "leave it out, or knock with --via udp"
NO_PORT = "a SYN knocks at a protected port, and none is named"
NAME_IT = "name it: --port N, or --wait tcp/N"
NO_ECHO_PORT = "--port: an echo request goes to no port"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["knock", "syn"], NO_PORT, NAME_IT),
        (["knock", "udp", "--via", "syn"], NO_PORT, NAME_IT),
        (["knock", "127.0.0.1", "--key-file", "-", "--via", "syn"], NO_PORT, NAME_IT),  # before it asks for a key
        (["knock", *DIRECT, "--via", "syn"], NO_PORT, NAME_IT),
        (["knock", "udp", "--via", "icmp", "--port", "22"], NO_ECHO_PORT, BY_UDP),
        (["knock", "icmp", "--port", "22"], NO_ECHO_PORT, BY_UDP),
        (["knock", *PLAIN, "--via", "icmp", "--port", "22"], NO_ECHO_PORT, BY_UDP),
        (["connect", "udp", "22", "--via", "icmp", "--port", "4000"], NO_ECHO_PORT, BY_UDP),
        (["connect", "syn", "22", "--port", "4000"], "the port that is connected to, tcp/22", BY_UDP),
        (["knock", "icmp", "--ack"], "--ack: the server's answer comes by UDP, and .* by icmp", BY_UDP),
        (["knock", "udp", "--via", "syn", "--port", "22", "--ack"], "comes by UDP, and .* by syn", BY_UDP),
    ],
    ids=lambda words: " ".join(words)[:40] if isinstance(words, list) else "",
)
def test_what_makes_no_sense_with_a_way_is_refused(
    call: Call, sockets: type[Recorder], words: list[str], message: str, hint: str
) -> None:
    status, out, err = call(*words)
    assert (status, out) == (1, "")
    assert re.fullmatch(f"gatekeeper: error: .*{message}\ngatekeeper: hint: {re.escape(hint)}\n", err)
    assert sockets.asked == []


@pytest.mark.parametrize("words", [["knock", "icmp"], ["knock", "syn", "--wait", "tcp/9"], ["connect", "syn", "9"]])
def test_what_needs_root_is_told_once_and_at_once(call: Call, sockets: type[Recorder], words: list[str]) -> None:
    sockets.refused = {DGRAM: DENIED, RAW: DENIED}
    status, out, err = call(*words)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"gatekeeper: error: sending .* needs root here\ngatekeeper: hint: run it as root .*\n", err)
    assert not os.path.exists("state")  # noqa: PTH110  (no time was spent on a knock that was not sent)


def test_another_way_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["knock", "gate"], ["connect", "gate", "22"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([*command, "--via", "pigeon"])
        assert stop.value.code == 2
        assert "argument --via: invalid choice: 'pigeon'" in capsys.readouterr().err
