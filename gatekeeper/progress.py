"""Something to see while a work takes more than a moment, where somebody sits before a terminal; nothing elsewhere.

A bar where it is known how much there is to do; otherwise a line that says what is waited for, and since when.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import IO

Tell = Callable[[float], None]
"""Takes how much of the work is done, from 0.0 to 1.0."""
_AFTER = 0.8
"""Seconds of work before there is a bar: nobody should see one flash by."""
_EVERY = 0.1
"""Seconds between two changes of the bar."""
_LOOK = 1.0
"""Seconds between two changes of the line."""


@contextmanager
def shown(what: str) -> Iterator[Tell]:
    """Show on standard error, if that is a terminal, how far a work is; the bar goes when the work is done."""
    if sys.stderr is None or not sys.stderr.isatty() or _is_dumb():
        yield _ignore
        return
    begun = due = monotonic()
    due += _AFTER
    move: Tell | None = None
    with ExitStack() as stack:

        def tell(done: float) -> None:
            nonlocal move, due
            now = monotonic()
            if now < due:
                return
            if move is None and (now - begun) / max(done, 0.01) - (now - begun) > _EVERY:
                move = _bar(what, stack) or _ignore
            if move is not None:
                move(done)
            due = now + _EVERY

        yield tell


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on standard error, if that is a terminal, what is waited for; the line goes when it is there.

    Not for what forks: a thread writes it.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    clock = threading.Thread(target=_count, args=(sys.stderr, what, over), daemon=True)
    clock.start()
    try:
        yield
    finally:
        over.set()
        clock.join()


def _count(terminal: IO[str], what: str, over: threading.Event) -> None:
    """Write the line anew each second."""
    begun = monotonic()
    if over.wait(_AFTER):
        return
    with suppress(OSError):  # the terminal is gone: the work goes on
        if _is_dumb():
            terminal.write(f"{what} ...\n")
            terminal.flush()
            return
        while True:
            terminal.write(f"\r{what} ... {monotonic() - begun:.0f} s")
            terminal.flush()
            if over.wait(_LOOK):
                break
        terminal.write("\r\x1b[K")
        terminal.flush()


def _is_dumb() -> bool:
    """Whether the terminal can do no more than print lines."""
    return os.environ.get("TERM", "") in {"", "dumb", "unknown"}


def _ignore(_done: float) -> None:
    """Show nothing."""


def _bar(what: str, stack: ExitStack) -> Tell | None:
    """Draw a bar; ``None`` where the library is not installed."""
    try:  # it takes as long to import as most commands take, so it is imported where something is slow already
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # noqa: PLC0415
    except ImportError:  # an installation for clients
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    # Drawn when told to, by this thread: what forks later must have no other.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    task = stack.enter_context(bar).add_task(what, total=1.0)

    def move(done: float) -> None:
        bar.update(task, completed=done, refresh=True)

    return move
