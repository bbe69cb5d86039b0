"""``gatekeeper explain``: a capture goes through the gate, offline. Nothing is written, and no root is needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gatekeeper import rules, serverkeys
from gatekeeper.errors import CaptureError, KeyFileError
from gatekeeper.explain.capture import Capture, opened
from gatekeeper.explain.judge import Judge, Judged
from gatekeeper.knocks import enabled
from gatekeeper.packet import warm_up
from gatekeeper.settings import Rules, ServerKey

Doubt = tuple[str, str]
"""What cannot be judged, and what to do."""


class Explanation(NamedTuple):
    """What there is to say of a capture."""

    answers: Iterator[Judged]
    """In the order of the packets. Raises ``CaptureError`` where the capture cannot be read any further."""
    doubts: list[Doubt]
    progress: Callable[[], float]
    """How much of the capture was read, from 0.0 to 1.0."""


@contextlib.contextmanager
def explaining(capture: str, rules_file: Path, state_dir: Path, *, at: float | None = None) -> Iterator[Explanation]:
    """Open a capture (``-``: standard input), to be judged as of when each packet was captured, or ``at`` a time.

    Raises:
        GatekeeperError: the rules, or the beginning of the capture, cannot be read.
    """
    the_rules, _ = rules.load(rules_file)
    keys, doubts = _keys(the_rules, state_dir)
    with opened(capture) as its:
        formats = enabled(the_rules, keys, now=time.time() if at is None else at)
        judge = Judge(the_rules, formats, at=at, has_key=not doubts)
        warm_up()
        yield Explanation(_answers(its, judge), doubts, its.progress)


def _keys(the_rules: Rules, state_dir: Path) -> tuple[tuple[ServerKey, ...], list[Doubt]]:
    """Find the keys that knocks are sealed for, as far as we may read them."""
    if not the_rules.has_tagged:
        return (), []
    try:
        return serverkeys.known(the_rules, state_dir), []
    except KeyFileError as error:
        hint = "run it as root or with sudo, or name with --state-dir the folder that has server.key"
        return the_rules.server_keys, [(f"sealed knocks cannot be judged: {error.message}", hint)]


def _answers(capture: Capture, judge: Judge) -> Iterator[Judged]:
    broken: CaptureError | None = None
    try:
        for packet in capture:
            try:
                yield from judge.take(packet)
            except ValueError as error:
                hint = "name one: --at TIME" if packet.time is None else None
                raise CaptureError(f"packet {packet.number} has {error}", hint) from error
    except CaptureError as error:
        broken = error
    yield from judge.finish()  # what was read before is told all the same
    if broken is not None:
        raise broken
