"""What holds for every test."""

from __future__ import annotations

import signal

from hypothesis import settings

# A machine that is busy with something else is no reason to fail: where time matters, a test says so itself.
settings.register_profile("gatekeeper", deadline=None)
settings.load_profile("gatekeeper")

# What tests start is to be ended by these, also where the tests run in a shell's background, or with nohup(1).
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
