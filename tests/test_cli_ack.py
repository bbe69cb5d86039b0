"""``gatekeeper knock --ack``: what the client says of the server's answers, and of what is none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper import cli, rules
from gatekeeper.allowlist import Allowlist
from gatekeeper.cli import knocking
from gatekeeper.client import invite, profile
from gatekeeper.gate import Gate
from gatekeeper.knocks import enabled
from gatekeeper.model import Datagram, Decision, Reason
from gatekeeper.problems import RulesError
from gatekeeper.replay import ReplayMemory
from gatekeeper.sealed import keys, wire
from gatekeeper.settings import ServerKey
from tests.test_cli_client import SERVER, SERVER_PUBLIC, join_by_hand, rules_for

NOW = 1_764_333_240.0
"""2025-11-28 12:34:00 UTC."""


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(knocking, "_ANSWER_AFTER", (0.2, 0.2, 0.2))


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(5)
        yield one


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


def answer(result: int, ttl: int) -> wire.Answer:
    return wire.Answer(result=result, ttl=ttl)


@pytest.mark.parametrize(
    ("place", "ttl", "words"),
    [
        ("UTC", 3600, "open until 13:34"),
        ("Europe/Berlin", 3600, "open until 14:34"),
        ("UTC", 90, "open until 12:35:30"),
        ("UTC", 86400, "open until 2025-11-29 12:34"),
        ("Europe/Berlin", 11 * 3600, "open until 2025-11-29 00:34"),
        ("UTC", wire.FOREVER - 1, "open until 2162-01-04 19:02"),
        ("UTC", wire.FOREVER, "open until closed"),
    ],
)
def test_until_when_it_is_open_is_told_by_the_clock_on_the_wall(
    zone: Callable[[str], None], place: str, ttl: int, words: str
) -> None:
    zone(place)
    assert knocking._words(answer(wire.OPEN, ttl), NOW) == words
    assert knocking._words(answer(wire.CLOSE, 0), NOW) == "closed"


React = Callable[[Decision], list[bytes]]
"""Says what is sent back to a knock, as it was judged."""


@contextmanager
def serving(port: socket.socket, react: React) -> Iterator[list[Decision]]:
    """Judge the knocks that come, and react to each, until the end."""
    the_rules = replace(rules_for(), ack=True, knock_ports=(port.getsockname()[1],))
    formats = enabled(the_rules, (ServerKey(SERVER),), now=time.time())
    gate = Gate(the_rules, formats, Allowlist(()), replays=ReplayMemory())
    seen: list[Decision] = []

    def serve() -> None:
        while (got := port.recvfrom(2048))[0]:
            payload, peer = got
            address, here = ip_address(peer[0]), ip_address("127.0.0.1")
            seen.append(gate.judge(Datagram(address, here, peer[1], port.getsockname()[1], payload), now=time.time()))
            for data in react(seen[-1]):
                port.sendto(data, peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"", port.getsockname())
        thread.join(6)


def written(decision: Decision) -> list[bytes]:
    """Answer as a server does."""
    return [] if decision.answer is None else [decision.answer.write(keys.generate())]


def knock(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["knock", "gate", *words])
    return status, *capsys.readouterr()


def test_the_client_says_until_when_it_is_open_and_that_it_is_closed(
    port: socket.socket, capsys: pytest.CaptureFixture[str], zone: Callable[[str], None]
) -> None:
    zone("Asia/Tokyo")
    join_by_hand(port, host="127.0.0.1")
    with serving(port, written):
        status, out, err = knock(capsys, "--ack", "--service", "ssh")
        expected = knocking._words(answer(wire.OPEN, 3600), time.time())
        assert (status, err) == (0, "")
        assert out.splitlines()[1:] == [f"127.0.0.1 says: {expected}"]
        assert knock(capsys, "--ack", "--close")[1].splitlines()[1:] == ["127.0.0.1 says: closed"]
        assert knock(capsys, "--ack", "--quiet") == (0, "", "")
        assert knock(capsys)[1].count("\n") == 1  # who does not ask waits for nothing


def test_an_answer_that_was_lost_is_asked_for_again(port: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    join_by_hand(port, host="127.0.0.1")
    tries: list[Decision] = []

    def lose_the_first(decision: Decision) -> list[bytes]:
        tries.append(decision)
        return written(decision) if len(tries) > 1 else []

    with serving(port, lose_the_first):
        status, out, _ = knock(capsys, "--ack")
    assert status == 0
    assert "127.0.0.1 says: open until " in out
    assert len(tries) == 2


def test_what_is_forged_is_no_answer_and_is_told(port: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    """Also an answer to another client's knock, or from a server with another key."""
    join_by_hand(port, host="127.0.0.1")
    with serving(port, lambda _: [b"x", bytes(64), bytes(1200)]):
        status, _, err = knock(capsys, "--ack")
    assert status == 1
    assert "127.0.0.1 did not answer 3 knocks; what came in its place (9 datagrams) was not from the server" in err
    assert "it may be open all the same" in err


