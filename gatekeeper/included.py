"""Which files of a folder the rules include: ``include: rules.d`` takes those that are called ``*.yaml``."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".yaml"


def files(folder: Path) -> list[Path]:
    """List them, in the order of their names. What editors and package managers leave behind has other names.

    Raises:
        OSError: there is no such folder, or we may not look.
    """
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))


def misnamed(folder: Path) -> list[Path]:
    """List files that their author may think are taken (``*.yml``)."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".yml" and not path.name.startswith("."))
