"""Invites: what is written is read again; every mistake is told, and no text does more than that."""

from __future__ import annotations

import shlex
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.client import invite
from gatekeeper.client.invite import Invite
from gatekeeper.errors import ClientError
from gatekeeper.sealed import keys

SERVER = keys.public_of(bytes([1]) * 32)
KEY = keys.show(SERVER).translate(str.maketrans("+/", "-_")).rstrip("=")
GOOD = f"gatekeeper://gate.example:62201/laptop/{KEY}/ssh,web"


def test_an_invite_is_one_line_that_needs_no_quotes() -> None:
    plain = Invite("gate.example", 62201, "laptop", SERVER, ("ssh", "web"))
    text = str(plain)
    assert text.startswith("gatekeeper://gate.example:62201/laptop/")
    assert text.endswith("/ssh,web")
    assert shlex.quote(text) == text
    assert invite.parse(text) == plain


def test_options_and_an_ipv6_address_have_their_form() -> None:
    full = Invite("2001:db8::1", 4000, "joe@phone", SERVER, ("ssh",), ack=True, bind=True)
    assert str(full).startswith("gatekeeper://[2001:db8::1]:4000/joe@phone/")
    assert str(full).endswith("/ssh/ack,bind")
    assert invite.parse(str(full)) == full
    assert str(full._replace(ack=False)).endswith("/ssh/bind")


def test_an_invite_is_read_with_what_surrounds_a_copied_line() -> None:
    for text in (f" {GOOD}\n", f"{GOOD}\r\n", f"\t{GOOD}", f"{GOOD}/"):
        assert invite.parse(text) == invite.parse(GOOD)


def test_what_a_later_version_may_add_does_no_harm() -> None:
    assert invite.parse(f"{GOOD}/bind,shiny") == invite.parse(GOOD)._replace(bind=True)


def test_no_port_is_the_usual_one() -> None:
    assert invite.parse(GOOD.replace(":62201", "")) == invite.parse(GOOD)


_WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,30}", fullmatch=True)
_HOSTS = st.one_of(_NAMES, st.builds(str, st.builds(IPv4Address, st.integers(0, 2**32 - 1))),
                   st.builds(str, st.builds(IPv6Address, st.integers(0, 2**128 - 1))))  # fmt: skip
_CLIENTS = st.builds(str.__add__, st.sampled_from(_WORD), st.text(_WORD + "_.@-", max_size=63))
_SERVICES = st.builds(str.__add__, st.sampled_from(_WORD), st.text(_WORD + "_-", max_size=15))
_INVITES = st.builds(
    Invite,
    via=st.sampled_from(["udp", "icmp", "syn"]),
    host=_HOSTS,
    port=st.integers(1, 65535),
    client=_CLIENTS,
    server_key=st.binary(min_size=32, max_size=32).map(keys.public_of),
    services=st.lists(_SERVICES, min_size=1, max_size=5).map(tuple),
    ack=st.booleans(),
    bind=st.booleans(),
)


@given(_INVITES)
def test_every_invite_is_read_as_it_was_written(some: Invite) -> None:
    text = str(some)
    assert invite.parse(text) == some
    assert set(text) <= set(_WORD + "_.@-,:/[]")


