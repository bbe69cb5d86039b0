from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.metrics import requests

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET, 200),
        (b"GET /metrics HTTP/1.0\n\n", 200),
        (b"GET /metrics?x=1 HTTP/1.1\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET /../metrics HTTP/1.1\r\n\r\n", 404),
        (b"GET http://localhost/metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\0\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x", None),
        (b"", None),
        (b"G" * requests.LONGEST, 400),
    ],
)
def test_each_request_has_its_status(head: bytes, status: int | None) -> None:
    assert requests.status_of(head) == status


@given(st.binary(max_size=200))
def test_any_bytes_have_a_status_or_wait_for_more(head: bytes) -> None:
    assert requests.status_of(head) in {None, 200, 400, 404, 405}


@pytest.mark.parametrize("status", [200, 400, 404, 405, 503])
def test_an_answer_says_how_long_it_is_and_nothing_of_what_was_asked(status: int) -> None:
    head, _, body = requests.answer(status, b"figures").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Length: %d" % len(body) in head
    assert (body == b"figures") == (status == 200)
