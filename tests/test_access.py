"""What ``gatekeeper install`` takes over, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper import access
from gatekeeper.errors import UsageError


def test_a_folder_that_others_have_folders_in_is_no_state_directory(tmp_path: Path) -> None:
    """As /var/lib is: it would be given to the service, and shut to everybody else."""
    state = tmp_path / "gatekeeper"
    access.require_own_folder(state)
    state.mkdir()
    (state / "gatekeeper.db").touch()
    access.require_own_folder(state)
    with pytest.raises(UsageError, match="is no state directory of gatekeeper's: gatekeeper in it is a folder"):
        access.require_own_folder(tmp_path)