MISTAKES = [
    ("", "does not look like gatekeeper://HOST:PORT/"),
    ("laptop", "does not look like"),
    (GOOD.replace("gatekeeper:", "https:"), "does not look like"),
    (GOOD.replace("gatekeeper://", ""), "does not look like"),
    (GOOD.replace("//gate", "//joe@gate"), "does not look like"),
    (GOOD + "?x=1", "does not look like"),
    (GOOD + "#x", "does not look like"),
    (GOOD[:30], "a part of it is missing"),
    (GOOD.removesuffix("/ssh,web"), "a part of it is missing"),
    (GOOD + "/bind/x", "a part of it is missing"),
    (GOOD.replace("gate.example", ""), "'' is not the name or address of a host"),
    (GOOD.replace("gate.example", "-gate"), "'-gate' is not the name"),
    (GOOD.replace("gate.example", "ga$te"), "'ga$te' is not the name"),
    (GOOD.replace("gate.example", "[2001:db8::1"), ""),
    (GOOD.replace("gate.example", "[fe80::1%eth0]"), ""),
    (GOOD.replace("gate.example", "g" * 254), "is not the name"),
    (GOOD.replace("62201", "ssh"), "ort"),
    (GOOD.replace("62201", "65536"), "ort"),
    (GOOD.replace("62201", "0"), "port"),
    (GOOD.replace("62201", "-1"), "ort"),
    (GOOD.replace("laptop", "(admin)"), "'(admin)' cannot be the name of a client"),
    (GOOD.replace("laptop", "l" * 65), "cannot be the name of a client"),
    (GOOD.replace("laptop", ".laptop"), "cannot be the name of a client"),
    (GOOD.replace(KEY, KEY[:-1]), "a key is 44 characters of base64, not 43"),
    (GOOD.replace(KEY, KEY + "="), "a key is 44 characters of base64, not 45"),
    (GOOD.replace(KEY, "*" * 43), "this is not base64"),
    (GOOD.replace(KEY, KEY[:-1] + "R"), "is not"),
    (GOOD.replace(KEY, "A" * 43), "low order"),
    (GOOD.replace(KEY, "_" * 42 + "8"), "canonical"),
    (GOOD.replace("web", ""), "'' cannot be the name of a service"),
    (GOOD.replace("web", "w" * 17), "cannot be the name of a service"),
    (GOOD.replace("web", "tcp%2f22"), "'tcp%2f22' cannot be the name of a service"),
    (GOOD.replace("gate.example", "\x1b]0;\u2100"), ""),
    (GOOD.replace("laptop", "\x1b]0;laptop"), ""),
    (GOOD.replace("gate.example", "g\u00e4te"), ""),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[f"{n}-{row[1]}" for n, row in enumerate(MISTAKES)])
def test_a_mistake_is_told_with_a_hint(text: str, words: str) -> None:
    with pytest.raises(ClientError) as failure:
        invite.parse(text)
    assert failure.value.message.startswith("this is not an invite: ")
    assert words in failure.value.message
    assert failure.value.message.isprintable()
    assert failure.value.hint == "copy the whole line that `gatekeeper invite` printed on the server"


_PARTS = ["gatekeeper", "://", "[", "]", ":", "/", ",", "@", "%", "?", "#", "\n", "::1", "62201", "bind", KEY, "ssh"]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_PARTS), max_size=20).map("".join)))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    try:
        invite.parse(text)
    except ClientError as error:
        assert error.message.isprintable()


@given(_INVITES, st.data())
def test_an_invite_that_was_cut_short_or_garbled_is_refused_or_good(some: Invite, data: st.DataObject) -> None:
    text = str(some)
    at = data.draw(st.integers(0, len(text) - 1))
    for other in (text[:at], text[:at] + data.draw(st.characters()) + text[at + 1 :]):
        try:
            found = invite.parse(other)
        except ClientError as error:
            assert error.message.isprintable()
        else:
            assert invite.parse(str(found)) == found


@pytest.mark.parametrize("host", ["", "a b", "a/b", "user@host", "[::1]", "::1%eth0", "ä", "a\n", "-x", "x" * 254])
def test_a_host_that_does_not_fit_into_an_invite_is_refused_where_it_is_made(host: str) -> None:
    with pytest.raises(ValueError, match="is not the name or address of a host"):
        invite.check_host(host)


@pytest.mark.parametrize("via", ["icmp", "syn"])
def test_an_invite_says_how_to_knock_where_it_is_not_by_udp(via: str) -> None:
    made = knocking_by(via)
    assert str(made).endswith(f"/via-{via}")
    assert invite.parse(str(made)) == made
    assert "via" not in str(knocking_by("udp"))


def knocking_by(via: str) -> Invite:
    return Invite("192.0.2.1", 62201, "laptop", bytes(range(1, 33)), ("ssh",), via=via)
