"""Which commands there are, and how each gets its parser: the one that is called, or all of them for the man page."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence

from gatekeeper import __version__
from gatekeeper.errors import UsageError

TYPE_CHECKING = False  # as the one of typing, which takes 5 ms: `knock` with options comes by here
if TYPE_CHECKING:
    from typing import IO, NoReturn

COMMANDS = {
    "run": ("server", "guard the services of the rules, in the foreground"),
    "load": ("units", "put the closed ruleset and the live grants in place, and end (for the early unit)"),
    "install": ("units", "have systemd run gatekeeper, from before the network comes up"),
    "uninstall": ("units", "take the units away, and gatekeeper out of the kernel: the ports are open then"),
    "check": ("server", "check the rules; show every problem at once"),
    "diff": ("reload", "show what reload would change, in the rules and in the kernel"),
    "reload": ("reload", "have run go over to the rules file as it is now"),
    "client": ("clients", "add, remove or list clients in the rules file"),
    "ruleset": ("server", "print what run would load into the kernel"),
    "status": ("status", "show services, live grants and counters"),
    "log": ("log", "show what the audit trail has: who was let in, and who was not"),
    "grant": ("server", "let a source in by hand"),
    "revoke": ("server", "end grants, and cut what is open"),
    "doctor": ("doctor", "look for what can keep a door open, or shut, and say what to do"),
    "explain": ("explain", "say of each packet of a capture what becomes of it, and why"),
    "confirm": ("confirm", "let the ruleset stay that `run --confirm` has loaded"),
    "flush": ("server", "take all of gatekeeper out of the kernel: the ports are open then"),
    "invite": ("server", "print what a new client needs to know of this server, in one line"),
    "reset-floor": ("server", "set back the replay floor of a client that a wrong clock has pushed ahead"),
    "join": ("client", "take an invite: make a key and a profile, and print the line for rules.yaml"),
    "knock": ("client", "send a knock"),
    "connect": ("client", "knock, connect, and join the connection to standard input and output (for ssh)"),
    "import": ("migrating", "make rules.yaml of the configuration of fwknopd or knockd"),
    "keygen": ("client", "make a private key, and print its public half"),
    "pubkey": ("client", "print the public half of a private key"),
    "demo": ("server", "watch the real thing at work, in network namespaces of its own"),
    "completion": ("completion", "print what has bash, zsh or fish complete gatekeeper's command lines"),
}
"""Each command: its file here, and what help says of it."""
_FUNCTIONS = {"import": "import_"}
"""What sets a command up whose name Python keeps for itself."""
_LINUX = {
    "run", "load", "install", "uninstall", "diff", "reload", "status", "log", "grant", "revoke", "doctor", "confirm",
    "flush", "invite", "reset-floor", "demo",
}  # fmt: skip
"""What only a server has a use for: it asks the kernel, or the store beside it."""
_SYSTEM: str = sys.platform
_LONGEST_GUESS = 40


class Parser(argparse.ArgumentParser):
    """argparse's, but its errors look like all others, and say where help is."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with a command line, and end with status 2."""
        from gatekeeper.escaping import escape

        self.print_usage(sys.stderr)
        words = f"{self.prog}: error: {escape(message)}\ngatekeeper: hint: `{self.prog} --help` explains it\n"
        self.exit(2, words)

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        """Print help, or what is wrong; which is wrong also when nobody can read it."""
        try:
            super()._print_message(message, file)
        except OSError:
            if file is sys.stdout:
                raise


class _Layout(argparse.HelpFormatter):
    """Fills paragraphs, as argparse does, but leaves alone what has lines of its own: examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


def called(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line. Only the command that is called is set up: what the others import is not needed."""
    if words and (name := words[0]) in COMMANDS:
        parser = Parser(prog=f"gatekeeper {name}", formatter_class=_Layout)
        _set_up(parser, name, has_examples=any(word.startswith(("-h", "--h")) for word in words))
        # the steps of a knock may stand behind its options
        parse = parser.parse_intermixed_args if name == "knock" else parser.parse_args
        options = parse(list(words[1:]))
        _require_linux(name, options)
        return options
    if words and not words[0].startswith("-"):
        _no_such_command(words[0])
    return overview().parse_args(list(words))


def overview() -> Parser:
    """Return the parser of the whole, which knows the commands by name only."""
    parser, commands = _frame()
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


def whole() -> Parser:
    """Return the parser of the whole with all that there is in it."""
    parser, commands = _frame()
    for name, (_, text) in COMMANDS.items():
        _set_up(commands.add_parser(name, help=text, formatter_class=_Layout), name, has_examples=True)
    return parser


def _frame() -> tuple[Parser, argparse._SubParsersAction[Parser]]:
    parser = Parser(
        prog="gatekeeper",
        formatter_class=_Layout,
        description="Ports that are closed and silent to everyone, and open at a knock to whoever holds a key.",
        epilog="`gatekeeper COMMAND --help` explains a command, with examples. Start with `gatekeeper demo`.",
    )
    parser.add_argument("--version", action="version", version=f"gatekeeper {__version__}")
    return parser, parser.add_subparsers(metavar="COMMAND", required=True)


def _set_up(parser: argparse.ArgumentParser, name: str, *, has_examples: bool) -> None:
    module = importlib.import_module(f"gatekeeper.cli.{COMMANDS[name][0]}")
    getattr(module, _FUNCTIONS.get(name) or name.replace("-", "_"))(parser)
    if has_examples:
        from gatekeeper.cli import examples

        for words, one in all_below(name, parser):
            one.formatter_class = _Layout
            one.epilog = one.epilog or examples.of(words)


def all_below(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Return a command and those below it, each with the words that call it."""
    yield name, parser
    for word, one, _ in subcommands(parser):
        yield from all_below(f"{name} {word}", one)


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Return the commands right below: the word that calls each, its parser, and what help says of it."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no other way to ask what a parser has)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            texts = {choice.dest: choice.help for choice in action._choices_actions}  # noqa: SLF001
            for word, one in action.choices.items():
                yield word, one, texts.get(word) or ""


def _require_linux(name: str, options: argparse.Namespace) -> None:
    if _SYSTEM == "linux" or name not in _LINUX or getattr(options, "dry_run", False):
        return
    hint = "knock, connect, join and `run --dry-run` work on any system"
    raise UsageError(f"gatekeeper {name} is for the server, which is Linux", hint)


def _no_such_command(word: str) -> NoReturn:
    from difflib import get_close_matches

    close = get_close_matches(word[:_LONGEST_GUESS], COMMANDS, n=1)
    hint = f"did you mean `gatekeeper {close[0]}`?" if close else "`gatekeeper --help` lists the commands"
    parser = Parser(prog="gatekeeper", usage="gatekeeper COMMAND ...", add_help=False)
    parser.exit(2, f"gatekeeper: error: there is no command {word[:_LONGEST_GUESS]!a}\ngatekeeper: hint: {hint}\n")
