"""Whether to print in colours: what users have said (no-color.org, force-color.org), and what a terminal can do."""

from __future__ import annotations

import os
from typing import IO


def suit(stream: IO[str] | None) -> bool:
    """Whether what goes to this stream may have colours in it; NO_COLOR has the last word."""
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
