"""Base64 as fwknop writes it: without the padding at its end. Pure."""

from __future__ import annotations

import base64
import binascii


def unpadded(raw: bytes) -> bytes:
    """Write bytes as text."""
    return base64.b64encode(raw).rstrip(b"=")


def padded(text: bytes) -> bytes:
    """Read text as bytes.

    Raises:
        ValueError: it is none.
    """
    if b"=" in text:
        raise ValueError("there is padding")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
