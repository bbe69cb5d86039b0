"""How each page is played: what stands for what in it, on which machine it is typed, and what is there before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LAPTOP = "laptop: {key: B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=, services: [ssh]}"
"""The key of docs/sealed-knock.md's worked vector, as all pages have it; the stage has its private half."""


@dataclass(frozen=True)
class Story:
    """One page."""

    client: tuple[str, ...] = ()
    """Commands that begin so are typed on the client."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """What is typed in place of a word of the page: {said by COMMAND} is what an earlier command has printed."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that are in the folder where it is typed."""
    rules: str = ""
    """What stands in /etc/gatekeeper/rules.yaml before; none: nothing."""
    meanwhile: Mapping[str, str] = field(default_factory=dict)
    """What the client types while a command goes on that begins so."""
    behind: Mapping[str, str] = field(default_factory=dict)
    """What the server types behind a command that begins so: what the text around it says."""
    down: tuple[str, ...] = ()
    """Commands before which the text has ``run`` stopped."""
    up: tuple[str, ...] = ()
    """And those before which it has it started."""
    runs: bool = False
    """Whether ``gatekeeper run`` is up whenever a command is typed."""
    fails: tuple[str, ...] = ()
    """Commands that begin so may end with an exit status other than 0."""


_SSH = f"services:\n  ssh: {{port: tcp/22, ttl: 1h, max_ttl: 12h}}\n  web: {{port: tcp/80}}\nclients:\n  {LAPTOP}\n"
_WRONG = """\
services:
  ssh:
    port: 22
  web:
    port: tcp/80
clients:
  ann:
    services: [shh]
    open: long_enough_to_open
"""
_KNOCK = "gatekeeper knock 192.0.2.1 --identity vector.key --server-key VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY="
_INVITE = "gatekeeper://bastion.example.org:62201/laptop/VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY/ssh"
_NAMES = {"bastion.example.org": "server.test", "SERVER": "server.test"}

STORIES = {
    "README.md": Story(
        client=("gatekeeper join", "gatekeeper knock"),
        instead={
            "INVITE": "{said by sudo gatekeeper invite}",
            "LINE": "{the line of gatekeeper join}",
            "ssh SERVER": "nc -z -w3 server.test 22",
            **_NAMES,
        },
        up=("sudo gatekeeper reload",),
        down=("sudo gatekeeper load",),
        fails=("sudo gatekeeper doctor", "sudo gatekeeper diff", "sudo gatekeeper confirm"),
    ),
    "docs/tutorial.md": Story(instead={"PUBLIC-HALF-OF-THE-SERVER": "{the server's key}"}),
    "docs/client.md": Story(
        client=("gatekeeper",),
        instead={_INVITE: "{said by sudo gatekeeper invite}", **_NAMES},
        rules=_SSH + "knock: {ack: true, via: [udp, icmp, syn]}\n",
        behind={
            "gatekeeper join": "cp vector.key laptop.key && gatekeeper client remove laptop && "
            "gatekeeper client add --reload '{the line of gatekeeper join}'"
        },
        runs=True,
    ),
    "docs/rules.md": Story(
        instead={"HOST": "192.0.2.1", '"$KEY"': "long_enough_to_open"},
        rules=_SSH.replace(f"  {LAPTOP}\n", "  old: {open: long_enough_to_open, services: [ssh]}\n"),
        files={"rules.yaml": _WRONG},
        runs=True,
        fails=("gatekeeper check --rules rules.yaml", "sudo gatekeeper diff"),
    ),
    "docs/install.md": Story(rules=_SSH, instead={"YOUR-ADDRESS": "198.51.100.2"}, fails=("sudo gatekeeper confirm",)),
    "docs/doctor.md": Story(rules=_SSH, runs=True, fails=("sudo gatekeeper doctor",)),
    "docs/command-line.md": Story(),
    "docs/log.md": Story(rules=_SSH, runs=True),
    "docs/status.md": Story(rules=_SSH, runs=True),
    "docs/metrics.md": Story(rules=_SSH + "metrics: true\n", runs=True),
    "docs/explain.md": Story(
        rules=_SSH, meanwhile={"tcpdump": f"{_KNOCK} && sleep 0.2 && nc -z -w3 192.0.2.1 22 && sleep 1"}
    ),
    "docs/break-glass.md": Story(rules=_SSH, runs=True, down=("gatekeeper flush",)),
    "docs/migrating.md": Story(rules=_SSH),
}
