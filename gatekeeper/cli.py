"""The command line: reads arguments, calls one room, prints. The only room that prints errors.

Exit status: 0 fine, 1 an expected error (with a hint, where there is one), 2 wrong usage, 3 a bug.
Libraries are imported by the command that needs them, so that ``knock`` starts fast everywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import getpass
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from gatekeeper import __version__
from gatekeeper.errors import ClientError, GatekeeperError, RulesError, UsageError

RULES = "/etc/gatekeeper/rules.yaml"
STATE_DIR = "/var/lib/gatekeeper"
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.command
    try:
        status = command(options) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except Exception as error:  # noqa: BLE001  (the last door: a bug must say so)
        status = _tell(error)
    return status


def _tell(error: Exception) -> int:
    """Say what went wrong; return the exit status."""
    if isinstance(error, RulesError):
        _show_problems(error)
        return 1
    if isinstance(error, GatekeeperError):
        print(f"gatekeeper: error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"gatekeeper: hint: {error.hint}", file=sys.stderr)
        return 1
    if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of the output
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has seen enough
            return 0
        print(f"gatekeeper: error: the output could not be written: {error.strerror}", file=sys.stderr)
        return 1
    traceback.print_exception(error)
    print("gatekeeper: error: this is a bug in gatekeeper; please report what is above", file=sys.stderr)
    return 3


def _show_problems(error: RulesError) -> None:
    for problem in error.problems:
        print(problem, file=sys.stderr)
        if problem.hint:
            print(f"  hint: {problem.hint}", file=sys.stderr)
    count = f"{error.count} problem{'s'[: error.count != 1]}"
    shown = sum(not problem.is_warning for problem in error.problems)
    more = f" (the first {shown} are shown)" if shown < error.count else ""
    print(f"gatekeeper: error: {count} in the rules{more}; nothing was changed", file=sys.stderr)


# -- commands


def _run(options: argparse.Namespace) -> None:
    from gatekeeper import observe

    listener = observe.start_logging(options.log_format)
    try:
        if options.dry_run:
            from gatekeeper import dryrun

            dryrun.run(options.rules)
        else:
            from gatekeeper import daemon

            daemon.run(options.rules, options.state_dir)
    finally:
        listener.stop()


def _check(options: argparse.Namespace) -> None:
    from gatekeeper import rules

    found, warnings = rules.load(options.rules)
    for warning in warnings:
        print(warning, file=sys.stderr)
        if warning.hint:
            print(f"  hint: {warning.hint}", file=sys.stderr)
    print(f"{options.rules}: ok ({_count(found.services, 'service')}, {_count(found.clients, 'client')})")


def _ruleset(options: argparse.Namespace) -> None:
    from gatekeeper import rules
    from gatekeeper.firewall import names, ruleset

    found, _ = rules.load(options.rules)
    print("# ipset restore")
    print(ruleset.create_sets_text(found.services), end="")
    for version in names.VERSIONS:
        print(f"\n# {'iptables' if version == 4 else 'ip6tables'}-restore --noflush")
        print(ruleset.iptables_text(found, version), end="")


def _status(options: argparse.Namespace) -> None:
    from gatekeeper import admin
    from gatekeeper.status import as_text

    found = admin.status(options.rules, options.state_dir)
    print(json.dumps(found, indent=2) if options.json else as_text(found))


def _grant(options: argparse.Namespace) -> int:
    from gatekeeper import admin, rules
    from gatekeeper.model import show_source

    found, _ = rules.load(options.rules)
    source = admin.parse_source(options.source)
    grant, error = admin.grant(found, options.state_dir, source, options.service, options.ttl)
    end = "until closed" if grant.expires_at is None else f"until {_clock(grant.expires_at)}"
    print(f"granted {grant.service} to {show_source(grant.source)} {end}")
    if error is not None:
        print(f"gatekeeper: warning: stored, but not in the kernel yet: {error}", file=sys.stderr)
        print("gatekeeper: hint: `gatekeeper run` puts it there when it starts", file=sys.stderr)
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from gatekeeper import admin, rules
    from gatekeeper.model import show_source

    found, _ = rules.load(options.rules)
    source = admin.parse_source(options.source)
    outcome, covering = admin.revoke(found, options.state_dir, source, options.service)
    for grant in outcome.ended:
        print(f"revoked {grant.service} from {show_source(grant.source)} (client {grant.client})")
    if outcome.cut:
        print(f"cut {_count(range(outcome.cut), 'connection')}")
    for grant in covering:
        by = f"client {grant.client}"
        print(f"still open: {grant.service} for {show_source(grant.source)} ({by})", file=sys.stderr)
    if outcome.error is not None:
        raise GatekeeperError(f"not everything could be done: {outcome.error}")
    if not outcome.ended and not outcome.cut:
        what = f"of {options.service} " if options.service else ""
        raise UsageError(f"there is no grant {what}to {show_source(source)}", "`gatekeeper status` lists them")
    return 0


def _flush(options: argparse.Namespace) -> None:
    from gatekeeper.firewall import apply
    from gatekeeper.store.lock import runner

    pid = None
    with contextlib.suppress(GatekeeperError):
        pid = runner(options.state_dir)
    gone = apply.flush()
    for line in gone:
        print(f"removed {line}")
    if not gone:
        print("nothing of gatekeeper was in the kernel")
    if pid is not None:
        print(f"gatekeeper: warning: run is up (process {pid}): its ports are open to all now", file=sys.stderr)
        print("gatekeeper: hint: stop it, or restart it to close them again", file=sys.stderr)


def _knock(options: argparse.Namespace) -> int:
    from gatekeeper import client
    from gatekeeper.model import Action

    action = Action.CLOSE if options.close else Action.OPEN
    knock = client.plain_knock(_read_key(options.key_file, action.value), action=action, service=options.service)
    sent = client.send(options.host, options.port, knock)
    print(f"knocked at {', '.join(sent.addresses)} (udp/{options.port})")
    for address, reason in sent.failures:
        print(f"gatekeeper: warning: not at {address}: {reason}", file=sys.stderr)
    return 0


def _read_key(file: str | None, action: str) -> str:
    try:
        if file is not None and file != "-":
            return Path(file).read_text(encoding="utf-8")
        if sys.stdin is None:  # it was closed
            return ""
        if file == "-" or not sys.stdin.isatty():
            return sys.stdin.read()
        return getpass.getpass(f"key to {action}: ")
    except OSError as error:
        raise ClientError(f"cannot read the key in {file}: {error.strerror}", "name it with --key-file FILE") from error
    except EOFError:
        raise ClientError("no key was given", "name it with --key-file FILE") from None
    except UnicodeDecodeError:
        raise ClientError("the key is not text (UTF-8)") from None


def _demo(options: argparse.Namespace) -> int:
    from gatekeeper import demo

    return demo.run(show_rules=options.show_rules)


def _count(things: Sequence[object] | dict[str, object] | object, word: str) -> str:
    number = len(things)  # type: ignore[arg-type]
    return f"{number} {word}{'s'[: number != 1]}"


def _clock(when: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(when).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


# -- the parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gatekeeper",
        description="Ports that are closed and silent to everyone, and open at a knock to whoever holds a key.",
        epilog="`gatekeeper COMMAND --help` explains a command. Start with `gatekeeper demo`.",
    )
    parser.add_argument("--version", action="version", version=f"gatekeeper {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = _command(commands, "run", _run, "guard the services of the rules, in the foreground")
    run.description = (
        "Loads the rules, restores the grants, puts the ruleset in place, binds the queue, and logs a line that "
        "ends in `ready`. SIGTERM and Ctrl-C stop it and leave the ruleset: closed stays closed, open stays open "
        "until its time is up. Needs root (CAP_NET_ADMIN), but for --dry-run."
    )
    _add_rules(run)
    _add_state_dir(run)
    run.add_argument("--dry-run", action="store_true", help="touch no firewall: listen for knocks, log what would be")
    run.add_argument("--log-format", choices=("text", "json"), default="text", help="log lines (default: text)")

    check = _command(commands, "check", _check, "check the rules; show every problem at once")
    check.description = "Exit 0, or every problem as FILE:LINE:COLUMN: what is wrong, with a hint, and exit 1."
    _add_rules(check)

    ruleset = _command(commands, "ruleset", _ruleset, "print what run would load into the kernel")
    ruleset.description = "Prints the text for ipset, iptables-restore and ip6tables-restore. Needs no root."
    _add_rules(ruleset)

    status = _command(commands, "status", _status, "show services, live grants and counters")
    status.description = "Works while run is up, and from the store and the kernel when it is not."
    _add_rules(status)
    _add_state_dir(status)
    status.add_argument("--json", action="store_true", help="print JSON")

    grant = _command(commands, "grant", _grant, "let a source in by hand")
    grant.description = "Grants an address or a network a service. Takes effect at once, whether or not run is up."
    grant.add_argument("source", metavar="SOURCE", help="address or network, IPv4 or IPv6")
    grant.add_argument("service", metavar="SERVICE", help="a service of the rules")
    grant.add_argument("--ttl", metavar="TIME", help="30s, 15m, 1h, forever (default: the service's ttl)")
    _add_rules(grant)
    _add_state_dir(grant)

    revoke = _command(commands, "revoke", _revoke, "end grants, and cut what is open")
    revoke.description = "Ends every grant, of any client, whose source lies in SOURCE, and cuts its connections."
    revoke.add_argument("source", metavar="SOURCE", help="address or network, IPv4 or IPv6")
    revoke.add_argument("service", metavar="SERVICE", nargs="?", help="only this service (default: all)")
    _add_rules(revoke)
    _add_state_dir(revoke)

    flush = _command(commands, "flush", _flush, "take all of gatekeeper out of the kernel: the ports are open then")
    flush.description = "Removes every rule, chain and set of gatekeeper and nothing else, and says what it removed."
    _add_state_dir(flush)

    knock = _command(commands, "knock", _knock, "send a knock")
    knock.description = (
        "Sends a plain key to every address of HOST, IPv4 and IPv6. The key is read from a file, standard input "
        "or a prompt, never from the command line: one line, or two (the first opens, the second closes)."
    )
    knock.add_argument("host", metavar="HOST", help="name or address of the server")
    knock.add_argument("--port", type=_port, default=62201, metavar="N", help="knock port (default: 62201)")
    knock.add_argument("--close", action="store_true", help="close instead of open")
    knock.add_argument("--service", metavar="NAME", help="only this service (default: all that the key opens)")
    knock.add_argument(
        "--key-file", metavar="FILE", help="where the key is (- or default: standard input, or a prompt)"
    )

    demo = _command(commands, "demo", _demo, "watch the real thing at work, in network namespaces of its own")
    demo.description = "A server, a client and a stranger; the host's own firewall is never touched. Needs root."
    demo.add_argument("--show-rules", action="store_true", help="print the iptables and ipset state at each step")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int | None],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.set_defaults(command=function)
    return parser


def _add_rules(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("GATEKEEPER_RULES") or RULES
    text = f"rules file (default: {RULES}, or $GATEKEEPER_RULES)"
    parser.add_argument("--rules", type=Path, metavar="FILE", default=Path(default), help=text)


def _add_state_dir(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("GATEKEEPER_STATE_DIR") or STATE_DIR
    text = f"where grants are kept (default: {STATE_DIR}, or $GATEKEEPER_STATE_DIR)"
    parser.add_argument("--state-dir", type=Path, metavar="DIR", default=Path(default), help=text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!a} is not a port (1 to 65535)")
    return int(text)
