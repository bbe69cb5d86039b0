"""Messages: which there are, and what is none."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.fwknop import cipher, envelope
from gatekeeper.fwknop.access import Access, nat_port, parse
from gatekeeper.fwknop.kinds import DIGESTS, MODES
from gatekeeper.fwknop.message import NATS, TIMED, Kind, Message, pack, unpack
from gatekeeper.settings import FwknopKeys, Ports, Transport
from tests.fwknop.written import b64, fields

NOW = 1_800_000_000
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=60)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(Kind))
    return Message(
        user=draw(TEXT),
        sent_at=draw(st.integers(0, 9_999_999_999)),
        kind=kind,
        text=draw(TEXT),
        nat=draw(TEXT) if kind in NATS else None,
        timeout=draw(st.integers(0, 9_999_999_999)) if kind in TIMED else None,
        random=f"{draw(st.integers(0, 10**16 - 1)):016}",
        digest=draw(st.sampled_from(DIGESTS)),
    )


@given(messages())
def test_what_is_written_is_read(message: Message) -> None:
    assert unpack(pack(message)) == message


@given(messages(), st.sampled_from(MODES), st.sampled_from(DIGESTS), st.binary(min_size=1, max_size=32))
def test_what_is_sent_is_read(message: Message, mode: str, kind: str, key: bytes) -> None:
    keys = FwknopKeys(key=key, hmac_key=b"of all of them", hmac=kind, mode=mode)
    payload = envelope.seal(message, keys, salt=bytes(range(8)))
    parts = envelope.parts(payload, kind)
    assert parts is not None
    assert envelope.is_right(envelope.begun(keys), *parts)
    assert unpack(envelope.opened(parts[0], keys)) == message


def with_digest(plaintext: bytes) -> bytes:
    return plaintext + b":" + base64.b64encode(hashlib.sha256(plaintext).digest()).rstrip(b"=")


@given(st.binary(max_size=300))
def test_whatever_the_bytes_it_is_a_message_or_an_error(raw: bytes) -> None:
    for plaintext in (
        raw,
        with_digest(raw),
        with_digest(fields(NOW, text=raw)),
        with_digest(fields(NOW, user=b64(raw))),
    ):
        try:
            message = unpack(plaintext)
        except ValueError as error:
            assert str(error)
        else:
            assert message.text.isprintable()
            assert message.user.isprintable()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (fields(NOW, random=b"123456789012345"), "random number"),
        (fields(NOW, random=b"12345678901234567"), "random number"),
        (fields(NOW, random=b"-123456789012345"), "random number"),
        (fields(NOW, time=b""), "time"),
        (fields(NOW, time=b"-1"), "time"),
        (fields(NOW, time=b"+1800000000"), "time"),
        (fields(NOW, time=b"1" * 11), "time"),
        (fields(NOW, time=b"1800000000\0"), "time"),
        (fields(NOW, version=b"3"), "version"),
        (fields(NOW, version=b"3.0.0.0.0"), "version"),
        (fields(NOW, version=b"three"), "version"),
        (fields(NOW, kind=b"7"), "no kind"),
        (fields(NOW, kind=b"-1"), "no kind"),
        (fields(NOW, kind=b"01"), "no kind"),
        (fields(NOW, kind=b"10"), "no kind"),
        (fields(NOW, user=b""), "user is empty"),
        (fields(NOW, user=b64("a\0b")), "user is empty, or not printable"),
        (fields(NOW, user=b64("x" * 65)), "user's name is too long"),
        (fields(NOW, user=b"***"), "user is not text"),
        (fields(NOW, user=b64(b"\xff\xfe")), "user is not text"),
        (fields(NOW, user=b"YWxpY2U="), "user is not text"),
        (fields(NOW, text=b64("")), "message is empty"),
        (fields(NOW, text=b64("0.0.0.0,tcp/22\0")), "not printable"),
        (fields(NOW, text=b64("0.0.0.0,tcp/22\n")), "not printable"),
        (fields(NOW, kind=b"2"), "no NAT access"),
        (fields(NOW, kind=b"5"), "no NAT access"),
        (fields(NOW, kind=b"6") + b":" + b64("127.0.0.1,22"), "no timeout"),
        (fields(NOW, kind=b"3"), "no timeout"),
        (fields(NOW, kind=b"3") + b":-5", "timeout"),
        (fields(NOW, kind=b"3") + b":", "timeout"),
        (fields(NOW, kind=b"3") + b":1e9", "timeout"),
        (fields(NOW, kind=b"3") + b":" + b"9" * 11, "timeout"),
        (fields(NOW) + b":YWI:YWI", "fields too many"),
        (fields(NOW) + b":***", "server auth"),
        (b"1234567890123456:YWxpY2U:1800000000:3.0.0:1", "fields too few"),
        (b"", "fields too few"),
        (fields(NOW, text="ä".encode("latin-1")), "not ASCII"),
    ],
)
def test_fields_that_make_no_sense_are_said(wrong: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unpack(with_digest(wrong))


def test_a_password_for_servers_of_old_is_read_over() -> None:
    """In fwknop's first years a message could bear one; fwknopd has never looked at it."""
    auth = b":" + b64("crypt,secret")
    assert unpack(with_digest(fields(NOW) + auth)).timeout is None
    assert unpack(with_digest(fields(NOW, kind=b"3") + auth + b":90")).timeout == 90


