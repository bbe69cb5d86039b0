"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A machine that is busy with something else is no reason to fail: where time matters, a test says so itself.
settings.register_profile("gatekeeper", deadline=None)
settings.load_profile("gatekeeper")
