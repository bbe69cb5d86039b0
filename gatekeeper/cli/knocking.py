"""The commands that ssh waits for: knock and connect. Light to import, so there is no argparse in here."""

from __future__ import annotations

import sys
import time

from gatekeeper.client import knocker
from gatekeeper.client.addresses import Target
from gatekeeper.client.knocker import Ask, Maker, SealedMaker, Sent, Udp, Way
from gatekeeper.client.profile import ICMP, UDP, Profile
from gatekeeper.errors import ClientError, UsageError

TYPE_CHECKING = False  # as the one of typing, which takes 5 ms
if TYPE_CHECKING:
    from argparse import Namespace as Options
    from collections.abc import Sequence

    from gatekeeper.sealed.wire import Answer
else:

    class Options:
        """What argparse would make of a command line that has no options."""

        def __init__(self, **values: object) -> None:
            vars(self).update(values)


DEFAULTS: dict[str, object] = {
    "service": None,
    "ttl": None,
    "source": knocker.AUTO,
    "via": None,
    "port": None,
    "identity": None,
    "server_key": None,
    "ack": False,
    "timeout": 10.0,
    "close": False,
    "wait": None,
    "quiet": False,
    "key_file": None,
    "profile": None,
    "fdpass": False,
    "format": None,
    "access": None,
    "rc": None,
    "stanza": None,
    "steps": (),
    "delay": None,
}
_OF_FORMATS = ("access", "rc", "stanza", "steps", "delay")
"""What only the formats of other daemons have."""
_BY_UDP = "leave it out, or knock with --via udp"
_TO_THE_MINUTE = 600
"""Seconds: what is open for longer is told without the seconds."""
_ANSWER_AFTER = (0.3, 0.7, 1.5)
"""Seconds to wait for an answer to each knock, where the server gives answers."""


def short_way(words: Sequence[str]) -> Options | None:
    """Read the command lines of docs/client.md for ssh; ``None`` where argparse must look at them."""
    flags = {word for word in words if word.startswith("-")}
    match [word for word in words if word not in flags]:
        case ["knock", target] if flags <= {"--quiet"}:
            return Options(**{**DEFAULTS, "quiet": bool(flags)}, command=knock, target=target)
        case ["connect", host, at] if flags <= {"--fdpass"}:
            if at.isdecimal() and len(at) <= 5 and 1 <= int(at) <= 65535:
                return Options(**{**DEFAULTS, "fdpass": bool(flags)}, command=connect, host=host, at=int(at))
    return None


# -- knock and connect


def knock(options: Options) -> None:
    """Send a knock, and see what comes of it."""
    from gatekeeper.client import addresses

    _refuse_nonsense(options)
    if options.format == "sequence":
        _knock_by_sequence(options)
        return
    target, way, maker = _target(options, options.wait if options.port is None else options.port)
    found = addresses.resolve(target.host)
    begin = time.monotonic()
    if options.wait is not None:
        _wait(options, way, found, maker, begin)
    elif target.ack and isinstance(way, Udp) and isinstance(maker, SealedMaker):
        _knock_until_answered(options, target, way, found, maker)
    else:
        _say(options, way, knocker.send(found, way, maker))
        if maker.is_unsure:  # there is no second try that could do without
            knocker.send(found, way, maker, is_first_try=False)
    _warn(maker)


def _knock_by_sequence(options: Options) -> None:
    from gatekeeper.cli import formats
    from gatekeeper.client import addresses, reach, sequence

    read = None if options.key_file is None else _read_plain_key(options.key_file, "knock")
    steps, delay = formats.steps(options, read), formats.delay(options)
    found = addresses.resolve(options.target)
    begin = time.monotonic()

    def send(is_first: bool) -> None:  # noqa: FBT001
        if is_first:  # once: knockd would add its rule again for each, and delete one of them at a close
            sent = sequence.hit(found, steps, delay)
            _say(options, f"a sequence of {len(steps)} ports", sent)

    if options.wait is None:
        send(is_first=True)
        return
    reach.connect(found, options.wait, send, limit=options.timeout, is_patient=True).close()
    _say_answered(options, begin)


def _wait(options: Options, way: Way, found: list[Target], maker: Maker, begin: float) -> None:
    from gatekeeper.client import reach

    def send(is_first: bool) -> None:  # noqa: FBT001
        sent = knocker.send(found, way, maker, is_first_try=is_first)
        if is_first:
            _say(options, way, sent)

    reach.connect(found, options.wait, send, limit=options.timeout, is_patient=True).close()
    _say_answered(options, begin)