@pytest.mark.parametrize("plaintext", [b"", b":", b"x", fields(NOW), fields(NOW) + b":" + b"A" * 43, b"x" * 2000])
def test_without_a_digest_that_fits_it_is_no_message(plaintext: bytes) -> None:
    with pytest.raises(ValueError, match="digest does not fit"):
        unpack(plaintext)


@given(st.binary(max_size=200), st.sampled_from(MODES))
def test_whatever_the_body_it_is_decrypted_or_an_error(body: bytes, mode: str) -> None:
    for text in (body, base64.b64encode(b"Salted__" + body).rstrip(b"=")):
        try:
            cipher.decrypt(text, b"key", mode)
        except ValueError as error:
            assert str(error)


# -- what it asks for


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.7,tcp/22", Access(parse("192.0.2.7,tcp/1").address, (Ports(Transport.TCP, 22),))),
        ("0.0.0.0,udp/1,tcp/65535", Access(None, (Ports(Transport.UDP, 1), Ports(Transport.TCP, 65535)))),
        ("0.0.0.0,TCP/22", Access(None, (Ports(Transport.TCP, 22),))),
    ],
)
def test_an_address_and_ports_are_read(text: str, found: Access) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "192.0.2.7",
        "192.0.2.7,",
        "192.0.2.7,tcp",
        "192.0.2.7,tcp/",
        "192.0.2.7,tcp/0",
        "192.0.2.7,tcp/65536",
        "192.0.2.7,tcp/-22",
        "192.0.2.7,tcp/22,",
        "192.0.2.7,tcp/22 ",
        "192.0.2.7,icmp/8",
        "192.0.2.7,tcp/²",
        "192.0.2.7,tcp/" + "2" * 900,
        "tcp/22",
        "2001:db8::7,tcp/22",
        "192.0.2,tcp/22",
        "192.0.2.07,tcp/22",
        "192.0.2.256,tcp/22",
        "-1.0.2.7,tcp/22",
        "somebody,tcp/22",
        "0,tcp/22",
    ],
)
def test_what_is_no_address_with_ports_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"no IPv4 address|no port") as caught:
        parse(text)
    assert len(str(caught.value)) < 100


def test_where_a_nat_access_leads_to_is_read() -> None:
    assert nat_port("127.0.0.1,22") == 22
    for text in ("", "127.0.0.1", "127.0.0.1,0", "127.0.0.1,22,23", "localhost,22", "127.0.0.1,-22"):
        with pytest.raises(ValueError, match="no"):
            nat_port(text)


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(FwknopKeys(key=b"secret", hmac_key=b"secret"))
