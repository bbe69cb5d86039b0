"""The blocks of the documents: fenced or indented, with their language, and the commands in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "vagrant/README.md"])
    if path.name not in {"CHANGELOG.md", "benchmarks.md"}  # what was; and what scripts/bench writes
}
_FENCE = re.compile(r"^( *)```([\w-]*)$")
_STEP = re.compile(r"^( *)(?:\d+\.|-) ")
_MARK = re.compile(r"^ *<!-- test: ([\w-]+) -->$")


@dataclass(frozen=True)
class Block:
    """A piece of a page that is set apart. An indented one has no language of its own, and so is ``sh``."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    """What a comment before it says of how it is tested."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[str]:
        """Yield the commands, without comments and what they print; lines that belong together as one."""
        if self.language != "sh":
            return
        lines = iter(self.text.splitlines())
        shows_output = self.text.startswith("$ ")
        for line in lines:
            if shows_output and not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ")
            while command.endswith("\\"):
                command = f"{command[:-1]}{next(lines).strip()}"
            if command.strip() and not command.lstrip().startswith("#"):
                yield re.sub(r"\s+#\s.*$", "", command).strip()


def blocks_of(page: str) -> list[Block]:
    """Read a page."""
    found: list[Block] = []
    lines = PAGES[page].read_text().splitlines()
    at, mark, step = 0, "", 0
    while at < len(lines):
        line, start = lines[at], at + 1
        fence = _FENCE.match(line)
        if fence:
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == "```")
            body = "\n".join(lines[at + 1 : end])
            found.append(Block(page, start, fence[2], textwrap.dedent(body), mark))
            at, mark = end + 1, ""
            continue
        if (item := _STEP.match(line)) is not None:
            step = len(item[0])
        elif line.strip() and not line.startswith(" "):
            step = 0
        if _is_indented(line, step) and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and (_is_indented(lines[end], step) or not lines[end].strip()):
                end += 1
            body = textwrap.dedent("\n".join(lines[at:end])).strip("\n")
            found.append(Block(page, start, mark_language(mark) or "sh", body, mark))
            at, mark = end, ""
            continue
        if (said := _MARK.match(line)) is not None:
            mark = said[1]
        elif line.strip():
            mark = ""
        at += 1
    return found


def mark_language(mark: str) -> str:
    """Return the language that a mark gives an indented block, if it does."""
    return mark if mark in {"text", "yaml", "ssh-config"} else ""


def _is_indented(line: str, step: int) -> bool:
    return bool(line.strip()) and line.startswith(" " * (step + 4))
