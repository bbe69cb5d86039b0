"""The commands of a server: what they print, and the arguments that they take."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sized
from pathlib import Path
from types import ModuleType

from gatekeeper.cli.options import add_confirm, add_grant_me, add_log_format, add_rules, add_state_dir, size
from gatekeeper.errors import GatekeeperError, UsageError


def _run(options: argparse.Namespace) -> None:

    from gatekeeper import logs

    rules, state_dir, style = Path(options.rules), Path(options.state_dir), options.log_format
    if not options.dry_run:
        logs.log_directly(style)
        from gatekeeper.recording.ring import Recording

        to = None if options.capture is None else Recording(Path(options.capture).absolute(), options.capture_limit)
        how = _daemon().How(
            log_format=options.log_format,
            only_observe=options.observe,
            grant_me=options.grant_me,
            recording=to,
            confirm_within=options.confirm,
        )
        _daemon().run(rules, state_dir, how)
        return
    if options.capture is not None:
        raise UsageError("a dry run sees no packets that could be recorded", "leave out --capture, or --dry-run")
    if options.confirm is not None:
        raise UsageError("a dry run changes nothing that could be put back", "leave out --confirm")
    from gatekeeper import dryrun

    listener = logs.start_logging(style)
    try:
        dryrun.run(rules, state_dir)
    finally:
        listener.stop()


def _daemon() -> ModuleType:
    try:
        from gatekeeper import daemon
    except ModuleNotFoundError as error:
        if error.name not in {"netfilterqueue", "scapy"}:
            raise
        hint = "pip install 'gatekeeper[server]' (it needs a compiler and libnetfilter-queue-dev), or scripts/setup"
        raise UsageError(f"this is an installation for clients: it lacks {error.name}", hint) from None
    return daemon


def _check(options: argparse.Namespace) -> None:
    from gatekeeper import rules

    if options.schema:
        print(rules.json_schema(), end="")
        return

    read = rules.read(Path(options.rules))
    found = read.rules
    for warning in read.problems:
        print(warning, file=sys.stderr)
        if warning.hint:
            print(f"  hint: {warning.hint}", file=sys.stderr)
    files = f", in {len(read.files)} files" if len(read.files) > 1 else ""
    print(f"{options.rules}: ok ({_count(found.services, 'service')}, {_count(found.clients, 'client')}{files})")


def _ruleset(options: argparse.Namespace) -> None:
    from gatekeeper import rules
    from gatekeeper.firewall import members, names, ruleset, sets

    found, _ = rules.load(Path(options.rules))
    if found.has_tagged:
        print(f"# {names.TAGS} is empty here: `run` fills it with the door tags of the time", end="\n\n")
    way: members.Members = members.RuleMembers() if found.firewall.backend == "rules" else members.SetMembers()
    if isinstance(way, members.SetMembers):
        print("# ipset restore")
        print(sets.create_text(found), end="\n\n")
    for version in names.VERSIONS:
        print(f"# {'iptables' if version == 4 else 'ip6tables'}-restore --noflush")
        print(ruleset.iptables_text(found, version, way), end="\n" if version == 4 else "")


def _grant(options: argparse.Namespace) -> int:
    from gatekeeper import admin, rules
    from gatekeeper.networks import show_source

    found, _ = rules.load(Path(options.rules))
    source = admin.parse_source(options.source)
    grant, caution = admin.grant(found, Path(options.state_dir), source, options.service, options.ttl)
    end = "until closed" if grant.expires_at is None else f"until {_clock(grant.expires_at)}"
    print(f"granted {grant.service} to {show_source(grant.source)} {end}")
    if caution is not None:
        print(f"gatekeeper: warning: {caution[0]}\ngatekeeper: hint: {caution[1]}", file=sys.stderr)
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from gatekeeper import admin, rules
    from gatekeeper.networks import show_source

    found, _ = rules.load(Path(options.rules))
    source = admin.parse_source(options.source)
    outcome, covering = admin.revoke(found, Path(options.state_dir), source, options.service)
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
    from gatekeeper import flushing

    done, complaint = flushing.flush(Path(options.state_dir), stop=options.stop)
    for line in done:
        print(line)
    if complaint is not None:
        print(f"gatekeeper: warning: {complaint}", file=sys.stderr)
    if not any(line.startswith("removed ") for line in done):
        print("nothing of gatekeeper was in the kernel")


def _invite(options: argparse.Namespace) -> None:
    from gatekeeper import admin, rules

    found, _ = rules.load(Path(options.rules))
    invite = str(admin.invite(found, Path(options.state_dir), options.name, options.service, options.host))
    print(invite)
    if options.qr:
        import segno

        segno.make(invite, error="l").terminal(compact=True)
    print(f"on the device: gatekeeper join {shlex.quote(invite)}", file=sys.stderr)


def _reset_floor(options: argparse.Namespace) -> None:
    from gatekeeper import admin, rules

    found, _ = rules.load(Path(options.rules))
    lowered = admin.reset_floor(found, Path(options.state_dir), options.client)
    if not lowered:
        print(f"nothing to do: no replay floor of {options.client} is ahead of this clock")
        return
    print(f"set back {_count(range(lowered), 'replay floor')} of {options.client} to now")


def _demo(options: argparse.Namespace) -> int:
    _daemon()
    from gatekeeper import demo

    return demo.run(show_rules=options.show_rules)


def _count(things: Sized, word: str) -> str:
    number = len(things)
    return f"{number} {word}{'s'[: number != 1]}"


def _clock(when: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(when).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


# -- arguments


def run(parser: argparse.ArgumentParser) -> None:
    """Set up ``run``."""
    parser.set_defaults(command=_run)
    parser.description = (
        "Loads the rules, restores the grants, puts the ruleset in place, binds the queue, and logs a line that "
        "ends in `ready`. SIGTERM and Ctrl-C stop it and leave the ruleset: closed stays closed, open stays open "
        "until its time is up. Needs root (CAP_NET_ADMIN), but for --dry-run."
    )
    add_rules(parser)
    add_state_dir(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="touch no firewall: listen, log what would be done")
    how.add_argument("--observe", action="store_true", help="drop nothing: log what would have been (as mode: observe)")
    add_grant_me(parser)
    add_confirm(parser, "run is stopped")
    text = "record what is refused, without payloads, for `gatekeeper explain`, tcpdump and Wireshark (FILE, FILE.1)"
    parser.add_argument("--capture", metavar="FILE", help=text)
    text = "how large these two may become together (default: 10MB)"
    parser.add_argument("--capture-limit", metavar="SIZE", type=size, default=10_000_000, help=text)
    add_log_format(parser)


def check(parser: argparse.ArgumentParser) -> None:
    """Set up ``check``."""
    parser.set_defaults(command=_check)
    parser.description = "Exit 0, or every problem as FILE:LINE:COLUMN: what is wrong, with a hint, and exit 1."
    add_rules(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of rules.yaml, for editors")


def ruleset(parser: argparse.ArgumentParser) -> None:
    """Set up ``ruleset``."""
    parser.set_defaults(command=_ruleset)
    parser.description = "Prints the text for ipset, iptables-restore and ip6tables-restore. Needs no root."
    add_rules(parser)


def grant(parser: argparse.ArgumentParser) -> None:
    """Set up ``grant``."""
    parser.set_defaults(command=_grant)
    parser.description = "Grants an address or a network a service. Takes effect at once, whether or not run is up."
    parser.add_argument("source", metavar="SOURCE", help="address or network, IPv4 or IPv6")
    parser.add_argument("service", metavar="SERVICE", help="a service of the rules")
    parser.add_argument("--ttl", metavar="TIME", help="30s, 15m, 1h, forever (default: the service's ttl)")
    add_rules(parser)
    add_state_dir(parser)


def revoke(parser: argparse.ArgumentParser) -> None:
    """Set up ``revoke``."""
    parser.set_defaults(command=_revoke)
    parser.description = "Ends every grant, of any client, whose source lies in SOURCE, and cuts its connections."
    parser.add_argument("source", metavar="SOURCE", help="address or network, IPv4 or IPv6")
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="only this service (default: all)")
    add_rules(parser)
    add_state_dir(parser)


def flush(parser: argparse.ArgumentParser) -> None:
    """Set up ``flush``."""
    parser.set_defaults(command=_flush)
    parser.description = (
        "Removes every rule, chain and set of gatekeeper and nothing else, and says what it removed. While run is up "
        "it refuses, for run would put it all back; with --stop it stops run first."
    )
    parser.add_argument("--stop", action="store_true", help="stop run first: THE PORTS ARE OPEN THEN")
    add_state_dir(parser)


def invite(parser: argparse.ArgumentParser) -> None:
    """Set up ``invite``."""
    parser.set_defaults(command=_invite)
    parser.description = (
        "Prints one line for `gatekeeper join` on the client's device: host, port, the server's public key, services. "
        "There is no secret in it, but whoever has it can make datagrams that the server looks at: do not publish it."
    )
    parser.add_argument("name", metavar="NAME", help="the client's name in the rules, now or later")
    parser.add_argument(
        "--host", required=True, metavar="HOST", help="by which name or address clients reach the server"
    )
    parser.add_argument(
        "--service", action="append", metavar="NAME", help="a service; repeatable (default: the client's)"
    )
    parser.add_argument("--qr", action="store_true", help="print it as a QR code too")
    add_rules(parser)
    add_state_dir(parser)


def reset_floor(parser: argparse.ArgumentParser) -> None:
    """Set up ``reset-floor``."""
    parser.set_defaults(command=_reset_floor)
    parser.description = (
        "For the reason `floor-ahead`: knocks were accepted while the clocks of server and client were wrong, and now "
        "that they are right, new knocks look old. What was accepted then stays refused."
    )
    parser.add_argument("client", metavar="CLIENT", help="a client of the rules")
    add_rules(parser)
    add_state_dir(parser)


def demo(parser: argparse.ArgumentParser) -> None:
    """Set up ``demo``."""
    parser.set_defaults(command=_demo)
    parser.description = "A server, a client and a stranger; the host's own firewall is never touched. Needs root."
    parser.add_argument("--show-rules", action="store_true", help="print the iptables and ipset state at each step")
