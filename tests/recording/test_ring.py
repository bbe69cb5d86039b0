"""The files of a recording: bounded, private, readable whatever happens, and nobody else's are touched."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from gatekeeper.errors import CaptureError
from gatekeeper.recording import pcapng
from gatekeeper.recording.ring import Recording, Ring, check
from tests.packets import SYN, tcp

NOW = 1_800_000_000.25


def block(number: int) -> bytes:
    return pcapng.packet(tcp(SYN), length=1234, time=NOW, comment=f"no-grant {number}")


def read(path: Path) -> list[tuple[bytes, Any]]:
    with RawPcapNgReader(str(path)) as reader:
        return list(reader)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "refused.pcapng", 100_000)
    ring = Ring(recording)
    ring.write(block(1))
    ((data, about),) = read(recording.path)
    assert data == tcp(SYN)
    assert ((about.tshigh << 32) + about.tslow, about.wirelen, about.linktype) == (int(NOW * 1e6), 1234, 101)
    assert about.comments == [b"no-grant 1"]
    assert stat.S_IMODE(recording.path.stat().st_mode) == 0o600
    done = subprocess.run(["tcpdump", "-nr", str(recording.path)], capture_output=True, text=True, check=False)
    assert "198.51.100.2.40000 > 192.0.2.1.22: Flags [S]" in done.stdout, done.stderr


def test_two_files_hold_the_newest_and_are_never_larger_than_the_limit(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "refused.pcapng", 10_000)
    ring = Ring(recording)
    for number in range(500):
        ring.write(block(number))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refused.pcapng", "refused.pcapng.1"]
    numbers = [
        int(about.comments[0].split()[1]) for path in (recording.before, recording.path) for _, about in read(path)
    ]
    assert numbers == list(range(numbers[0], 500))
    assert len(numbers) > 40


def test_each_start_begins_a_new_file_and_an_empty_one_pushes_nothing_out(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "refused.pcapng", 100_000)
    first = Ring(recording)
    first.write(block(1))
    first.close()
    with recording.path.open("ab") as torn:  # as whoever was killed by a power cut may have left it
        torn.write(block(2)[:-7])
    for _ in range(3):
        Ring(recording).close()
    assert [about.comments for _, about in read(recording.before)] == [[b"no-grant 1"]]
    assert read(recording.path) == []


def test_what_is_none_of_ours_is_not_touched(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "refused.pcapng", 100_000)
    for path in (recording.path, recording.before):
        path.write_text("dear diary")
        with pytest.raises(CaptureError, match="is there, and is no pcapng capture"):
            Ring(recording)
        assert path.read_text() == "dear diary"
        path.unlink()
    recording.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CaptureError, match="cannot record to"):
        check(recording)
    recording.path.unlink()
    os.mkfifo(recording.path)
    with pytest.raises(CaptureError, match="is no pcapng capture"):
        check(recording)
    with pytest.raises(CaptureError, match="is no folder that we may write to"):
        check(Recording(tmp_path / "none" / "refused.pcapng", 100_000))


FULL = """
import resource, signal, sys
from pathlib import Path
from gatekeeper.recording.ring import Recording, Ring
from tests.recording.test_ring import block
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ring = Ring(Recording(Path(sys.argv[1]), 100_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
failures = 0
for number in range(50):
    try:
        ring.write(block(number))
    except OSError:
        failures += 1
print(failures)
"""


def test_a_full_disk_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    """Here the limit of a file's size stands for it: a write is cut short in the same way."""
    path = tmp_path / "refused.pcapng"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert int(done.stdout) > 20, done.stderr
    packets = read(path)
    assert 5 < len(packets) < 30
    size = len(pcapng.HEADER) + sum(len(block(number)) for number in range(len(packets)))
    assert path.stat().st_size == size
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
