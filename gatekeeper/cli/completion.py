"""``gatekeeper completion``: has a shell complete command lines. Made of the parsers, by shtab; never kept by hand.

What a word can be is told by what help calls it: a FILE, a PROFILE, a SERVICE.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from gatekeeper.cli import commands
from gatekeeper.cli.options import add_rules
from gatekeeper.errors import GatekeeperError, UsageError

SHELLS = ("bash", "zsh", "fish")
_FILE, _FOLDER, _PROFILE, _SERVICE = "file", "folder", "profile", "service"
KINDS = {
    "FILE": _FILE,
    "CAPTURE": _FILE,
    "DIR": _FOLDER,
    "PROFILE": _PROFILE,
    "PROFILE|HOST": _PROFILE,
    "HOST": _PROFILE,
    "SERVICE": _SERVICE,
}
"""What completes an argument that help calls so."""
_DESTINATIONS = {"service": _SERVICE, "profile": _PROFILE}
"""What a NAME is of, as options say it."""
_OWN = {
    _PROFILE: {"bash": "_gatekeeper_profiles", "zsh": "_gatekeeper_profiles", "fish": "(__gatekeeper_profiles)"},
    _SERVICE: {"bash": "_gatekeeper_services", "zsh": "_gatekeeper_services", "fish": "(__gatekeeper_services)"},
}
_PROFILES = "${XDG_CONFIG_HOME:-$HOME/.config}/gatekeeper/profiles"
# Profiles are looked for by the shell itself, which takes no time. The services of a profile are in its file; those of
# a server only root can read. What such a file says came from outside: zsh and fish put it between quotes; bash runs
# what `compgen -W` is given, and puts the rest on the command line as it is, so it is shown nothing but names.
_FUNCTIONS = {
    "bash": f"""\
_gatekeeper_profiles() {{
  local file
  for file in "{_PROFILES}/$1"*.conf; do
    [ -f "$file" ] && file=${{file##*/}} && printf '%s\\n' "${{file%.conf}}"
  done | _gatekeeper_names ""
  compgen -A hostname -- "$1"
}}
_gatekeeper_services() {{
  {{
    cat "{_PROFILES}"/*.conf 2>/dev/null | sed -n 's/^services = //p' | tr ' ' '\\n'
    gatekeeper completion --services 2>/dev/null
  }} | sort -u | _gatekeeper_names "$1"
}}
_gatekeeper_names() {{
  local name
  while IFS= read -r name; do
    [[ $name == "$1"* && $name != *[!a-zA-Z0-9._@-]* ]] && printf '%s\\n' "$name"
  done
}}
""",
    "zsh": f"""\
_gatekeeper_profiles() {{
  local -a found
  found=({_PROFILES}/*.conf(N-.:t:r))
  (( $#found )) && compadd -a found
  _hosts
}}
_gatekeeper_services() {{
  local -a found
  found=($(cat {_PROFILES}/*.conf(N-.) /dev/null 2>/dev/null | sed -n 's/^services = //p'
    gatekeeper completion --services 2>/dev/null))
  (( $#found )) && compadd -a found
}}
""",
    "fish": """\
function __gatekeeper_folder
    set -q XDG_CONFIG_HOME; and test -n "$XDG_CONFIG_HOME"; and echo $XDG_CONFIG_HOME; or echo $HOME/.config
end
function __gatekeeper_profiles
    for file in (__gatekeeper_folder)/gatekeeper/profiles/*.conf
        string replace -r '\\.conf$' '' (string replace -r '.*/' '' -- $file)
    end
    __fish_print_hostnames
end
function __gatekeeper_services
    for file in (__gatekeeper_folder)/gatekeeper/profiles/*.conf
        string replace -rf '^services = ' '' <$file | string split ' '
    end
    gatekeeper completion --services 2>/dev/null
end
""",
}


def _completion(options: argparse.Namespace) -> None:
    if options.services:
        _print_services(Path(options.rules))
        return
    shell = options.shell or os.path.basename(os.environ.get("SHELL", ""))
    if shell not in SHELLS:
        raise UsageError("$SHELL does not say which shell it is for", f"name one: {', '.join(SHELLS)}")
    print(script(shell))


def script(shell: str) -> str:
    """Return what has a shell complete our command lines.

    Raises:
        UsageError: what makes it is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError:
        hint = "pip install shtab; a package of a distribution brings the completions as files"
        raise UsageError("this installation cannot make completions: it lacks shtab", hint) from None

    parser = commands.whole()
    own = {_FILE: shtab.FILE, _FOLDER: shtab.DIRECTORY, **_OWN}
    for action in _arguments(parser):
        if action.choices is None and (kind := _kind(action)) is not None:
            action.complete = own[kind]  # type: ignore[attr-defined]
    return shtab.complete(parser, shell, preamble=_FUNCTIONS[shell])


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for _, one in commands.all_below("", parser):
        yield from one._actions  # noqa: SLF001  (argparse has no other way to ask what a parser has)


def _kind(action: argparse.Action) -> str | None:
    if action.dest in _DESTINATIONS:
        return _DESTINATIONS[action.dest]
    return KINDS.get(action.metavar) if isinstance(action.metavar, str) else None


def _print_services(file: Path) -> None:
    """Print the names of the rules' services, and nothing where they cannot be read: somebody is typing."""
    from gatekeeper import rules

    try:
        found, _ = rules.load(file)
    except GatekeeperError:
        return
    for name in found.services:
        print(name)


def completion(parser: argparse.ArgumentParser) -> None:
    """Set up ``completion``."""
    parser.set_defaults(command=_completion)
    parser.description = (
        "Prints a script for your shell, which then completes commands, options, files, profiles and services when you "
        "press Tab. Works offline."
    )
    parser.add_argument("shell", choices=SHELLS, nargs="?", help="which shell it is for (default: that of $SHELL)")
    # asked for by the scripts themselves
    parser.add_argument("--services", action="store_true", help=argparse.SUPPRESS)
    add_rules(parser)
