"""What the documents show as printed, line by line, and what was printed when their commands were typed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.pages.blocks import Block

ELSEWHERE = (
    # the first words of a block, and the test that has the program print it instead
    (
        "README.md",
        "0.000 s    a server, a client and a stranger",
        "tests/netns/test_demo.py::test_the_demo_shows_everything_going_as_it_should",
    ),
    (
        "docs/install.md",
        "made the system user gatekeeper",
        "vagrant/integration/test_1_installed.py::test_the_session_that_installed_it_was_granted",
    ),
    (
        "docs/log.md",
        "2026-11-28T17:06:44.123Z info opened",
        "tests/test_observe.py::test_every_grant_of_an_outcome_has_its_line",
    ),
    (
        "docs/tutorial.md",
        "2026-11-23T09:10:00.000Z info gatekeeper 0.1.0 only observes",
        "tests/netns/test_observe.py::test_strangers_get_in_at_once_and_the_log_says_that_they_would_not",
    ),
    (
        "docs/tutorial.md",
        "2026-11-23T09:20:00.000Z info granted ssh to",
        "tests/netns/test_grant_me.py::test_the_session_lives_on_and_its_address_comes_back",
    ),
)
_CHANGES = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b(\d{4}-\d\d-\d\d )?\d\d:\d\d\b", "TIME"),
    (r"[0-9A-Za-z+/]{43}=", "KEY"),
    (r"\b\d{1,3}(\.\d{1,3}){3}\b|(?<![\w:])[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}(?![\w:])", "ADDRESS"),
    (r"\d+", "0"),
)
"""What differs from one time to the next."""


def shape(line: str) -> str:
    """Return a line with what differs from time to time made the same."""
    for pattern, word in _CHANGES:
        line = re.sub(pattern, word, line)
    return line.strip()


def shown(block: Block) -> Iterator[str]:
    """Yield the lines of a block that are output."""
    if block.language == "text" and not block.mark:
        yield from (line for line in block.text.splitlines() if line.strip())
    elif block.language == "sh" and block.text.startswith("$ "):
        yield from (line for line in block.text.splitlines() if not line.startswith("$ "))


def elsewhere(block: Block) -> str | None:
    """Name the test that has the program print this block, if no story does."""
    return next((test for page, begins, test in ELSEWHERE if _is(block, page, begins)), None)


def _is(block: Block, page: str, begins: str) -> bool:
    return block.page == page and block.text.strip().startswith(begins)


def not_said(block: Block, said: str) -> list[str]:
    """Return the lines that a block shows, and nothing has printed. `...` stands for some that are left out."""
    shapes = {shape(line) for line in said.splitlines()}
    return [line for line in shown(block) if line.strip() != "..." and shape(line) not in shapes]
