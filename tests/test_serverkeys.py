"""The server's own keys: made once, kept, and where the rules name one, that one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from gatekeeper import serverkeys
from gatekeeper.errors import KeyFileError
from gatekeeper.sealed import keys
from gatekeeper.settings import Client, Ports, Rules, ServerKey, Service, Transport

CURRENT, OLD = bytes([1]) * 32, bytes([2]) * 32


def rules(*server_keys: ServerKey, clients: Iterable[bytes] = ()) -> Rules:
    return Rules(
        services={"ssh": Service("ssh", (Ports(Transport.TCP, 22),), 3600)},
        clients={f"c{n}": Client(name=f"c{n}", services=("ssh",), keys=(key,)) for n, key in enumerate(clients)},
        server_keys=server_keys,
    )


def test_a_key_is_made_at_the_first_start_and_kept_at_the_second(tmp_path: Path) -> None:
    (made,) = serverkeys.load(rules(), tmp_path)
    assert made.until is None
    assert stat.S_IMODE((tmp_path / "server.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["server.key"]
    assert serverkeys.load(rules(), tmp_path) == (made,)
    assert serverkeys.current(rules(), tmp_path) == keys.public_of(made.private)


def test_the_rules_key_wins_and_then_none_is_made(tmp_path: Path) -> None:
    named = rules(ServerKey(CURRENT), ServerKey(OLD, 2e9))
    assert serverkeys.load(named, tmp_path) == named.server_keys
    assert serverkeys.current(named, tmp_path) == keys.public_of(CURRENT)
    assert list(tmp_path.iterdir()) == []
    serverkeys.load(rules(), tmp_path)
    assert serverkeys.load(named, tmp_path) == named.server_keys
    assert serverkeys.current(named, tmp_path) == keys.public_of(CURRENT)


def test_old_keys_of_the_rules_stand_behind_the_state_directorys(tmp_path: Path) -> None:
    with_old = rules(ServerKey(OLD, 2e9))
    first, second = serverkeys.load(with_old, tmp_path)
    assert first.until is None
    assert second == ServerKey(OLD, 2e9)
    assert serverkeys.current(with_old, tmp_path) == keys.public_of(first.private)


def test_a_client_with_the_servers_key_is_refused(tmp_path: Path) -> None:
    (made,) = serverkeys.load(rules(), tmp_path)
    public = keys.public_of(made.private)
    with pytest.raises(KeyFileError, match="client c1 has the key of the server") as failure:
        serverkeys.load(rules(clients=[keys.public_of(OLD), public]), tmp_path)
    assert failure.value.hint is not None
    assert "gatekeeper join" in failure.value.hint


def test_an_old_key_that_is_the_current_one_is_refused(tmp_path: Path) -> None:
    (made,) = serverkeys.load(rules(), tmp_path)
    with pytest.raises(KeyFileError, match="is one of old_keys of the rules too") as failure:
        serverkeys.load(rules(ServerKey(made.private, 2e9)), tmp_path)
    assert failure.value.hint is not None
    assert keys.show(made.private) not in f"{failure.value.message}{failure.value.hint}"


def test_before_the_first_start_it_is_told_what_makes_the_key(tmp_path: Path) -> None:
    for state in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(KeyFileError, match="the server has no key yet") as failure:
            serverkeys.current(rules(), state)
        assert failure.value.hint is not None
        assert "gatekeeper run" in failure.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_cannot_be_used_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    path.write_text("rubbish\n")
    path.chmod(0o600)
    for ask in (serverkeys.load, serverkeys.current):
        with pytest.raises(KeyFileError, match="is not a private key"):
            ask(rules(), tmp_path)
    path.chmod(0o644)
    for ask in (serverkeys.load, serverkeys.current):
        with pytest.raises(KeyFileError, match="other users"):
            ask(rules(), tmp_path)
    path.unlink()
    path.symlink_to("nowhere")
    for ask in (serverkeys.load, serverkeys.current):
        with pytest.raises(KeyFileError, match="cannot read the key"):
            ask(rules(), tmp_path)


def test_a_state_directory_that_one_may_not_look_into_is_an_error_and_no_bug(tmp_path: Path) -> None:
    """What `run` makes is root's, mode 700. Seen by another user (here: by root without rights)."""
    state, file = tmp_path / "state", tmp_path / "rules.yaml"
    state.mkdir()
    serverkeys.load(rules(), state)
    file.write_text("services: {ssh: {port: tcp/22}}\n")
    state.chmod(0o000)
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
    ask = ["-m", "gatekeeper", "pubkey", "--server", "--rules", str(file), "--state-dir", str(state)]
    try:
        done = subprocess.run([*drop, sys.executable, *ask], capture_output=True, text=True, check=False)
    finally:
        state.chmod(0o700)
    assert done.returncode == 1, done.stderr
    assert done.stderr == f"gatekeeper: error: cannot read the key {state / 'server.key'}: Permission denied\n"
