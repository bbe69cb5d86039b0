"""What the kernel has, told without loading anything: built in, loaded, to be loaded, or not there."""

from __future__ import annotations

import contextlib
import enum
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

_MODULES = Path("/lib/modules")
_EXTENSIONS = ("ip_tables_targets", "ip_tables_matches", "ip6_tables_targets", "ip6_tables_matches")


class State(enum.StrEnum):
    """Whether the kernel has something."""

    BUILT_IN = "built in"
    LOADED = "loaded"
    LOADABLE = "a module, loaded when it is needed"
    ABSENT = "not there"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Facts:
    """What this machine tells of its kernel; ``None`` where it tells nothing."""

    release: str
    config: dict[str, str] | None = None
    """Options, without ``CONFIG_``: ``y``, ``m`` or ``n``."""
    loaded: frozenset[str] | None = None
    built_in: frozenset[str] | None = None
    on_disk: frozenset[str] | None = None
    extensions: frozenset[str] = frozenset()
    """Matches and targets of iptables that are there now."""

    def state(self, module: str, option: str, extension: str = "") -> State:
        """Say whether a module is there; ``option`` is its name in the kernel's configuration."""
        if self.config is not None:
            value = self.config.get(option, "n")
            if value != "m":
                return State.BUILT_IN if value == "y" else State.ABSENT
        if (self.loaded is not None and module in self.loaded) or (extension and extension in self.extensions):
            return State.LOADED
        if self.built_in is not None and module in self.built_in:
            return State.BUILT_IN
        if self.on_disk is None:
            return State.UNKNOWN
        return State.LOADABLE if module in self.on_disk else State.ABSENT

    def has_option(self, option: str) -> State:
        """Say whether something is there that is never a module."""
        if self.config is None:
            return State.UNKNOWN
        return State.BUILT_IN if self.config.get(option) == "y" else State.ABSENT


def gather() -> Facts:
    """Look at what this machine tells."""
    release = os.uname().release
    there = _MODULES / release
    on_disk = _names(there / "modules.dep", separator=":")
    extensions: set[str] = set()
    for name in _EXTENSIONS:
        with contextlib.suppress(OSError):
            extensions |= set(Path("/proc/net", name).read_text().split())
    return Facts(
        release,
        config=_config(release),
        loaded=_names(Path("/proc/modules"), separator=" "),
        built_in=_names(there / "modules.builtin", separator="\n"),
        on_disk=on_disk,
        extensions=frozenset(extensions),
    )


def parse_config(text: str) -> dict[str, str]:
    """Read a kernel's configuration."""
    lines = (line.removeprefix("CONFIG_").partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in lines}


def module_names(text: str, separator: str) -> frozenset[str]:
    """Read the names in modules.dep, modules.builtin or /proc/modules: up to ``separator``, as modprobe spells them."""
    firsts = (line.split(separator)[0] for line in text.splitlines() if line)
    return frozenset(path.rpartition("/")[2].partition(".ko")[0].replace("-", "_") for path in firsts)


def _names(path: Path, separator: str) -> frozenset[str] | None:
    try:
        return module_names(path.read_text(), separator)
    except OSError:
        return None


def _config(release: str) -> dict[str, str] | None:
    with contextlib.suppress(OSError, EOFError):
        return parse_config(gzip.decompress(Path("/proc/config.gz").read_bytes()).decode("ascii", "replace"))
    for path in (Path(f"/boot/config-{release}"), _MODULES / release / "config"):
        with contextlib.suppress(OSError):
            return parse_config(path.read_text(errors="replace"))
    return None
