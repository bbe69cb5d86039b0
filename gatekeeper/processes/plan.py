"""What the supervisor knows before it forks, and its children need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gatekeeper.confirm.probation import Probation
from gatekeeper.firewall.backends import KernelBackend
from gatekeeper.firewall.guardian import Learned
from gatekeeper.lockout import Present
from gatekeeper.protocols import KnockFormat
from gatekeeper.recording.ring import Recording
from gatekeeper.settings import Mode, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One ``gatekeeper run``."""

    rules: Rules
    state_dir: Path
    log_format: str
    variant: str
    """Of iptables."""
    backend: KernelBackend
    learned: Learned
    """What the ruleset was when it was loaded, by which each keeper's guardian keeps it."""
    present: Present | None
    """Who was connected before; ``None`` to a keeper that is not the first: they have been let in."""
    unconfirmed: Probation
    """Whether what is loaded stays, as far as that is open."""
    formats: Sequence[KnockFormat]
    """They hold the private keys; so the children need not read files."""
    since: float
    """When these rules were loaded; Unix time."""
    recording: Recording | None = None
    """Where packets that are refused are recorded."""

    @property
    def observes(self) -> bool:
        """Whether nothing is dropped."""
        return self.rules.mode is Mode.OBSERVE
