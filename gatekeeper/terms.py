"""What a client's knock gets: for which source, which services, and until when. Pure.

The gate asks when a knock comes; entitled.py asks again when grants are restored under rules that may have changed.
"""

from __future__ import annotations

import math
from ipaddress import ip_network

from gatekeeper.networks import Address, Source, covers, lies_in
from gatekeeper.schedule import open_until
from gatekeeper.settings import Client, Rules, Service


def source_around(client: Client, address: Address) -> Source:
    """Return the network around a client's address that its knocks are for.

    As wide as its ``prefix``, but never wider than the network of its ``from`` that the address lies in.
    """
    length = client.prefixes[0] if address.version == 4 else client.prefixes[1]
    widest = ip_network((address, length), strict=False)
    around = [one for one in client.sources if covers([one], address)]
    allowed = [widest if lies_in(widest, one) else one for one in around]
    return min(allowed, key=lambda one: one.prefixlen, default=widest)


def can_have(client: Client, source: Source) -> bool:
    """Whether a knock of the client's could have, under these rules, the very grant that it has."""
    if client.for_others and source.num_addresses == 1:
        return True
    came_from_there = not client.sources or covers(client.sources, source.network_address)
    return came_from_there and source == source_around(client, source.network_address)


def open_for(rules: Rules, client: Client, names: tuple[str, ...], *, now: float) -> dict[str, float]:
    """Tell which of these services a client may open at ``now``, and until when: Unix seconds, or infinity."""
    ends = {name: allowed_until(client, rules.services[name], now=now) for name in names}
    return {name: end for name, end in ends.items() if end is not None}


def allowed_until(client: Client, service: Service, *, now: float) -> float | None:
    """Tell until when a client's grants for a service may last: Unix seconds, or infinity. ``None``: not now."""
    last = math.inf if client.not_after is None else client.not_after
    ends = [last, open_until(client.hours, now), open_until(service.hours, now)]
    known = [end for end in ends if end is not None]
    return min(known) if len(known) == len(ends) and min(known) > now else None


def seconds(service: Service, client: Client, asked: int | None) -> int | None:
    """Tell for how long a knock opens: what it asks for (0: no wish), if that is not more than the rules allow."""
    own = service.ttl if client.ttl == 0 else client.ttl
    longest = own if service.max_ttl is None else service.max_ttl
    wanted = own if asked == 0 else asked
    if wanted is None or longest is None:
        return longest if wanted is None else wanted
    return min(wanted, longest)


def deadline(ttl: int | None, last: float, *, now: float) -> float | None:
    """Tell when a grant of ``ttl`` seconds ends, if it ends at ``last`` at the latest; ``None``: until closed."""
    return earlier(math.inf if ttl is None else now + ttl, last)


def earlier(one: float, other: float) -> float | None:
    """Return the earlier of two ends, as a grant has it: ``None`` where both are infinite."""
    end = min(one, other)
    return None if end == math.inf else end
