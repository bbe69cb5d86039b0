"""Compares whom the kernel lets in with the live grants, and mends what differs: nobody tells of changes to sets.

By numbers each second, which costs the same for one grant and for a hundred thousand; in full only where numbers
differ. Knows neither the store nor its lock: whoever asks for a full comparison holds that.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping

from gatekeeper.allowlist import Allowlist
from gatekeeper.errors import FirewallError
from gatekeeper.firewall.names import VERSIONS
from gatekeeper.firewall.sets import MAX_TIMEOUT
from gatekeeper.model import Grant, Mended
from gatekeeper.networks import Source
from gatekeeper.protocols import Backend, Member
from gatekeeper.settings import Rules

_SLACK = 2
"""Seconds by which a timeout may differ: the kernel's are whole, and rounded up."""
_RENEW_EVERY, _RENEWED_AT_ONCE = 86_400.0, 256
"""Seconds; and how many members a second."""
_RENEWED = 100_000
"""Seconds, a little more than a day, for which a timeout that is cut to the kernel's longest may have run."""
_TRUSTED = 10.0
"""Seconds for which numbers that differ are not looked into again, when the last full comparison found nothing."""
_LINGERS = 2.5
"""Seconds for which the kernel may still have a member whose grant has ended by time."""
_EXCUSED, _EXCUSED_EACH = 5.0, 0.001
"""Seconds for which numbers may differ because grants are ending, at least, and for each member: a full comparison of
a hundred thousand takes seconds."""

Family = tuple[str, int]
"""A service and an IP version."""


def seconds_left(grants: Iterable[Grant], *, now: float) -> dict[Source, int | None]:
    """Tell until the last of its grants ends how many seconds each source has, rounded up; ``None``: until closed."""
    ends: dict[Source, float] = {}
    for grant in grants:
        end = math.inf if grant.expires_at is None else grant.expires_at
        before = ends.setdefault(grant.source, end)
        if before < end:
            ends[grant.source] = end
    return {source: None if end == math.inf else math.ceil(end - now) for source, end in ends.items()}


