"""``gatekeeper knock --format``: what fwknopd and knockd hear. Imported only where it is asked for."""

from __future__ import annotations

from gatekeeper.client import sequence
from gatekeeper.errors import ClientError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace as Options
    from collections.abc import Mapping

FWKNOP, SEQUENCE = FORMATS = ("fwknop", "sequence")
_ONLY_SEALED = ("service", "via", "identity", "server_key", "ack")
_NOT_OF = {
    None: ("access", "rc", "stanza", "steps", "delay"),
    FWKNOP: (*_ONLY_SEALED, "steps", "delay", "close"),
    SEQUENCE: (*_ONLY_SEALED, "access", "rc", "stanza", "port", "ttl"),
}
_SHOWN = {"steps": "steps (more words than one) are", "stanza": "-n is"}
_HINTS = {
    (FWKNOP, "close"): "its messages cannot close: what it opens ends by time",
    (FWKNOP, "service"): "name ports: --access tcp/22",
    (FWKNOP, "steps"): "name ports: --access tcp/22,udp/53",
    (SEQUENCE, "port"): "the steps are the ports",
    (SEQUENCE, "ttl"): "the server says for how long it opens",
}


def refuse_nonsense(options: Options, defaults: Mapping[str, object]) -> None:
    """Refuse options that the format has no use for.

    Raises:
        UsageError: there is one.
    """
    for name in _NOT_OF[options.format]:
        if getattr(options, name) != defaults[name]:
            what = _SHOWN.get(name) or f"--{name.replace('_', '-')} is"
            whose = f"--format {options.format}" if options.format else "sealed knocks, or plain ones: name a --format"
            raise UsageError(f"{what} not for {whose}", _HINTS.get((options.format, name)))
    if options.format == SEQUENCE and options.source not in ("auto", "none"):
        raise UsageError("--source: a sequence opens for the address that it comes from", "leave it out")


def steps(options: Options, read: str | None) -> list[sequence.Step]:
    """Read the steps, from the command line, or from a file whose first line opens and whose second closes.

    Raises:
        ClientError: they are no sequence.
    """
    if read is None:
        if options.close:
            raise UsageError(
                "--close: the steps that are named are knocked at", "name those that close, without --close"
            )
        if not options.steps:
            raise UsageError("no steps are named", "such as 7000/udp 8000 9000; or --key-file FILE")
        return sequence.parse(options.steps)
    if options.steps:
        raise UsageError("steps are named, and a file of them", "leave one of them out")
    lines = [line for line in map(str.strip, read.split("\n")) if line and not line.startswith("#")]
    if not lines or len(lines) > 2 or (options.close and len(lines) < 2):
        hint = "its first line opens, the second one closes: 7000/udp 8000 9000"
        raise ClientError("the file has no such sequence" if lines else "there is no sequence in the file", hint)
    return sequence.parse(lines[-1 if options.close else 0].replace(",", " ").split())


def delay(options: Options) -> float:
    """Return the pause between steps, in seconds."""
    return float(options.delay or 0) / 1000
