"""A bar for work that takes more than a moment, where somebody sits before a terminal; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

Tell = Callable[[float], None]
"""Takes how much of the work is done, from 0.0 to 1.0."""
_AFTER = 0.8
"""Seconds of work before there is a bar: nobody should see one flash by."""
_EVERY = 0.1
"""Seconds between two changes of the bar."""


@contextmanager
def shown(what: str) -> Iterator[Tell]:
    """Show on standard error, if that is a terminal, how far a work is; the bar goes when the work is done."""
    if sys.stderr is None or not sys.stderr.isatty():
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
