"""``gatekeeper import``: what it prints where, what it writes, and how it says what is wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gatekeeper import cli

SECRET = "c2l4dGVlbiBieXRlcyBvZg=="
ACCESS = f"SOURCE ANY\nKEY_BASE64 {SECRET}\nHMAC_KEY a_secret_too\nOPEN_PORTS tcp/22\n"


@pytest.fixture
def access(tmp_path: Path) -> Path:
    file = tmp_path / "access.conf"
    file.write_text(ACCESS)
    return file


def test_rules_are_printed_and_everything_else_is_said_beside(access: Path, capsys: pytest.CaptureFixture[str]) -> None:
    access.write_text(f"{ACCESS}GPG_DECRYPT_PW a_third_secret\n")
    assert cli.main(["import", "fwknop", str(access)]) == 0
    out, err = capsys.readouterr()
    assert "services: [ssh]" in out
    assert SECRET in out
    assert f"{access}:5: GPG_DECRYPT_PW: knocks that are encrypted with GnuPG are refused\n  hint: make the" in err
    assert "gatekeeper: 1 client, 1 service; 1 note above\n" in err
    assert "-o FILE writes it for you alone to read" in err
    assert "your own firewall must let tcp/22 pass" in err
    assert not any(secret in err for secret in (SECRET, "a_secret_too", "a_third_secret"))
    assert "a_third_secret" not in out


def test_a_file_is_written_for_its_owner_alone_and_can_be_used(access: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    assert cli.main(["import", "fwknop", str(access), "-o", str(rules), "--service", "door=tcp/22"]) == 0
    assert stat.S_IMODE(rules.stat().st_mode) == 0o600
    assert "door: {port: tcp/22, max_ttl: 5m}" in rules.read_text()
    assert cli.main(["check", "--rules", str(rules)]) == 0


def test_a_file_that_is_there_is_not_overwritten(
    access: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("mine")
    assert cli.main(["import", "fwknop", str(access), "-o", str(rules)]) == 1
    assert f"{rules} exists, and is not overwritten" in capsys.readouterr().err
    assert rules.read_text() == "mine"
    assert cli.main(["import", "fwknop", str(access), "-o", str(tmp_path / "no" / "x")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_fwknopd_conf_is_taken_from_beside_or_from_where_it_is_named(
    access: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fwknopd.conf").write_text("PCAP_FILTER udp port 5000;\n")
    (tmp_path / "other.conf").write_text("PCAP_FILTER udp port 5001;\n")
    assert cli.main(["import", "fwknop", str(access)]) == 0
    assert "knock: {port: udp/5000, skew: 120s}" in capsys.readouterr().out
    assert cli.main(["import", "fwknop", str(access), "--fwknopd-conf", str(tmp_path / "other.conf")]) == 0
    assert "knock: {port: udp/5001, skew: 120s}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SOURCE ANY\nKEY x\0y\n", ":2: this is no text: it has the byte 0x00"),
        (b"\x7fELF", ":1: this is no text: it has the byte 0x7f"),
        (b"x" * (1024 * 1024 + 1), " is larger than 1024 KiB"),
        (b"", " has no stanza (SOURCE)"),
        (b"SOURCE ANY\nKEY __CHANGEME__\n", "nothing in "),
    ],
)
def test_what_cannot_be_used_is_an_error(
    access: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    access.write_bytes(content)
    assert cli.main(["import", "fwknop", str(access)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"gatekeeper: error: {message}" in err or f"gatekeeper: error: {access}{message}" in err
    assert "gatekeeper: hint: " in err


@pytest.mark.parametrize("daemon", ["fwknop", "knockd"])
def test_what_cannot_be_read_is_an_error(daemon: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", daemon, str(tmp_path / "none")]) == 1
    assert "none: No such file or directory" in capsys.readouterr().err
    assert cli.main(["import", daemon, str(tmp_path)]) == 1
    assert "Is a directory" in capsys.readouterr().err


def test_wrong_usage_is_said(access: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["fwknop", str(access), "--service", "22"], ["ufw", "x"], []):
        with pytest.raises(SystemExit) as caught:
            cli.main(["import", *words])
        assert caught.value.code == 2
    twice = ["--service", "ssh=tcp/22", "--service", "ssh=tcp/23"]
    assert cli.main(["import", "fwknop", str(access), *twice]) == 1
    assert cli.main(["import", "knockd", str(access), "--fwknopd-conf", "x"]) == 1
    assert "a service is named twice" in capsys.readouterr().err


def test_rules_that_our_reader_refuses_are_printed_with_what_is_wrong(
    access: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The knock port is a service's too, which nobody can mend but the user."""
    access.write_text(ACCESS.replace("tcp/22", "udp/62201"))
    assert cli.main(["import", "fwknop", str(access)]) == 1
    out, err = capsys.readouterr()
    assert "udp/62201" in out
    assert "the knock port udp/62201 is a port of service" in err
    assert "gatekeeper: error: it cannot be used as it is" in err