class Mender:
    """Mends one backend. One thread at a time."""

    def __init__(self, rules: Rules, backend: Backend, allowlist: Allowlist) -> None:
        self._rules = rules
        self._backend = backend
        self._allowlist = allowlist
        self._ended: deque[tuple[float, Family]] = deque()
        self._since: dict[Family, float] = {}
        """Since when its numbers have differed without a break."""
        self._trusted: dict[Family, tuple[int, int, float]] = {}
        self._last_error: str | None = None
        self._renewed_at: float | None = None
        self._to_renew: list[Member] = []

    def note_ended(self, grants: Iterable[Grant], now: float) -> None:
        """Learn that these have ended by time: the kernel may have them for another second."""
        self._ended.extend((now, (one.service, one.source.version)) for one in grants)

    def suspects(self, *, now: float) -> dict[Family, tuple[int, int]]:
        """Find where the numbers differ: how many members there are, and how many there should be.

        Raises:
            FirewallError: the kernel cannot be asked.
        """
        while self._ended and self._ended[0][0] < now - _LINGERS:
            self._ended.popleft()
        lingering = Counter(family for _, family in self._ended)
        expiry = self._allowlist.next_expiry()
        is_late = expiry is not None and expiry <= now  # what has expired here, and gone there, ends at any moment
        granted = self._allowlist.sizes()
        found: dict[Family, tuple[int, int]] = {}
        for family, there in self._backend.sizes(self._rules.services).items():
            expected = granted.get(family, 0)
            if there == expected:
                self._since.pop(family, None)
            if there == expected or self._is_trusted(family, (there, expected), now):
                continue
            is_by_time = is_late if there < expected else there - expected <= lingering[family]
            # Where grants end all the time, there is always one that lingers; and a stranger could hide behind it.
            since = self._since.setdefault(family, now)
            is_excused = is_by_time and 0 <= now - since < max(_EXCUSED, there * _EXCUSED_EACH)
            if there < 0 or not self._backend.keeps_time or not is_excused:
                found[family] = (there, expected)
        return found

    def _is_trusted(self, family: Family, sizes: tuple[int, int], now: float) -> bool:
        there, expected, at = self._trusted.get(family, (0, 0, -math.inf))
        return (there, expected) == sizes and at <= now < at + _TRUSTED

    def mend(self, suspects: Mapping[Family, tuple[int, int]], *, now: float) -> Mended:
        """Compare in full, put back who is missing, and take out who was not granted."""
        for family in suspects:
            self._since.pop(family, None)
        put: dict[Member, int | None] = {}
        remove: list[Member] = []
        for service in dict.fromkeys(service for service, _ in suspects):
            versions = {version for its, version in suspects if its == service}
            granted = self._granted(service, versions, now)
            there = self._backend.timeouts(service)
            for source, seconds in granted.items():
                if not self._is_right(seconds, there.get(source, 0)):
                    put[service, source] = seconds
            for source, left in there.items():
                if source.version in versions and source not in granted and (left is None or abs(left) > _SLACK):
                    remove.append((service, source))
        if not put and not remove and not self._backend.keeps_time:
            self._backend.replace(self._all_granted(now))
            return Mended(error="rules that are nobody's grant were among those of grants; they are gone")
        if not put and not remove:
            self._trusted |= {family: (*sizes, now) for family, sizes in suspects.items()}
            return Mended()
        refused = self._backend.change(put, remove)
        error = "; ".join(dict.fromkeys(refused.values())) or None
        if error is not None and error == self._last_error:
            return Mended()  # it was said, and is tried again
        self._last_error = error
        done = [tuple(one for one in members if one not in refused) for members in (put, remove)]
        return Mended(put=done[0], removed=done[1], error=error)

    def must_renew(self, *, now: float) -> bool:
        """Whether timeouts are to be given anew: once a day, for a grant may be longer than the kernel's longest."""
        if self._renewed_at is None:
            self._renewed_at = now
        if not 0 <= now - self._renewed_at < _RENEW_EVERY:
            self._renewed_at = now
            self._to_renew = [
                (one.service, one.source)
                for one in self._allowlist
                if one.expires_at is not None and one.expires_at - now > MAX_TIMEOUT - _RENEW_EVERY
            ]
        return bool(self._to_renew) and self._backend.keeps_time

    def renew(self, *, now: float) -> None:
        """Give some long grants their timeouts anew: a hundred thousand at once would keep knocks waiting."""
        some, self._to_renew = self._to_renew[:_RENEWED_AT_ONCE], self._to_renew[_RENEWED_AT_ONCE:]
        found = {member: self._allowlist.matching(*member, now=now) for member in some}
        put = {member: seconds_left(its, now=now)[member[1]] for member, its in found.items() if its}
        if put:
            self._backend.change(put, [])

    def _granted(self, service: str, versions: Collection[int], now: float) -> dict[Source, int | None]:
        its = (
            grant
            for grant in self._allowlist
            if grant.service == service and grant.source.version in versions and grant.is_live(now)
        )
        return seconds_left(its, now=now)

    def _all_granted(self, now: float) -> dict[str, dict[Source, int | None]]:
        return {service: self._granted(service, VERSIONS, now) for service in self._rules.services}

    def _is_right(self, seconds: int | None, left: int | None) -> bool:
        """Whether what the kernel says of a grant that has so many seconds left is right (0: nothing is there)."""
        if not self._backend.keeps_time:
            return left is None
        if seconds is None or left is None:
            return seconds is left
        if seconds > MAX_TIMEOUT:
            return left > MAX_TIMEOUT - _RENEWED
        return abs(seconds - left) <= _SLACK

    def mend_networks(self) -> Mended:
        """Make the sets of ``always`` and ``never`` what the rules say, if their numbers are wrong."""
        try:
            return Mended(networks=tuple(self._backend.mend_networks(self._rules)))
        except FirewallError as error:
            return Mended(error=error.message)
