"""Which of the grants that there are the rules still give, and until when: the rules may have been others. Pure.

What a knock gets is in terms.py; this is for what was given before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from gatekeeper import terms
from gatekeeper.model import BY_HAND, Grant
from gatekeeper.networks import Networks
from gatekeeper.settings import Rules


class Sorted(NamedTuple):
    """Grants, by what the rules say of them."""

    kept: list[Grant]
    """What the rules give, as far as they do."""
    shortened: list[Grant]
    """What of that had been given for longer."""
    orphans: list[Grant]
    """What the rules do not give."""


def sort(live: Iterable[Grant], rules: Rules, *, now: float) -> Sorted:
    """Sort live grants by what the rules say of them at ``now``."""
    never = {name: Networks(one.never) for name, one in rules.services.items()}
    found = Sorted([], [], [])
    for one in live:
        is_shut_out = one.service in never and never[one.service].holds(one.source)
        grant = None if is_shut_out else _within(rules, one, now)
        if grant is None:
            found.orphans.append(one)
            continue
        found.kept.append(grant)
        if grant is not one:
            found.shortened.append(grant)
    return found


def _within(rules: Rules, grant: Grant, now: float) -> Grant | None:
    """Return a grant as far as the rules give it; ``None`` if they do not."""
    service = rules.services.get(grant.service)
    if service is None:
        return None
    if grant.client == BY_HAND:
        return grant
    client = rules.clients.get(grant.client)
    if client is None or grant.service not in client.services or not terms.can_have(client, grant.source):
        return None
    last = terms.allowed_until(client, service, now=now)
    if last is None:
        return None
    left = math.inf if grant.expires_at is None else grant.expires_at
    end = terms.earlier(left, last)
    return grant if end == grant.expires_at else replace(grant, expires_at=end)
