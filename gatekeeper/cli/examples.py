"""What ``--help`` and the man page show of each command in use. A test has the real parsers read all of it."""

from __future__ import annotations

_EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "run": (
        ("gatekeeper run --dry-run --rules rules/rules.yaml", "touches no firewall and needs no root"),
        ("sudo gatekeeper run --observe", "real rules and real decisions, and nothing is dropped"),
        ("sudo gatekeeper run --confirm 60", "puts all back unless `gatekeeper confirm` comes within a minute"),
        ("sudo gatekeeper run --capture /var/tmp/refused.pcapng", "records what is refused, for `gatekeeper explain`"),
    ),
    "load": (("sudo gatekeeper load", "what gatekeeper-early.service does before the network comes up"),),
    "install": (
        ("sudo gatekeeper install --confirm 120", "enabled when `gatekeeper confirm` comes, stopped if it does not"),
        ("sudo gatekeeper install", "also after an upgrade: it writes the units anew, and restarts"),
    ),
    "uninstall": (("sudo gatekeeper uninstall", "THE PORTS ARE OPEN THEN"),),
    "check": (
        ("sudo gatekeeper check", "the rules of this machine"),
        ("gatekeeper check --rules new.yaml", "any file, before it is taken into use"),
    ),
    "diff": (
        ("sudo gatekeeper diff", "what an edited rules.yaml would change"),
        ("sudo gatekeeper diff --rules new.yaml --json", "the same of another file, for a program"),
    ),
    "reload": (("sudo gatekeeper reload", "grants, connections and waiting knocks live on"),),
    "client": (
        ("ssh laptop gatekeeper join INVITE | sudo gatekeeper client add - --reload", "from invite to client at once"),
        ("sudo gatekeeper client list", "who may knock, with what, until when"),
    ),
    "client add": (
        (
            "sudo gatekeeper client add 'laptop: {key: B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=, services: [ssh]}'",
            "the line that `gatekeeper join` has printed on the device",
        ),
        (
            "sudo gatekeeper client add ann --key B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw= --services ssh,web",
            "the same by options",
        ),
        ("ssh laptop gatekeeper join INVITE | sudo gatekeeper client add - --reload", "from invite to client at once"),
    ),
    "client remove": (("sudo gatekeeper client remove ann --reload", "its grants end, too"),),
    "client list": (
        ("sudo gatekeeper client list", "who may knock, with what, until when"),
        ("sudo gatekeeper client list --json", "the same, for a program"),
    ),
    "ruleset": (("gatekeeper ruleset --rules rules/ssh.yaml", "needs no root, and loads nothing"),),
    "status": (
        ("sudo gatekeeper status", "services, counters, and the live grants"),
        ("sudo gatekeeper status --watch", "the same live, until q"),
        ("sudo gatekeeper status --source 192.0.2.0/24", "the grants of a network"),
        ("sudo gatekeeper status --json", "all of it, for a program"),
    ),
    "log": (
        ("sudo gatekeeper log", "the last 50 entries"),
        ("sudo gatekeeper log --since 1h --client laptop", "what became of its knocks"),
        ("sudo gatekeeper log --source 198.51.100.0/24 --reason clock-skew", "of a network, for one reason"),
        ("sudo gatekeeper log --follow", "and whatever comes; Ctrl-C ends it"),
        ("sudo gatekeeper log --since 7d --json", "for a program"),
    ),
    "grant": (
        ("sudo gatekeeper grant 192.0.2.7 ssh", "for as long as the service's ttl says"),
        ("sudo gatekeeper grant 2001:db8:1::/64 ssh --ttl 30m", "a network, for half an hour"),
    ),
    "revoke": (
        ("sudo gatekeeper revoke 192.0.2.7", "all of its grants; what is open is cut"),
        ("sudo gatekeeper revoke 192.0.2.0/24 ssh", "those of a network, and of one service"),
    ),
    "doctor": (
        ("sudo gatekeeper doctor", "what is wrong, and what to do"),
        ("sudo gatekeeper doctor --verbose", "also what is as it should be"),
    ),
    "explain": (
        ("tcpdump -w knocks.pcap -i any udp port 62201 or tcp port 22", "on the server, as root; Ctrl-C ends it"),
        ("gatekeeper explain knocks.pcap", "each packet: what becomes of it, and why"),
        ("gatekeeper explain knocks.pcap --rules new.yaml --state-dir /tmp/copy-of-state", "by other rules"),
        (
            "gatekeeper explain knocks.pcap --json | jq -c 'select(.verdict == \"drop\") | [.time, .source, .reason]'",
            "what was dropped, for a program",
        ),
        ("tcpdump -w - -U -i eth0 udp port 62201 | gatekeeper explain -", "while it happens"),
        ("gatekeeper explain /var/lib/gatekeeper/refused.pcapng", "what `run --capture` has recorded"),
    ),
    "confirm": (
        ("sudo gatekeeper confirm", "in a new session: the ruleset stays"),
        ("sudo gatekeeper confirm --revert", "puts the earlier one back now"),
    ),
    "flush": (("sudo gatekeeper flush --stop", "stops run, and takes everything away: THE PORTS ARE OPEN THEN"),),
    "invite": (
        ("sudo gatekeeper invite laptop --service ssh --host bastion.example.org", "a new client"),
        ("sudo gatekeeper invite laptop --host bastion.example.org --qr", "one of the rules, also as a QR code"),
    ),
    "reset-floor": (("sudo gatekeeper reset-floor laptop", "its knocks were refused as `floor-ahead`"),),
    "join": (
        (
            "gatekeeper join gatekeeper://bastion.example.org:62201/laptop/VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY/ssh",
            "makes the key and the profile bastion.example.org",
        ),
        ("gatekeeper join INVITE --name work", "calls the profile otherwise"),
    ),
    "knock": (
        ("gatekeeper knock bastion.example.org", "all services that our key may open"),
        ("gatekeeper knock bastion.example.org --service ssh --ttl 30m --wait tcp/22", "tries until the port answers"),
        ("gatekeeper knock bastion.example.org --close", "ends our grants, and cuts what is open"),
        ("gatekeeper knock bastion.example.org --via icmp", "where no UDP gets out"),
        ("gatekeeper knock bastion.example.org --format fwknop", "at fwknopd, with a stanza of ~/.fwknoprc"),
        ("gatekeeper knock bastion.example.org --format sequence 7000/udp 8000 9000", "at knockd"),
    ),
    "connect": (
        ("ssh -o 'ProxyCommand gatekeeper connect %h %p' bastion.example.org", "or as a line of ~/.ssh/config"),
        ("gatekeeper connect bastion.example.org 22 --profile work", "where the profile is called otherwise"),
    ),
    "import": (
        ("sudo gatekeeper import fwknop -o rules.yaml", "of /etc/fwknop/access.conf"),
        ("gatekeeper import knockd ./knockd.conf", "of any file; prints the rules"),
        ("sudo gatekeeper import fwknop --service ssh=tcp/22", "says which port ssh is"),
    ),
    "keygen": (
        ("gatekeeper keygen", "writes ~/.config/gatekeeper/identity.key"),
        ("gatekeeper keygen laptop.key", "writes another file; never over one"),
    ),
    "pubkey": (
        ("gatekeeper pubkey laptop.key", "of that file"),
        ("sudo gatekeeper pubkey --server", "of the server, for a profile made by hand"),
    ),
    "demo": (("sudo gatekeeper demo --show-rules", "with the iptables and ipset state at each step"),),
    "completion": (
        ('eval "$(gatekeeper completion bash)"', "in ~/.bashrc"),
        ('eval "$(gatekeeper completion zsh)"', "in ~/.zshrc, behind compinit"),
        ("gatekeeper completion fish > ~/.config/fish/completions/gatekeeper.fish", "once"),
    ),
}
_HEAD = "examples:\n"


def of(command: str) -> str | None:
    """Return what stands at the end of a command's help; ``None`` where there is nothing."""
    found = _EXAMPLES.get(command)
    return None if found is None else _HEAD + "".join(f"  {line}\n      {what}\n" for line, what in found)


def lines(epilog: str | None) -> list[tuple[str, str]]:
    """Return the examples of an epilog that ``of`` has written: the line, and what it does."""
    if epilog is None or not epilog.startswith(_HEAD):
        return []
    words = [line.strip() for line in epilog.removeprefix(_HEAD).splitlines()]
    return list(zip(words[::2], words[1::2], strict=True))
