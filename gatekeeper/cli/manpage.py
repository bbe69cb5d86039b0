"""The man page gatekeeper(1), made of the parsers: ``python -m gatekeeper.cli.manpage > gatekeeper.1``.

What stands here is only what no parser knows: files, environment, exit statuses. The date is SOURCE_DATE_EPOCH's, as
reproducible builds have it, or there is none.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Iterator

from gatekeeper import __version__
from gatekeeper.cli import commands, examples

_DESCRIPTION = """\
A door in front of SSH and other ports that the whole internet scans: closed and silent to everyone, open to whoever \
holds a key. iptables sends the packets for a protected port, and for the knock port, to a queue; gatekeeper drops \
those of strangers without a word, and lets in who has knocked, for a time, by an entry in the kernel.

The commands join, knock, connect, keygen and pubkey are the client's: they work on any system, without root. The \
others are for the server.
"""
FILES = (
    (
        "/etc/gatekeeper/rules.yaml",
        "The rules of a server: services, clients, their keys. Its reference is docs/rules.md.",
    ),
    ("/var/lib/gatekeeper", "The state directory: the grants, and the server's private key."),
    ("/run/gatekeeper", "Who runs in which network namespace, and what waits to be confirmed."),
    ("~/.config/gatekeeper/profiles", "The servers that a client knows, a file each, as `gatekeeper join` makes them."),
    ("~/.config/gatekeeper/identity.key, ~/.config/gatekeeper/keys", "The private keys of a client."),
    ("~/.local/state/gatekeeper", "When each key was last used, so that no two knocks bear the same time."),
    ("~/.fwknoprc", "Stanzas of fwknop's client, for `gatekeeper knock --format fwknop`."),
)
ENVIRONMENT = (
    ("GATEKEEPER_RULES", "The rules file, where --rules names none."),
    ("GATEKEEPER_STATE_DIR", "The state directory, where --state-dir names none."),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME", "Where a client keeps its things, in place of ~/.config and ~/.local/state."),
    ("NO_COLOR", "When it is set, and not empty, nothing is coloured."),
    ("FORCE_COLOR", "When it is set, and not empty, `gatekeeper explain` colours also what is no terminal."),
    ("TERM", "Where it is dumb, nothing is coloured and nothing moves."),
)
EXIT_STATUS = (
    ("0", "Done. Also when the reader of the output went away before its end, as head(1) does."),
    ("1", "It could not be done; an error says what, where, and often what to do. (The doctor: something is wrong.)"),
    ("2", "The command line is wrong."),
    ("3", "A bug in gatekeeper; please report what it says."),
    ("130", "Ctrl-C. (`gatekeeper run` stops by it, as by SIGTERM, and that is 0.)"),
)  # fmt: skip
_WIDTH = 72
_SEE_ALSO = "ssh_config(5), iptables(8), ipset(8), tcpdump(8), systemctl(1)"


def page() -> str:
    """Return the man page as roff."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    parser = commands.whole()
    yield f'.TH GATEKEEPER 1 "{_date()}" "gatekeeper {__version__}" "User Commands"'
    yield from (".SH NAME", "gatekeeper \\- ports that are closed and silent to everyone, and open at a knock")
    yield from (".SH SYNOPSIS", ".B gatekeeper", ".I COMMAND", "[\\fIOPTIONS\\fR]")
    yield from (".br", ".B gatekeeper", "[\\fB\\-\\-help\\fR | \\fB\\-\\-version\\fR]")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_DESCRIPTION)
    yield ".SH COMMANDS"
    yield from _paragraphs("Each explains itself with --help.")
    for _, sub, text in commands.subcommands(parser):
        yield from _command(sub, text)
    for title, rows in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", EXIT_STATUS)):
        yield f".SH {title}"
        yield from (line for what, words in rows for line in (".TP", f".B {_plain(what)}", _text(words)))
    yield ".SH EXAMPLES"
    yield from _paragraphs("Each command has some:")
    for line, what in dict(_examples(parser)).items():
        yield from (".TP", f".B {_plain(line)}", _text(what))
    yield from (".SH SEE ALSO", *_paragraphs(_SEE_ALSO))


def _date() -> str:
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) if seconds.isdecimal() else ""


def _examples(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for name, sub, _ in commands.subcommands(parser):
        for _, one in commands.all_below(name, sub):
            yield from examples.lines(one.epilog)


def _command(parser: argparse.ArgumentParser, text: str) -> Iterator[str]:
    words = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield from (f".SS {_plain(parser.prog.removeprefix('gatekeeper '))}", ".nh", _text(words), ".hy", ".PP")
    yield _text(f"{text[:1].upper()}{text[1:]}.")
    if parser.description:
        yield from (".PP", *_paragraphs(parser.description))
    formatter = parser._get_formatter()  # noqa: SLF001  (it knows how an option is written, and what its help says)
    for action in parser._actions:  # noqa: SLF001
        is_shown = action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)  # noqa: SLF001
        if is_shown and not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield ".TP"
            yield f".B {_plain(formatter._format_action_invocation(action))}"  # noqa: SLF001
            yield _text(formatter._expand_help(action) if action.help else "")  # noqa: SLF001
    for _, sub, about in commands.subcommands(parser):
        yield from _command(sub, about)


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ".PP"
        yield _text(paragraph)


def _text(words: str) -> str:
    """Write running text, in lines that a person can read too."""
    return "\n".join(map(_plain, textwrap.wrap(words, _WIDTH, break_on_hyphens=False, break_long_words=False)))


def _plain(words: str) -> str:
    """Write words so that roff reads them as words: no escapes, no requests, and hyphens that can be copied."""
    text = " ".join(words.split()).replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    text = text.replace("^", "\\(ha").replace("`", "\\(ga").replace("'", "\\(aq").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.stdout.write(page())
