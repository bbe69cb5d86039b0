"""Profiles: what is written is read again, by name and by host; what is wrong is told; nothing is overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.client import profile
from gatekeeper.client.profile import Profile
from gatekeeper.errors import ClientError
from gatekeeper.sealed import keys

SERVER = keys.public_of(bytes([1]) * 32)
KEY = keys.show(SERVER)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where profiles are kept in this test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "gatekeeper"


def one(**changes: object) -> Profile:
    fields: dict[str, object] = {"host": "gate.example", "server_key": SERVER, "identity": "/home/joe/a b=c.key"}
    return Profile(**(fields | changes))  # type: ignore[arg-type]


FULL = {"port": 4000, "services": ("ssh", "web"), "ack": True, "bind": True}


@pytest.mark.parametrize("changes", [{}, {"host": "2001:db8::1"}, FULL, {"via": "syn"}, {"identity": "/schlüssel/#1"}])
def test_what_is_saved_is_found_again(home: Path, changes: dict[str, object]) -> None:
    path = Path(profile.save("gate", one(**changes)))
    assert path == home / "profiles" / "gate.conf"
    found = profile.find("gate")
    assert found is not None
    assert vars(found) == vars(one(**changes))


@pytest.mark.usefixtures("home")
def test_a_profile_of_the_usual_way_says_nothing_of_it() -> None:
    """So older clients can read it."""
    assert "via" not in Path(profile.save("gate", one())).read_text()
    assert Path(profile.save("other", one(via="icmp"))).read_text().endswith("\nvia = icmp\n")


def test_profiles_are_for_their_owner_alone(home: Path) -> None:
    path = Path(profile.save("gate", one()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert home.is_dir()


def test_a_profile_is_found_by_its_name_first_and_by_its_host_then(home: Path) -> None:
    assert profile.find("gate.example") is None
    profile.save("work", one(port=1))
    profile.save("home", one(host="other.example", port=2))
    profile.save("other.example", one(host="third.example", port=3))
    (home / "profiles" / "notes.txt").write_text("not a profile")
    ports = {"work": 1, "gate.example": 1, "GATE.Example": 1, "home": 2, "other.example": 3, "third.example": 3}
    for name, port in ports.items():
        found = profile.find(name)
        assert found is not None, name
        assert found.port == port, name
    for name in ("gate", "Work", "", "notes", "../profiles/work", "/etc/passwd", "notes.txt"):
        assert profile.find(name) is None, name


def test_a_broken_profile_is_in_nobodys_way_but_its_own(home: Path) -> None:
    profile.save("gate", one())
    (home / "profiles" / "a.conf").write_text("rubbish\n")
    assert profile.find("gate.example") is not None
    with pytest.raises(ClientError, match=r"a\.conf"):
        profile.find("other.example")


def test_a_profile_is_never_overwritten(home: Path) -> None:
    profile.save("gate", one(port=1))
    with pytest.raises(ClientError, match="there is a profile gate already") as failure:
        profile.save("gate", one(port=2))
    assert failure.value.hint is not None
    assert "--name" in failure.value.hint
    (home / "profiles" / "link.conf").symlink_to("nowhere")
    with pytest.raises(ClientError, match="already"):
        profile.save("link", one())
    found = profile.find("gate")
    assert found is not None
    assert found.port == 1
    assert not (home / "profiles" / "nowhere").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "-a", "a b", "a\n", "a\0", "ä", "x" * 129, "@", "::1"]
)
def test_a_name_that_is_no_file_of_ours_is_refused(home: Path, name: str) -> None:
    with pytest.raises(ClientError, match="a profile cannot be named") as failure:
        profile.save(name, one())
    assert failure.value.message.isprintable()
    assert not home.exists()


@pytest.mark.parametrize("name", ["a", "0", "gate.example", "joe@gate_1-2", "x" * 128, "192.0.2.1", "2001-db8--1"])
def test_names_that_are_good(home: Path, name: str) -> None:
    assert Path(profile.save(name, one())).parent == home / "profiles"
    assert profile.find(name) is not None


@pytest.mark.parametrize("identity", ["/home/a\nport = 1", "/home/a\rb", "/home/\udcff", "/home/\x1b[31m", "/k "])
def test_a_file_name_that_does_not_fit_in_a_line_is_refused(home: Path, identity: str) -> None:
    with pytest.raises(ClientError, match="cannot be written in a line"):
        profile.save("gate", one(identity=identity))
    assert not home.exists()


def test_a_folder_that_cannot_be_made_is_told(home: Path) -> None:
    home.parent.write_text("a file in its place")
    with pytest.raises(ClientError, match="cannot make the folder"):
        profile.save("gate", one())
    assert profile.find("gate") is None


def test_without_the_variable_or_with_a_relative_one_it_is_below_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = str(tmp_path / ".config" / "gatekeeper" / "identity.key")
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert profile.default_identity() == expected
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert profile.default_identity() == expected
    assert profile.identity_of("gate") == str(tmp_path / ".config" / "gatekeeper" / "keys" / "gate.key")


# -- what people write


def write(home: Path, content: bytes) -> None:
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "gate.conf").write_bytes(content)


def test_a_profile_may_be_written_by_hand(home: Path) -> None:
    write(home, f"\n  # mine\nhost=gate.example\r\n\tserver_key =  {KEY}  \nidentity= /k\nidentity = /l\n".encode())
    found = profile.find("gate")
    assert found is not None
    assert vars(found) == vars(one(identity="/l"))


@pytest.mark.parametrize("via", ["udp", "icmp", "syn"])
def test_a_profile_may_say_how_its_knocks_travel(home: Path, via: str) -> None:
    write(home, f"{NEEDED}via = {via}\n".encode())
    found = profile.find("gate")
    assert found is not None
    assert found.via == via


NEEDED = f"host = h\nserver_key = {KEY}\nidentity = /k\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no host"),
        (f"host = h\nidentity = /k\nserver_key = {KEY[:-1]}\n", "44 characters of base64, not 43"),
        (f"host = h\nidentity = /k\nserver_key = {keys.show(bytes(32))}\n", "of low order"),
        (f"host = h\nserver_key = {KEY}\n", "there is no identity"),
        ("host = h\nidentity = /k\n", "there is no server_key"),
        (NEEDED + "host =\n", "there is no host"),
        (NEEDED + "hots = h\n", "line 4: 'hots = h' is not one of host, port"),
        (NEEDED + "\n[other]\n", r"line 5: '\[other\]' is not one of"),
        (NEEDED + "\x1b[31m = 1\n", r"line 4: '\\x1b\[31m = 1' is not"),
        (NEEDED + "port = 0\n", "'0' is not a port"),
        (NEEDED + "port = 65536\n", "'65536' is not a port"),
        (NEEDED + "port = udp/62201\n", "'udp/62201' is not a port"),
        (NEEDED + f"port = {'9' * 5000}\n", "."),
        (NEEDED + "bind = true\n", "'true' is neither yes nor no"),
        (NEEDED + "ack = Yes\n", "'Yes' is neither yes nor no"),
        (NEEDED + "via = tcp\n", "'tcp' is none of udp, icmp, syn"),
        (NEEDED + "via = SYN\n", "'SYN' is none of"),
        (NEEDED + "via =\n", "there is no via"),
        (NEEDED + "host = \udcff\n", "."),
        (NEEDED + "host = a\0b\n", r"line 4: 'host = a\\x00b'"),
        (NEEDED + "identity = /\x1b[31m\n", r"line 4: 'identity = /\\x1b\[31m'"),
    ],
)
def test_a_profile_that_cannot_be_used_is_told_with_its_file(home: Path, text: str, words: str) -> None:
    write(home, text.encode(errors="surrogateescape"))
    for name in ("gate", "some.host"):
        with pytest.raises(ClientError, match=words) as failure:
            profile.find(name)
        assert failure.value.message.startswith(f"the profile {home}/profiles/gate.conf cannot be used: ")
        assert failure.value.hint == "mend it, or remove it and join again"
        assert failure.value.message.isprintable()


def test_a_profile_that_cannot_be_read_is_told(home: Path) -> None:
    (home / "profiles" / "gate.conf").mkdir(parents=True)
    with pytest.raises(ClientError, match=r"cannot read the profile .*: Is a directory"):
        profile.find("gate")


_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["host", "port", "server_key", "identity", "services", "bind", "=", " ", "\n", "#", "yes", KEY]
        ),
        st.text(max_size=5),
    ),
    max_size=30,
)


@given(_LINES)
def test_no_text_makes_reading_raise_anything_else(words: list[str]) -> None:
    try:
        profile._read("".join(words))
    except ValueError:
        return


_TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)


@given(host=_TEXT, identity=_TEXT, port=st.integers(1, 65535), ack=st.booleans(), bind=st.booleans())
def test_every_profile_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, host: str, identity: str, port: int, *, ack: bool, bind: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(folder)
    try:
        some = one(host=host, identity=identity, port=port, ack=ack, bind=bind)
        profile.save("a", some)
        found = profile.find("a")
    finally:
        os.environ.pop("XDG_CONFIG_HOME")
        if before is not None:
            os.environ["XDG_CONFIG_HOME"] = before
    assert found is not None
    assert vars(found) == vars(some)
