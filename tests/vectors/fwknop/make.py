"""Writes ``more.json``: packets of the real client of fwknop's, of each kind of HMAC, digest, encryption and message.

Run it where Debian's package fwknop-client is (``scripts/setup test`` installs it)::

    .venv/bin/python -m tests.vectors.fwknop.make

Nothing is sent. What a packet says is taken from what the client itself prints, not from reading it with our code.
``vectors.json`` beside it is of the same form, from the same client, made elsewhere.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

MORE = Path(__file__).with_name("more.json")
KEY = bytes(range(0x10, 0x30))
HMAC_KEY = bytes(range(0x40, 0x80))
DIGESTS = ("md5", "sha1", "sha256", "sha384", "sha512", "sha3_256", "sha3_512")
MODES = ("cbc", "cfb", "ofb", "ctr", "ecb")
USUAL = ("-A", "tcp/22", "-a", "192.0.2.7")


def made(
    name: str,
    *options: str,
    key: bytes = KEY,
    hmac_key: bytes | None = HMAC_KEY,
    kind: str = "sha256",
    mode: str = "cbc",
    asks: tuple[str, ...] = USUAL,
) -> dict[str, Any]:
    """Have the client make one packet."""
    keys = ["--key-base64-rijndael", base64.b64encode(key).decode()]
    if hmac_key is not None:
        keys += ["--use-hmac", "--key-base64-hmac", base64.b64encode(hmac_key).decode(), "--hmac-digest-type", kind]
    argv = [
        "fwknop",
        *asks,
        *options,
        "-D",
        "127.0.0.1",
        *keys,
        "-M",
        mode,
        "-T",
        "-v",
        "--no-save-args",
        "--no-rc-file",
    ]
    with tempfile.TemporaryDirectory() as home:
        saved = Path(home, "packet")
        done = subprocess.run(
            ["env", f"HOME={home}", *argv, "-B", str(saved)], capture_output=True, text=True, check=True, timeout=10
        )
        packet = saved.read_text().strip()
    encoded, digest = (_printed(what, done.stdout) for what in ("Encoded Data", "SPA Data Digest"))
    return {
        "name": name,
        "client_args": [*asks, *options],
        "key_hex": key.hex(),
        "hmac_key_hex": None if hmac_key is None else hmac_key.hex(),
        "hmac_type": None if hmac_key is None else kind,
        "encryption_mode": mode,
        "packet": packet,
        "decoded": {"plaintext": f"{encoded}:{digest}"},
    }


def _printed(what: str, output: str) -> str:
    found = re.search(rf"^\s*{what}: (\S+)$", output, re.MULTILINE)
    assert found is not None, output
    return found[1]


def all_of_them() -> list[dict[str, Any]]:
    """Have them all made."""
    found = [made(f"hmac_{kind}", kind=kind) for kind in DIGESTS]
    found += [made(f"hmac_{kind}_long_key", kind=kind, hmac_key=bytes(range(128))) for kind in DIGESTS]
    found += [made(f"digest_{kind}", "-m", kind) for kind in DIGESTS]
    found += [made(f"mode_{mode}", mode=mode) for mode in MODES]
    found += [made(f"mode_{mode}_no_hmac", mode=mode, hmac_key=None) for mode in (*MODES, "legacy")]
    found += [made(f"mode_{mode}_short_key", mode=mode, hmac_key=None, key=b"short") for mode in (*MODES, "legacy")]
    ports = ("-A", "tcp/22,udp/53,tcp/65535", "-a", "192.0.2.7")
    return [
        *found,
        made("ports", asks=ports),
        made("timeout", "-f", "90"),
        made("timeout_longest", "-f", "65535"),
        made("timeout_zero", "-f", "0"),
        made("sender", asks=("-A", "tcp/22", "-s")),
        made("local_nat", "--nat-local", "--nat-port", "50022"),
        made("local_nat_timeout", "--nat-local", "--nat-port", "50022", "-f", "45"),
        made("nat", "-N", "192.168.10.2:55000"),
        made("command", asks=("-C", "id > /tmp/x", "-a", "192.0.2.7")),
        made("user_with_a_space", "-U", "bob smith"),
        made("user_that_is_long", "-U", "x" * 64),
        made("ahead", "--time-offset-plus", "119s"),
    ]


if __name__ == "__main__":
    MORE.write_text(json.dumps(all_of_them(), indent=1) + "\n")
