"""Plain keys, the client's side: what a key file says."""

from __future__ import annotations

import pytest

from gatekeeper.client import plain
from gatekeeper.errors import ClientError


@pytest.mark.parametrize(
    ("keys", "close", "service", "payload"),
    [
        ("open\n", False, None, b"open"),
        ("open\nclose\n", False, None, b"open"),
        ("open\r\nclose\r\n", True, None, b"close"),
        ("close", True, None, b"close"),
        ("open sesame\n", False, "ssh", b"open sesame ssh"),
        ("schlüssel", False, None, "schlüssel".encode()),
    ],
)
def test_a_key_file_has_one_line_or_two(keys: str, *, close: bool, service: str | None, payload: bytes) -> None:
    assert plain.knock(keys, close=close, service=service) == payload


@pytest.mark.parametrize("keys", ["", "\n\n", "a\nb\nc"])
def test_a_key_file_with_another_number_of_lines_is_refused(keys: str) -> None:
    with pytest.raises(ClientError):
        plain.knock(keys, close=False, service=None)
