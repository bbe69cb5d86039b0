"""The commands of a client: the arguments that they take, and what those for keys and profiles print."""

from __future__ import annotations

import argparse
import os
import sys

from gatekeeper.cli import knocking
from gatekeeper.cli.options import Older, add_rules, add_state_dir, port
from gatekeeper.client import knocker
from gatekeeper.client.profile import DEFAULT_PORT, WAYS, Profile
from gatekeeper.errors import ClientError, UsageError

_LONGEST = 4096
"""Longest line that is read in the hope of a key."""


def _join(options: argparse.Namespace) -> None:
    from gatekeeper import keyfiles
    from gatekeeper.client import folders, invite, profile
    from gatekeeper.sealed import keys

    found = invite.parse(options.invite)
    name = options.name or found.host.replace(":", "-").strip("-") or "server"
    path = profile.path_of(name)
    if os.path.exists(path):
        raise ClientError(f"there is a profile {name} already", f"choose another with --name, or remove {path}")
    identity = os.path.abspath(options.identity) if options.identity else profile.identity_of(name)
    made = Profile(
        host=found.host,
        server_key=found.server_key,
        identity=identity,
        port=found.port,
        services=found.services,
        ack=found.ack,
        bind=found.bind,
        via=found.via,
    )
    profile.check(made)
    folders.make_for(identity)
    private, is_new = keyfiles.read_or_make(identity)
    path = profile.save(name, made)
    print(f"profile {name}: {path}")
    print(f"key {'made' if is_new else 'found'}: {identity} (it never leaves this device)")
    print("\nOn the server: sudo gatekeeper client add --reload 'LINE', with this line (or put it under `clients:` in")
    print("rules.yaml yourself, and `gatekeeper reload`):\n")
    print(f"  {found.client}: {{key: {keys.show(keys.public_of(private))}, services: [{', '.join(found.services)}]}}")
    print(f"\nThen, here: gatekeeper knock {name}")


def _keygen(options: argparse.Namespace) -> None:
    from gatekeeper import keyfiles
    from gatekeeper.client import folders, profile
    from gatekeeper.sealed import keys

    if options.file in {"", "-"}:
        raise UsageError("a private key goes into a file", "name one: gatekeeper keygen FILE")
    path = options.file or profile.default_identity()
    if options.file is None:
        folders.make_for(path)
    private = keys.generate()
    keyfiles.write(path, private)
    print(keys.show(keys.public_of(private)))


def _pubkey(options: argparse.Namespace) -> None:
    from gatekeeper import keyfiles
    from gatekeeper.client import profile
    from gatekeeper.sealed import keys

    if options.server:
        from pathlib import Path

        from gatekeeper import rules, serverkeys

        if options.file is not None:
            raise UsageError("--server takes no FILE", "the key is where --state-dir and the rules say")
        found, _ = rules.load(Path(options.rules))
        print(keys.show(serverkeys.current(found, Path(options.state_dir))))
        return
    if options.file == "-":
        try:
            private = keys.parse(sys.stdin.readline(_LONGEST) if sys.stdin is not None else "")  # None: it was closed
        except ValueError as error:
            raise UsageError(f"standard input is not a private key: {error}") from None
    else:
        private = keyfiles.read(options.file or profile.default_identity())
    print(keys.show(keys.public_of(private)))


# -- arguments


def knock(parser: argparse.ArgumentParser) -> None:
    """Set up ``knock``."""
    parser.set_defaults(**knocking.DEFAULTS, command=knocking.knock)
    parser.description = (
        "Sends a sealed knock to every address, IPv4 and IPv6, of the server of a profile. Keys are read from files, "
        "never from the command line. Exit 0 when it was sent (and, with --wait, when the port has answered). With "
        "--format it knocks at fwknopd or knockd: `gatekeeper knock HOST --format sequence 7000/udp 8000 9000`."
    )
    parser.add_argument("target", metavar="PROFILE|HOST", help="a profile that `gatekeeper join` made, or its host")
    parser.add_argument(
        "steps",
        metavar="STEP",
        nargs="*",
        default=(),
        help="with --format sequence, the ports to knock at: 7000/udp 8000 9000",
    )
    _add_knock(parser)
    _add_formats(parser, ("fwknop", "sequence"))
    parser.add_argument(
        "--delay",
        type=_milliseconds,
        metavar="MS",
        help="with --format sequence, the pause between packets, in milliseconds (default: none)",
    )
    parser.add_argument("--close", action="store_true", help="close instead of open")
    parser.add_argument(
        "--ack", action="store_true", help="wait for the server's answer, and say until when it is open"
    )
    parser.add_argument("--acknowledge", dest="ack", action=Older, nargs=0, help=argparse.SUPPRESS)
    parser.add_argument("--wait", type=_tcp_port, metavar="tcp/N", help="connect to that port until it answers")
    parser.add_argument("--quiet", action="store_true", help="print nothing but what went wrong")
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        help="send a plain key instead: its first line opens, the second closes (-: standard input, or a prompt); with "
        "--format fwknop, the keys as `fwknop --key-gen` prints them; with --format sequence, the steps",
    )


