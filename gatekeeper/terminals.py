"""What a terminal can do."""

from __future__ import annotations

import os
from typing import IO


def suits(stream: IO[str] | None) -> bool:
    """Whether this is a terminal that can do more than print lines."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
