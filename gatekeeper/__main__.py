"""Lets ``python -m gatekeeper`` do what the ``gatekeeper`` command does."""

import sys

from gatekeeper.cli import main

if __name__ == "__main__":
    sys.exit(main())
