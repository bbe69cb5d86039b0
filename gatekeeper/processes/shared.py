"""The keeper's memory, of which each worker has a copy: what changes in it is told to them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from gatekeeper.allowlist import Allowlist
from gatekeeper.model import Floor, Grant
from gatekeeper.processes.messages import Changed, Message, all_floors, all_grants
from gatekeeper.replay import ReplayMemory

Tell = Callable[[Message], None]


class SharedAllowlist(Allowlist):
    """The live grants."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def admit(self, grant: Grant) -> None:
        """Put a grant in place."""
        super().admit(grant)
        self._tell(Changed(admitted=(grant,)))

    def end(self, grant: Grant) -> None:
        """Take out a grant."""
        super().end(grant)
        self._tell(Changed(ended=(grant,)))

    def replace(self, grants: Iterable[Grant]) -> None:
        """Hold these grants and no others."""
        super().replace(grants)
        for message in self.all():
            self._tell(message)

    def all(self) -> Iterator[Message]:
        """Say all of it, to a worker that knows nothing yet."""
        return all_grants(self)


class SharedReplays(ReplayMemory):
    """What stamps have been spent, as the store has it; what a worker has just seen spent, it knows itself."""

    def __init__(self, tell: Tell, *, skew: int) -> None:
        super().__init__(skew=skew)
        self._tell = tell

    def replace(self, born: int, floors: Mapping[bytes, Floor]) -> None:
        """Learn what the store says."""
        super().replace(born, floors)
        for message in all_floors(born, floors):
            self._tell(message)
