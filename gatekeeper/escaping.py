"""What comes from outside, made safe to print: in a log, or on a terminal. Pure."""

from __future__ import annotations

import json


def escape(text: str, allowed: str = "") -> str:
    """Write what cannot be printed as Python source would have it, but for characters that are ``allowed``."""
    return "".join(
        char if char.isprintable() or char in allowed else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )


def quote(text: str) -> str:
    """Escape a value, and put it in quotes where its end could not be seen."""
    plain = escape(text)
    return json.dumps(plain, ensure_ascii=False) if " " in plain or '"' in plain or "=" in plain else plain
