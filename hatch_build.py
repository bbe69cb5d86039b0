"""Puts the man page and the shells' completions into the wheel. Both are made of the program's own parsers."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETIONS = {
    "bash": "share/bash-completion/completions/gatekeeper",
    "zsh": "share/zsh/site-functions/_gatekeeper",
    "fish": "share/fish/vendor_completions.d/gatekeeper.fish",
}


class Shared(BuildHookInterface):
    """What hatchling calls before and after it builds."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files, and say where in an environment they belong."""
        self.folder = Path(tempfile.mkdtemp())
        if version == "editable":  # a checkout has no man page that would stay true
            return
        sys.path.insert(0, self.root)
        from gatekeeper.cli import completion, manpage  # noqa: PLC0415  (it is there from here on)

        texts = {"share/man/man1/gatekeeper.1": manpage.page()}
        texts |= {place: completion.script(shell) for shell, place in COMPLETIONS.items()}
        for place, text in texts.items():
            file = self.folder / Path(place).name
            file.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(file)] = place

    def finalize(self, *_: object) -> None:
        """Remove the files: they are in the wheel."""
        shutil.rmtree(self.folder, ignore_errors=True)