def test_a_clock_that_is_off_is_named_where_there_is_no_answer(
    port: socket.socket, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    join_by_hand(port, host="127.0.0.1")
    late = time.time() + 200
    with serving(port, written) as seen:
        monkeypatch.setattr("gatekeeper.client.stamps.time.time_ns", lambda: int(late * 1e9))
        status, _, err = knock(capsys, "--ack")
    assert status == 1
    assert {decision.reason for decision in seen} == {Reason.CLOCK_SKEW}
    assert "its log says why (is a clock off?)" in err


def test_of_two_addresses_the_one_that_says_nothing_is_named(
    port: socket.socket, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    join_by_hand(port, host="server.example")
    targets = [(socket.AF_INET6, ("::1", 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    monkeypatch.setattr("gatekeeper.client.addresses.resolve", lambda _: targets)
    with serving(port, written):
        status, out, err = knock(capsys, "--ack")
    assert status == 0
    assert "127.0.0.1 says: open until " in out
    assert err == "gatekeeper: warning: ::1 has not answered: it may be closed there, or its answer was lost\n"


@pytest.mark.parametrize("option", ["--ack", "--acknowledge"])
def test_the_older_name_of_the_option_works_and_names_the_newer(
    port: socket.socket, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    join_by_hand(port, host="127.0.0.1")
    with serving(port, written):
        status, out, err = knock(capsys, option)
    assert (status, "says: open until" in out) == (0, True)
    assert err == {"--ack": "", "--acknowledge": "gatekeeper: warning: --acknowledge is called --ack now\n"}[option]


def test_profiles_and_invites_of_before_are_read(port: socket.socket) -> None:
    join_by_hand(port)
    path = Path(profile.path_of("gate"))
    assert "ack = no\n" in path.read_text()
    path.write_text(path.read_text().replace("ack = no", "acknowledge = yes"))
    found = profile.find("gate")
    assert found is not None
    assert found.ack
    url = f"gatekeeper://h:1/laptop/{SERVER_PUBLIC.translate(str.maketrans('+/', '-_')).rstrip('=')}/ssh/"
    assert [invite.parse(url + word).ack for word in ("ack", "acknowledge,bind", "bind")] == [True, True, False]


def test_the_older_name_in_the_rules_is_a_warning_and_both_are_an_error() -> None:
    text = "services: {ssh: {port: tcp/22}}\nclients: {}\nknock: {"
    for name, words in (("ack", []), ("acknowledge", ["acknowledge is called ack now"])):
        found, warnings = rules.parse(f"{text}{name}: true}}".encode(), file="x", read_key=str.encode)
        assert found.ack
        assert [one.message for one in warnings if one.message != "no clients"] == words
    with pytest.raises(RulesError, match='"acknowledge" is an older name of "ack", which stands in knock too'):
        rules.parse(f"{text}ack: true, acknowledge: true}}".encode(), file="x", read_key=str.encode)
