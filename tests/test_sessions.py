"""By which connection we were started: told from processes, as /proc shows them, and from what is connected."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper import sessions
from gatekeeper.networks import Connection

HERE, HOME, OTHER = ip_address("192.0.2.1"), ip_address("198.51.100.2"), ip_address("2001:db8::2")
SESSION = Connection(HERE, 22, HOME, 50000)
ANOTHER = Connection(ip_address("2001:db8::1"), 22, OTHER, 50001)
LIVE = {7001: SESSION, 7002: ANOTHER}
NAMED = {"SSH_CONNECTION": "198.51.100.2 50000 192.0.2.1 22"}


class Processes:
    """A tree of processes like /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        number: str,
        name: str,
        parent: str,
        *,
        uid: int = 0,
        environment: dict[str, str] | None = None,
        sockets: tuple[int, ...] = (),
    ) -> None:
        folder = self.root / number
        (folder / "fd").mkdir(parents=True)
        (folder / "status").write_text(f"Name:\t{name}\nUmask:\t0022\nPPid:\t{parent}\nUid:\t{uid}\t0\t0\t0\n")
        (folder / "environ").write_text("".join(f"{key}={value}\0" for key, value in (environment or {}).items()))
        (folder / "fd" / "0").symlink_to("/dev/null")
        for number_of_file, inode in enumerate(sockets, 3):
            (folder / "fd" / str(number_of_file)).symlink_to(f"socket:[{inode}]")

    def session(self) -> set[Connection]:
        return sessions.of_this_process(LIVE, self.root)


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    made = Processes(tmp_path)
    made.add("1", "systemd", "0", sockets=(7001, 7002))
    return made


@pytest.mark.parametrize("name", ["sshd", "sshd-session", "dropbear"])
def test_what_sshd_holds_among_the_ancestors_is_the_session(processes: Processes, name: str) -> None:
    """Whatever the environment says, and however many programs are between."""
    processes.add("10", "sshd", "1", sockets=(6000,))
    processes.add("20", name, "10", sockets=(7001,))
    processes.add("30", "bash", "20")
    processes.add("40", "sudo", "30")
    processes.add("self", "gatekeeper", "40", environment={"SSH_CONNECTION": "2001:db8::2 50001 2001:db8::1 22"})
    assert processes.session() == {SESSION}


def test_what_others_hold_among_the_ancestors_is_not(processes: Processes) -> None:
    """A web server that starts us is no session; nor is one for a crowd."""
    processes.add("10", "ttyd", "1", sockets=(7001, 7002))
    processes.add("20", "nginx", "10", sockets=(7001,))
    processes.add("self", "gatekeeper", "20")
    assert processes.session() == set()


def test_an_environment_counts_as_far_as_the_kernel_agrees(processes: Processes) -> None:
    """An ancestor's too, which sudo took from us; one of a session that is over does not count."""
    processes.add("10", "su", "1", environment=NAMED)
    processes.add("self", "gatekeeper", "10", environment={"SSH_CONNECTION": "198.51.100.2 49999 192.0.2.1 22"})
    assert processes.session() == {SESSION}


def test_in_a_multiplexer_the_attached_clients_count(processes: Processes) -> None:
    """Of this user, and not the environment that the server has from who started it."""
    processes.add("10", "tmux: server", "1", uid=5, environment=NAMED)
    processes.add("11", "bash", "10", uid=5, environment=NAMED)
    processes.add("self", "gatekeeper", "11")
    assert processes.session() == {SESSION}, "nobody is attached: what is left is the environment"
    processes.add("20", "sshd", "1", sockets=(7002,))
    processes.add("21", "tmux: client", "20", uid=6)
    assert processes.session() == {SESSION}, "somebody else's"
    processes.add("22", "tmux: client", "20", uid=5)
    assert processes.session() == {ANOTHER}


def test_processes_that_are_gone_or_go_round_in_circles_have_nothing(processes: Processes) -> None:
    processes.add("10", "bash", "11")
    processes.add("11", "bash", "10")
    processes.add("self", "gatekeeper", "10")
    assert processes.session() == set()
    assert sessions.of_this_process(LIVE, processes.root / "nowhere") == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("198.51.100.2 50000 192.0.2.1 22", SESSION),
        ("::ffff:198.51.100.2 50000 ::ffff:192.0.2.1 22", SESSION),
        ("2001:db8::2 50001 2001:db8::1 22", ANOTHER),
        (
            "fe80::2%eth0 50000 fe80::1%eth0 22",
            Connection(ip_address("fe80::1"), 22, ip_address("fe80::2"), 50000),
        ),
        ("", None),
        ("UNKNOWN 65535 UNKNOWN 65535", None),
        ("198.51.100.2 x 192.0.2.1 22", None),
        ("198.51.100.2 50000 192.0.2.1", None),
    ],
)
def test_ssh_connection_is_read_as_sshd_writes_it(text: str, expected: Connection | None) -> None:
    assert sessions.read_connection(text) == expected
