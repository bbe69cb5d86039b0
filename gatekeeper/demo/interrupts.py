"""Ctrl-C, SIGTERM and SIGHUP that come when they do no harm: never while something is being made or removed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While the context lasts, these signals wait; inside ``allowed`` they raise KeyboardInterrupt."""

    def __init__(self) -> None:
        self._may_raise = False
        self._came = False

    def __enter__(self) -> Self:
        mine = [name for name in _SIGNALS if signal.getsignal(name) is not signal.SIG_IGN]  # nohup
        self._before = {name: signal.signal(name, self._on_signal) for name in mine}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise KeyboardInterrupt here for a signal that comes, or has come already."""
        self._may_raise = True
        try:
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._came = True
        if self._may_raise:
            self._may_raise = False  # once: what follows is cleaning up
            raise KeyboardInterrupt
