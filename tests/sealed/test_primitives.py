"""The primitives do the same with an older library."""

from __future__ import annotations

import pytest

from gatekeeper.sealed.primitives import private_key, public_bytes


def test_a_public_key_has_the_same_bytes_where_the_library_is_debian_12_s() -> None:
    class Older:
        """A key of cryptography 38, which knows no shorter way to its bytes."""

        def __init__(self, raw: bytes) -> None:
            self._public = private_key(raw).public_key()

        def public_key(self) -> Older:
            return self

        def public_bytes(self, *how: object) -> bytes:
            return self._public.public_bytes(*how)  # type: ignore[arg-type]

    raw = bytes(range(32))
    assert public_bytes(Older(raw)) == public_bytes(private_key(raw))  # type: ignore[arg-type]
    assert len(public_bytes(private_key(raw))) == 32


def test_32_bytes_make_a_key_and_no_other_number_does() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        private_key(bytes(31))
