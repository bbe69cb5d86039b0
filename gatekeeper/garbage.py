"""Where very many objects are made that stay: Python must not search through all of them for garbage, again and again.

The search takes as long as what it spares us is large, stops packets meanwhile, and half of the time that a hundred
thousand grants take to be read goes into it.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def unsearched() -> Iterator[None]:
    """Make objects that stay: they are not searched through while they are made, nor ever after."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
