"""Writes the units of the package to a folder: `python3 debian/units.py FOLDER`."""

import sys
from pathlib import Path

from gatekeeper import units

SETUP = units.Setup(
    program=("/usr/lib/gatekeeper/bin/python3", "-I", "-m", "gatekeeper"),  # as `gatekeeper install` would write it
    rules="/etc/gatekeeper/rules.yaml",
    state_dir="/var/lib/gatekeeper",
)

for name, text in units.texts(SETUP).items():
    Path(sys.argv[1], name).write_text(text)
