"""Which kinds of encryption, HMACs and digests fwknop's clients have. Pure: words, which rules have to know."""

from __future__ import annotations

MODES = ("cbc", "cfb", "ofb", "ctr", "ecb", "legacy")
"""How they encrypt."""
DIGESTS = ("md5", "sha1", "sha256", "sha384", "sha512", "sha3_256", "sha3_512")
"""Kinds of digests, and of HMACs. Where two are of one length, a reader tries them in this order."""