def _say_answered(options: Options, begin: float) -> None:
    if not options.quiet:
        print(f"tcp/{options.wait} answered after {(time.monotonic() - begin) * 1000:.1f} ms")


def _knock_until_answered(options: Options, target: Profile, way: Way, found: list[Target], maker: SealedMaker) -> None:
    forged = 0
    for number, patience in enumerate(_ANSWER_AFTER):
        sent = knocker.send(found, way, maker, is_first_try=number == 0, keep_open=True)
        if number == 0:
            _say(options, way, sent)
        silent = dict.fromkeys(sent.addresses)
        try:
            for address, answer in sent.answers(maker, timeout=patience):
                del silent[address]
                if not options.quiet:
                    print(f"{address} says: {_words(answer, time.time())}")
        finally:
            sent.close()
        forged += sent.forged
        if len(silent) < len(sent.addresses):  # some networks have no IPv6 that gets through: one answer is enough
            for address in silent:
                _complain(f"{address} has not answered: it may be closed there, or its answer was lost")
            return
    words = f"{target.host} did not answer {len(_ANSWER_AFTER)} knocks"
    if forged:
        words += f"; what came in its place ({forged} datagrams) was not from the server with this key"
    hint = (
        "it may be open all the same, for an answer can be lost; if it is not, its log says why (is a clock "
        "off?); a server answers only where its rules have `knock: {ack: true}`"
    )
    raise ClientError(words, hint)


def _words(answer: Answer, now: float) -> str:
    """Say what an answer says, by the clock and the time zone of this machine."""
    from gatekeeper.sealed import wire

    if answer.result == wire.CLOSE:
        return "closed"
    if answer.ttl == wire.FOREVER:
        return "open until closed"
    end, today = time.localtime(now + answer.ttl), time.localtime(now)
    clock = "%H:%M" if answer.ttl >= _TO_THE_MINUTE else "%H:%M:%S"
    is_today = end[:3] == today[:3]
    return f"open until {time.strftime(clock if is_today else f'%Y-%m-%d {clock}', end)}"


def connect(options: Options) -> None:
    """Knock, connect, and join the connection to standard input and output."""
    from gatekeeper.client import addresses, bridge, reach

    _refuse_nonsense(options)
    if sys.stdin is None or sys.stdout is None:
        raise UsageError("standard input or output is closed", "ssh opens both: this is for its ProxyCommand")
    options.target = options.profile or options.host
    target, way, maker = _target(options, options.at)
    found = addresses.resolve(target.host if options.profile is None else options.host)

    def send(is_first: bool) -> None:  # noqa: FBT001
        knocker.send(found, way, maker, is_first_try=is_first)

    stream = reach.connect(found, options.at, send, limit=options.timeout)
    _warn(maker)
    if options.fdpass:
        bridge.hand_over(stream)
    else:
        bridge.bridge(stream)


def _refuse_nonsense(options: Options) -> None:
    """Refuse options that would be ignored."""
    pairs = (
        (options.close and options.wait is not None, "--wait waits for a port to open, and --close closes it"),
        (options.close and options.ttl is not None, "--ttl says for how long to open, and --close closes"),
        (
            options.wait is not None and options.ack,
            "--wait and --ack: one of them is enough",
        ),
        (
            options.profile is not None and options.server_key is not None,
            "--server-key: a profile has it too",
        ),
    )
    for is_nonsense, words in pairs:
        if is_nonsense:
            raise UsageError(words)
    if options.format is not None or any(getattr(options, name) != DEFAULTS[name] for name in _OF_FORMATS):
        from gatekeeper.cli import formats

        formats.refuse_nonsense(options, DEFAULTS)
    elif options.key_file is not None:
        for name in ("ttl", "identity", "server_key", "ack", "source"):
            if getattr(options, name) != DEFAULTS[name]:
                raise UsageError(f"--{name.replace('_', '-')} is not for plain keys (--key-file)")
    name = options.service
    if name is not None and options.key_file is None and not (0 < len(name) <= 16 and name.isascii()):
        raise UsageError(f"no service can be called {name!a}", "the server's administrator knows its name")


