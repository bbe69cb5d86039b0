"""The knock formats. This table is the only place where they are named.

A new format is one file here and one row below; CONTRIBUTING.md has the recipe. They are asked in this
order: the sealed knock is the cheapest to tell from junk, and never pays for the others.
"""

from __future__ import annotations

from collections.abc import Callable

from gatekeeper.knocks import fwknop, plain, sealed, sequence
from gatekeeper.protocols import KnockFormat
from gatekeeper.settings import Client, Rules, ServerKey

FORMATS: dict[str, Callable[[Rules, tuple[ServerKey, ...]], KnockFormat]] = {
    "sealed": sealed.SealedKnocks,
    "plain": lambda rules, _keys: plain.PlainKeys(rules),
    "fwknop": lambda rules, _keys: fwknop.FwknopKnocks(rules),
    "sequence": lambda rules, _keys: sequence.SequenceKnocks(rules),
}


def enabled(rules: Rules, server_keys: tuple[ServerKey, ...], *, now: float) -> list[KnockFormat]:
    """Build the formats for a rules file, ready for ``now``."""
    formats = [make(rules, server_keys) for make in FORMATS.values()]
    for form in formats:
        form.renew(now=now)
    return formats


def stamp_keys(client: Client) -> tuple[bytes, ...]:
    """Name the keys under which a client's knocks are remembered, so that none counts twice."""
    return client.keys if client.fwknop is None else (fwknop.stamp_key(client.fwknop),)