def connect(parser: argparse.ArgumentParser) -> None:
    """Set up ``connect``."""
    parser.set_defaults(**knocking.DEFAULTS, command=knocking.connect)
    parser.description = (
        "For ssh_config: `ProxyCommand gatekeeper connect %h %p`. Knocks and connects at once; if nothing has "
        "answered after 150 ms, knocks and tries again, with growing pauses. Then joins the connection to standard "
        "input and output."
    )
    parser.add_argument("host", metavar="HOST", help="the server's name or address, or its profile")
    parser.add_argument("at", metavar="PORT", type=port, help="the protected port")
    parser.add_argument("--profile", metavar="NAME", help="the profile to knock with (default: that of HOST)")
    parser.add_argument("--fdpass", action="store_true", help="hand the connection over (ProxyUseFdpass yes)")
    _add_knock(parser)
    _add_formats(parser, ("fwknop",))


def _add_formats(parser: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    parser.add_argument(
        "--format", choices=formats, help="knock at a server that is not gatekeeper's yet: at fwknopd, or at knockd"
    )
    parser.add_argument(
        "--access", metavar="tcp/N,...", help="with --format fwknop, what to open (default: ACCESS of the stanza)"
    )
    parser.add_argument("--rc", metavar="FILE", help="with --format fwknop, the file of stanzas (default: ~/.fwknoprc)")
    parser.add_argument(
        "-n",
        dest="stanza",
        metavar="NAME",
        help="with --format fwknop, the stanza (default: that called like the host)",
    )


def _add_knock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", metavar="NAME", help="only this service (default: all that the key opens)")
    parser.add_argument("--ttl", metavar="TIME", help="for how long: 30m, 1h (default: as the server has it)")
    parser.add_argument(
        "--source",
        metavar="auto|none|ADDRESS",
        type=_source,
        help="the address to open for: ours if the server sees it (auto), whatever the server sees (none), or another",
    )
    parser.add_argument(
        "--via",
        choices=WAYS,
        help="how the knock travels: to the knock port, in an echo request, or in a SYN to the protected port; the "
        "server's rules must have it, and the last two may need root here (default: the profile's; udp)",
    )
    parser.add_argument(
        "--port",
        type=port,
        metavar="N",
        help=f"knock port (default: the profile's; {DEFAULT_PORT}); with --via syn the protected port to knock at",
    )
    parser.add_argument("--identity", metavar="FILE", help="our private key (default: the profile's)")
    parser.add_argument("--server-key", metavar="BASE64", help="the server's public key, instead of a profile")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="for how long to try (default: 10)")


def join(parser: argparse.ArgumentParser) -> None:
    """Set up ``join``."""
    parser.set_defaults(command=_join)
    parser.description = "Makes a key for this device and a profile for the server, and prints the line for rules.yaml."
    parser.add_argument("invite", metavar="INVITE", help="the line that `gatekeeper invite` printed on the server")
    parser.add_argument("--name", metavar="PROFILE", help="what to call the profile (default: the server's host)")
    parser.add_argument("--identity", metavar="FILE", help="use this private key (made if it is not there)")


def keygen(parser: argparse.ArgumentParser) -> None:
    """Set up ``keygen``."""
    parser.set_defaults(command=_keygen)
    parser.description = "Writes a new X25519 private key, as `wg genkey` does, mode 0600; never overwrites a file."
    parser.add_argument("file", metavar="FILE", nargs="?", help="where to (default: ~/.config/gatekeeper/identity.key)")


def pubkey(parser: argparse.ArgumentParser) -> None:
    """Set up ``pubkey``."""
    parser.set_defaults(command=_pubkey)
    parser.description = "Prints the public key, as `wg pubkey` does."
    parser.add_argument("file", metavar="FILE", nargs="?", help="a private key (-: standard input; default: as keygen)")
    parser.add_argument("--server", action="store_true", help="the key of this server")
    add_rules(parser)
    add_state_dir(parser)


def _tcp_port(text: str) -> int:
    transport, _, number = text.rpartition("/")
    if transport not in ("", "tcp"):
        raise argparse.ArgumentTypeError(f"{text!a} cannot be waited for: write tcp/22")
    return port(number)


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text!a} is not a pause in milliseconds (0 to 10000)")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!a} is not a time in seconds (more than 0, at most 3600)")
    return seconds


def _source(text: str) -> str:
    if text in (knocker.AUTO, knocker.NONE):
        return text
    from ipaddress import ip_address

    try:
        found = ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!a} is neither auto, none nor an address") from None
    if found.is_unspecified or "%" in text:
        raise argparse.ArgumentTypeError(f"{text!a} is nobody's address on the server's side")
    return str(found)
