"""What Debian's packages of fwknopd and knockd have in /etc can be imported (here, because it is root's)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from gatekeeper.migrate import convert
from gatekeeper.migrate.access import VARIABLES
from gatekeeper.migrate.fwknopd import _CHAINS, _IF_SET, _IF_YES, _WITHOUT_EFFECT


def test_knockd_conf_of_the_package() -> None:
    draft, notes = convert.knockd("/etc/knockd.conf", {})
    assert {name: one.fields["services"] for name, one in draft.clients.items()} == {"ssh": "[ssh]", "https": "[https]"}
    assert draft.clients["ssh"].fields["close_sequence"] == "[9000, 8000, 7000]"
    assert notes.kept == []


def test_access_conf_of_the_package_has_keys_that_must_be_set(tmp_path: Path) -> None:
    """It is read as it is; then with keys in it, as its owner would have them."""
    shipped = Path("/etc/fwknop/access.conf")
    draft, notes = convert.fwknop(str(shipped), {"ssh": ("tcp", 22)}, None)
    assert draft.clients == {}
    assert [re.sub(r".*?: ", "", str(note), count=1) for note in notes.kept] == [
        f"{name} has not been set: fwknopd refuses such a file" for name in ("KEY_BASE64", "HMAC_KEY_BASE64")
    ]
    mine = tmp_path / "access.conf"
    keys = iter(("c2l4dGVlbiBieXRlcyBvZg==", "c29tZXRoaW5nIGVsc2UgdG8gc2lnbg=="))
    mine.write_text(re.sub("(?m)^(.*BASE64 *)__CHANGEME__", lambda found: found[1] + next(keys), shipped.read_text()))
    draft, notes = convert.fwknop(str(mine), {"ssh": ("tcp", 22)}, "/etc/fwknop/fwknopd.conf")
    assert [one.fields["services"] for one in draft.clients.values()] == ["[ssh]"]
    assert draft.knock == {"port": "udp/62201", "skew": "120s"}
    assert convert.problems(draft.text(), "rules.yaml") == []


def test_every_variable_of_the_packaged_fwknopd_conf_is_decided_about() -> None:
    text = Path("/etc/fwknop/fwknopd.conf").read_text()
    names = {found[1] for found in re.finditer(r"^#?\s?([A-Z][A-Z0-9_]{5,})\s+\S+.*;", text, re.MULTILINE)}
    known = {"PCAP_INTF", "ENABLE_DIGEST_PERSISTENCE", *_IF_YES, *_IF_SET}
    assert len(names) > 50
    assert {name for name in names if not (_CHAINS.fullmatch(name) or _WITHOUT_EFFECT.fullmatch(name))} <= known


def test_every_variable_that_we_know_is_one_of_fwknopds() -> None:
    program = Path("/usr/sbin/fwknopd").read_bytes()
    assert [name for name in sorted(VARIABLES) if f"{name}\0".encode() not in program] == []


def test_fwknopd_takes_what_we_take(tmp_path: Path) -> None:
    """The same file, by fwknopd itself: it would start with it."""
    access = tmp_path / "access.conf"
    access.write_text("SOURCE ANY\nKEY one\nHMAC_KEY two\nOPEN_PORTS tcp/22\nACCESS_EXPIRE 12/31/2030\nFORWARD_ALL N\n")
    access.chmod(0o600)
    server = tmp_path / "fwknopd.conf"
    server.write_text(f"FWKNOP_RUN_DIR {tmp_path};\n")
    server.chmod(0o600)
    argv = ["fwknopd", "--exit-parse-config", "-f", "-c", str(server), "-a", str(access)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    draft, notes = convert.fwknop(str(access), {}, str(server))
    assert (len(draft.clients), notes.kept) == (1, [])
