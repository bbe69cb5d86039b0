"""``gatekeeper client``: adds clients to the rules file, removes and lists them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gatekeeper.cli.options import add_rules, add_state_dir
from gatekeeper.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gatekeeper.clientlist import Edited, Listed
    from gatekeeper.rules.edit import Value

_LONGEST = 65_536
"""Bytes that are read from standard input."""
_STDIN = "-"
_HINT = "give what `gatekeeper join` prints on the device: NAME: {key: KEY, services: [NAME, ...]}"


def _add(options: argparse.Namespace) -> None:
    from gatekeeper import clientlist
    from gatekeeper.escaping import escape

    name, fields = _wanted(options)
    done = clientlist.add(Path(options.rules), name, fields, file=options.file)
    services = ", ".join(done.rules.clients[name].services)
    print(f"added {name} to {escape(done.place.file)}:{done.place.line}; it may open {services}")
    for warning in done.warnings:
        print(warning, file=sys.stderr)
        if warning.hint:
            print(f"  hint: {warning.hint}", file=sys.stderr)
    _go_on(options, done, "it may knock")


def _remove(options: argparse.Namespace) -> None:
    from gatekeeper import clientlist
    from gatekeeper.escaping import escape

    done = clientlist.remove(Path(options.rules), options.name)
    print(f"removed {options.name} from {escape(done.place.file)}:{done.place.line}")
    if not done.rules.clients:
        print("gatekeeper: warning: no client is left: only `gatekeeper grant` lets anybody in", file=sys.stderr)
    _go_on(options, done, "it may not knock, and its grants end,")


def _go_on(options: argparse.Namespace, done: Edited, what: str) -> None:
    """Reload, or say what does."""
    if options.reload:
        from gatekeeper import reload

        print(reload.reload(Path(options.rules), Path(options.state_dir)))
    elif done.rules.watch:
        print(f"{what} when run has seen that (watch: true), in a few seconds")
    else:
        print(f"{what} from the next `gatekeeper reload` on")


def _wanted(options: argparse.Namespace) -> tuple[str, dict[str, Value]]:
    """Return the name and the fields of the client that is asked for."""
    from gatekeeper.clientlist import has_secrets
    from gatekeeper.rules import edit

    name: str = options.client
    fields: dict[str, Value] = {}
    if name == _STDIN or ":" in name:
        try:
            name, fields = edit.read_entry(_stdin() if name == _STDIN else name)
        except ValueError as error:
            raise UsageError(f"this is no client: {error}", _HINT) from None
        if options.client != _STDIN and has_secrets(fields):
            words = "a secret key stands on the command line, where others can see it"
            raise UsageError(words, "give it on standard input: gatekeeper client add -")
    fields |= _given(options)
    if "services" not in fields:
        raise UsageError(f"{name!a} has no services", "name what it may open: --services NAME,NAME")
    if len(fields) == 1:
        raise UsageError(f"{name!a} has no key", f"add --key KEY; or {_HINT}")
    return name, fields


def _given(options: argparse.Namespace) -> dict[str, Value]:
    """Return the fields that are given as options."""
    fields = {"key": options.key, "services": _words(options.services), "ttl": options.ttl}
    fields |= {"not_after": options.not_after, "from": _words(options.sources)}
    found: dict[str, Value] = {name: value for name, value in fields.items() if value is not None}
    found |= {name: its for name, its in (("also_keys", options.also_keys), ("when", options.when)) if its}
    if options.prefix:
        found["prefix"] = options.prefix
    if options.bind:
        found["bind"] = "required"
    if options.for_others:
        found["for_others"] = "true"
    return found


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [one.strip() for one in text.split(",")]


def _prefix(text: str) -> dict[str, Value]:
    """Read ``ipv4=24,ipv6=56``; which names and numbers there are is for the reader of rules to say."""
    pairs = [one.partition("=") for one in _words(text) or ()]
    found: dict[str, Value] = {name.strip(): value.strip() for name, _, value in pairs}
    if len(found) < len(pairs) or not all(name and value for name, _, value in pairs):
        raise argparse.ArgumentTypeError(f"{text!a} is no prefix, such as ipv4=24,ipv6=56")
    return found


def _stdin() -> str:
    if sys.stdin is None:
        raise UsageError("standard input is closed", _HINT)
    if sys.stdin.isatty():
        print("paste the client, then Ctrl-D:", file=sys.stderr)
    text = sys.stdin.buffer.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise UsageError("there is more on standard input than a client", _HINT)
    return text.decode(errors="replace")


def _list(options: argparse.Namespace) -> None:
    from gatekeeper import clientlist

    found = clientlist.listed(Path(options.rules))
    if options.json:
        print(json.dumps([one.as_json() for one in found], indent=2))
        return
    if not found:
        print("there are no clients: only `gatekeeper grant` lets anybody in")
        return
    rows = [("CLIENT", "KEY", "SERVICES", "LAST DAY", "PLACE"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(one: Listed) -> tuple[str, ...]:
    from gatekeeper.escaping import escape

    last = f"{one.last_day} (over)" if one.is_over else one.last_day or "-"
    services = ", ".join(one.client.services)
    return one.client.name, one.kind, services, last, f"{escape(one.place.file)}:{one.place.line}"


# -- arguments


def client(parser: argparse.ArgumentParser) -> None:
    """Set up ``client``."""
    parser.description = "Adds clients to the rules file, removes and lists them. `client add --help` explains each."
    commands = parser.add_subparsers(metavar="add|remove|list", required=True)
    _set_up_add(commands.add_parser("add", help="add a client, behind all others"))
    _set_up_remove(commands.add_parser("remove", help="take a client out, whatever file it stands in"))
    _set_up_list(commands.add_parser("list", help="list the clients: what they knock with, and where they stand"))


def _set_up_add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_add)
    parser.description = (
        "Adds a client to the rules file: nothing else in it is changed, no comment is lost, and the rules that come "
        "out are read before they are written. With a key that is secret (plain keys, fwknop's) give the client on "
        "standard input, as it would stand in the file."
    )
    text = "its name; or the line that `gatekeeper join` prints; or -: that line, or all that join prints, from stdin"
    parser.add_argument("client", metavar="NAME|LINE|-", help=text)
    parser.add_argument("--key", metavar="KEY", help="its public key, as `gatekeeper pubkey` or `wg pubkey` prints it")
    text = "a public key of another device of theirs; repeatable"
    parser.add_argument("--also-key", dest="also_keys", metavar="KEY", action="append", help=text)
    parser.add_argument("--services", metavar="NAME,...", help="what it may open")
    parser.add_argument("--ttl", metavar="TIME", help="how long its knocks open: 30m, 8h (default: the service's)")
    parser.add_argument("--not-after", metavar="DATE", help="its last day: 2027-01-31 (default: none)")
    parser.add_argument("--from", dest="sources", metavar="NETWORK,...", help="where its knocks may come from")
    text = "hours at which its knocks open: 'Mon-Fri 08:00-18:00 Europe/Berlin'; repeatable"
    parser.add_argument("--when", metavar="HOURS", action="append", help=text)
    parser.add_argument("--bind", action="store_true", help="its knocks must name the address that they come from")
    parser.add_argument("--for-others", action="store_true", help="its knocks may open for another address")
    text = "open for the network around the knock's source: ipv4=24,ipv6=56 (default: for the source itself)"
    parser.add_argument("--prefix", metavar="LENGTHS", type=_prefix, help=text)
    text = "write to this file, which the rules include (rules.d/ann.yaml; made if need be), and not to the main one"
    parser.add_argument("--file", metavar="FILE", help=text)
    _add_common(parser)


def _set_up_remove(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_remove)
    parser.description = (
        "Takes a client out of the rules file, or of the included file that it stands in. Comments on its own lines go "
        "with it; those above it stay. Its grants end with the reload."
    )
    parser.add_argument("name", metavar="NAME", help="a client of the rules")
    _add_common(parser)


def _set_up_list(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_list)
    parser.description = "Lists the clients of the rules. It shows no secret."
    parser.add_argument("--json", action="store_true", help="print JSON, public keys included")
    add_rules(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reload", action="store_true", help="have run go over to it at once")
    add_rules(parser)
    add_state_dir(parser)