def _target(options: Options, at: int | None) -> tuple[Profile, Way, Maker]:
    """Find out whom to knock at, how, and with which key. ``at``: the protected port that a SYN would go to."""
    if options.format is not None:
        from gatekeeper.cli import fwknop

        target, its_maker = fwknop.target(options)
        return target, Udp(target.port), its_maker
    from gatekeeper.client import plain, profile

    if options.key_file is not None:
        found = Profile(host=options.target, server_key=b"", identity="")
        way = _way(options, found, at)
        keys = _read_plain_key(options.key_file, "close" if options.close else "open")
        return found, way, knocker.PlainMaker(plain.knock(keys, close=options.close, service=options.service))
    known = _direct(options) if options.server_key is not None else profile.find(options.target)
    if known is None:
        hint = "`gatekeeper join INVITE` makes one; or name --server-key and --identity, or a plain key by --key-file"
        raise ClientError(f"there is no profile {options.target!a}, and none for a host of that name", hint)
    known.ack = known.ack or options.ack
    return known, _way(options, known, at), _maker(options, known)


def _way(options: Options, target: Profile, at: int | None) -> Way:
    """Decide how the knock travels, and refuse what that way has no use for."""
    via = options.via or target.via
    if via == UDP:
        return Udp(target.port if options.port is None else options.port)
    from gatekeeper.client import ways

    if options.ack:
        raise UsageError(f"--ack: the server's answer comes by UDP, and this knock goes by {via}", _BY_UDP)
    if via == ICMP:
        if options.port is not None:
            raise UsageError("--port: an echo request goes to no port", _BY_UDP)
        return ways.Icmp()
    if at is None:
        raise UsageError("a SYN knocks at a protected port, and none is named", "name it: --port N, or --wait tcp/N")
    if options.port not in (None, at):
        raise UsageError(f"--port: a SYN knocks at the port that is connected to, tcp/{at}", _BY_UDP)
    return ways.Syn(at)


def _direct(options: Options) -> Profile:
    from gatekeeper.client import profile
    from gatekeeper.sealed import keys

    try:
        server_key = keys.parse_public(options.server_key)
    except ValueError as error:
        raise UsageError(f"--server-key: {error}", "`gatekeeper pubkey --server` prints it on the server") from None
    return Profile(host=options.target, server_key=server_key, identity=options.identity or profile.default_identity())


def _maker(options: Options, found: Profile) -> SealedMaker:
    from gatekeeper import keyfiles

    if found.services and options.service is not None and options.service not in found.services:
        known = ", ".join(found.services)
        raise UsageError(f"this profile has no service {options.service!a}", f"it has: {known}")
    source = options.source
    if source == knocker.AUTO and found.bind:
        source = knocker.OWN
    ask = Ask(close=options.close, service=options.service, ttl=_ttl(options.ttl), source=source)
    return SealedMaker(keyfiles.read(options.identity or found.identity), found.server_key, ask)


def _ttl(text: str | None) -> int:
    if text is None:
        return 0
    from gatekeeper import duration
    from gatekeeper.sealed import wire

    try:
        seconds = duration.parse(text)
    except ValueError as error:
        raise UsageError(f"--ttl: {error}", duration.HINT) from None
    return wire.FOREVER if seconds is None else seconds


def _say(options: Options, way: Way | str, sent: Sent) -> None:
    if not options.quiet:
        print(f"knocked at {', '.join(sent.addresses)} ({way})")
    for address, reason in sent.failures:
        _complain(f"not at {address}: {reason}")


def _warn(maker: Maker) -> None:
    for warning in maker.warnings:
        _complain(warning)


def _complain(words: str) -> None:
    if sys.stderr is not None:  # it may be closed; then print would take standard output
        print(f"gatekeeper: warning: {words}", file=sys.stderr)


def _read_plain_key(file: str, action: str) -> str:
    try:
        if file != "-":
            with open(file, encoding="utf-8") as keys:
                return keys.read()
        if sys.stdin is None:  # it was closed
            return ""
        if not sys.stdin.isatty():
            return sys.stdin.read()
        import getpass

        return getpass.getpass(f"key to {action}: ")
    except OSError as error:
        raise ClientError(f"cannot read the key in {file}: {error.strerror}", "name it with --key-file FILE") from error
    except EOFError:
        raise ClientError("no key was given", "name it with --key-file FILE") from None
    except UnicodeDecodeError:
        raise ClientError("the key is not text (UTF-8)") from None
