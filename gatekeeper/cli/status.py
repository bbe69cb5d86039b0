"""``gatekeeper status``: once, or again and again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatekeeper.cli.options import add_rules, add_state_dir, seconds_between

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gatekeeper.status import Section
    from gatekeeper.watching import Watch

_LISTED = 100
"""Grants that ``status`` lists; where there are more, it lists some that end next."""
_SHOWN = 20
_DRAWN = 200
"""Grants from which on they are printed plainly: rich would take seconds for thousands."""


def _status(options: argparse.Namespace) -> int:
    from gatekeeper import admin, seeing
    from gatekeeper.networks import show_source
    from gatekeeper.status import sections

    source = None if options.source is None else admin.parse_source(options.source)
    rules, state_dir = Path(options.rules), Path(options.state_dir)
    if options.watch is not None:
        from gatekeeper.watching import Watch

        return _watch(Watch(rules, state_dir, source), options.watch)
    with seeing.looking(rules, state_dir) as seen:
        if options.json:
            _print_json(seen.overview, seen.grants(source))
            return 0
        which = "" if source is None else f"those that {show_source(source)} has a part in"
        if source is not None or options.all or seen.live <= _LISTED:
            listed = list(seen.grants(source))
        else:
            listed = seen.ending_next(_SHOWN)
            which = f"the {len(listed)} that end next (`--all` lists all, `--source SOURCE` those of an address)"
        _show(sections(seen.overview, listed, which=which), is_long=len(listed) > _DRAWN)
    return 0


def _show(parts: list[Section], *, is_long: bool) -> None:
    """Print it: for people where somebody looks, and the same every time where a program may."""
    from gatekeeper.status import plain

    if is_long or not _suits():
        print(plain(parts))
        return
    from gatekeeper import tables

    console = tables.console()
    console.print(tables.drawn(parts, console.width))


def _suits() -> bool:
    """Whether standard output is a terminal that can be drawn on, and we have what draws."""
    from importlib.util import find_spec

    from gatekeeper import terminals

    return terminals.suits(sys.stdout) and find_spec("rich") is not None


def _watch(watch: Watch, every: float) -> int:
    from contextlib import closing

    with closing(watch):
        if _suits():
            return _watch_on_screen(watch, every)
        from gatekeeper.status import plain

        try:
            while True:
                print(f"{_now()}\n\n{plain(watch.look())}\n", flush=True)
                time.sleep(every)
        except KeyboardInterrupt:
            return 0


def _watch_on_screen(watch: Watch, every: float) -> int:
    from gatekeeper import screen, tables
    from gatekeeper.status import Line, fitted

    parts = watch.look()  # what cannot be seen at all is an error, and not a view

    def draw(width: int, height: int, is_new: bool) -> RenderableType:  # noqa: FBT001  (a callback)
        nonlocal parts
        if is_new:
            parts = watch.look()
        head = Line(f"{_now()}, every {every:g} s; q ends")
        return tables.drawn(fitted([head, *parts], width, height), width, one_line_each=True)

    return screen.show(tables.console(), draw, every)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z")


def _print_json(overview: dict[str, Any], grants: Iterable[dict[str, Any]]) -> None:
    """Print an object whose last field are the grants, one a line, as they are read."""
    print(json.dumps(overview, indent=2).removesuffix("\n}"), end=',\n  "grants": [')
    comma = ""
    for grant in grants:
        print(f"{comma}\n    {json.dumps(grant)}", end="")
        comma = ","
    print("\n  ]\n}" if comma else "]\n}")


def status(parser: argparse.ArgumentParser) -> None:
    """Set up ``status``."""
    parser.set_defaults(command=_status)
    parser.description = (
        "Works while run is up, and from the store and the kernel when it is not. On a terminal it is laid out in "
        "colours (not with NO_COLOR set); elsewhere it is plain text."
    )
    add_rules(parser)
    add_state_dir(parser)
    parser.add_argument("--source", metavar="SOURCE", help="list the grants that touch this address or network")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--all", action="store_true", help=f"list all live grants, also where there are over {_LISTED}")
    how.add_argument("--json", action="store_true", help="print JSON: all grants, one a line")
    text = (
        "show it live, every so many seconds (default: 1), with what happens a second; q ends. Where there is no "
        "terminal: a block of text each time"
    )
    how.add_argument("--watch", metavar="SECONDS", nargs="?", const=1.0, type=seconds_between, help=text)
